"""Vectors of 16 numbers for compiled loops: what a loop keeps in registers is said, not left to the compiler's guess.

A compiler may not keep a matrix's sums in registers or take its rows in whole vectors where two arrays could overlap,
and it cannot know that ours do not. ``tiles`` puts rows of them together.
Usable inside ``compiled`` functions only; float32 and float64. On machines with shorter vectors LLVM splits them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic, models, register_model

Result = TypeVar("Result")
FAST = {"contract", "reassoc", "nsz", "arcp"}  # not "nnan": a NaN must stay one
LANES = 16


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compiles a function at its first call; what was compiled is kept beside this file or in the user's cache folder.

    Where neither can be written, every process compiles for itself.
    """

    def compiles(keep: bool) -> Callable[..., Result]:
        return cast(Callable[..., Result], njit(cache=keep, nogil=True, fastmath=FAST, error_model="numpy")(function))

    try:
        return compiles(True)
    except RuntimeError:  # numba found no folder to write to
        return compiles(False)


cgutils: Any = untyped_cgutils  # numba's own annotations stop there
builtin: Callable[[Callable[..., Any]], Callable[..., Any]] = cast(Any, intrinsic)


class Lanes(types.Type):
    """The type of a vector of ``LANES`` numbers of one dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, vector(kind.dtype))  # type: ignore[no-untyped-call]


def vector(dtype: Any) -> ir.VectorType:
    """LLVM's type of 16 numbers of a dtype."""
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), LANES)


def pointer(context: Any, builder: Any, kind: Any, array: Any, places: list[Any]) -> Any:
    """Address of 16 neighbours along the last axis, which must be contiguous."""
    view = context.make_array(kind)(context, builder, array)
    shape = cgutils.unpack_tuple(builder, view.shape, kind.ndim)
    strides = cgutils.unpack_tuple(builder, view.strides, kind.ndim)
    first = cgutils.get_item_pointer2(context, builder, view.data, shape, strides, kind.layout, places)
    return builder.bitcast(first, vector(kind.dtype).as_pointer())


def _size(dtype: Any) -> int:
    return int(dtype.bitwidth) // 8


@builtin
def load(typing: Any, array: Any, index: Any) -> Any:
    """``load(array, (i, j))``: the 16 numbers from array[i, j] on. The caller sees to it that they exist."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = cgutils.unpack_tuple(builder, arguments[1], len(index))
        place = pointer(context, builder, array, arguments[0], places)
        return builder.load(place, align=_size(array.dtype))

    return Lanes(array.dtype)(array, index), generate


@builtin
def store(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """``store(array, (i, j), v)``: writes v to array[i, j : j + 16]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = cgutils.unpack_tuple(builder, arguments[1], len(index))
        place = pointer(context, builder, array, arguments[0], places)
        builder.store(arguments[2], place, align=_size(array.dtype))
        return context.get_dummy_value()

    return types.void(array, index, lanes), generate


@builtin
def splat(typing: Any, number: Any) -> Any:
    """A vector whose 16 numbers are all ``number``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        empty = ir.Constant(vector(number), ir.Undefined)
        one = builder.insert_element(empty, arguments[0], ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, empty, mask)

    return Lanes(number)(number), generate


@builtin
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """A * b + c, number by number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        product = builder.fmul(arguments[0], arguments[1], flags=tuple(FAST))
        return builder.fadd(product, arguments[2], flags=tuple(FAST))

    return a(a, b, c), generate


@builtin
def add(typing: Any, a: Any, b: Any) -> Any:
    """A + b, number by number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments, flags=tuple(FAST))

    return a(a, b), generate


@builtin
def sub(typing: Any, a: Any, b: Any) -> Any:
    """A - b, number by number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fsub(*arguments, flags=tuple(FAST))

    return a(a, b), generate


@builtin
def mul(typing: Any, a: Any, b: Any) -> Any:
    """A * b, number by number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments, flags=tuple(FAST))

    return a(a, b), generate


@builtin
def div(typing: Any, a: Any, b: Any) -> Any:
    """A / b, number by number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fdiv(*arguments)

    return a(a, b), generate


@builtin
def root(typing: Any, a: Any) -> Any:
    """Square roots."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = vector(a.dtype)
        name = f"llvm.sqrt.v{LANES}f{a.dtype.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name)
        return builder.call(function, arguments)

    return a(a), generate


@builtin
def largest(typing: Any, a: Any, b: Any) -> Any:
    """The larger ones, number by number; b where a is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return a(a, b), generate


@builtin
def exponential(typing: Any, a: Any) -> Any:
    """Exponentials, to about one unit in the last place: 2^n times a Taylor sum on -ln(2)/2 .. ln(2)/2.

    Ln(2) is taken off in two parts, the first of so few digits that n times it is exact. Beyond about what the
    dtype can hold (87, 708) it is 0 or infinite; NaN stays NaN.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, kind = a.dtype.bitwidth, vector(a.dtype)
        digits, bias, terms, edge = (23, 127, 8, 87.0) if bits == 32 else (52, 1023, 14, 708.0)
        whole = ir.VectorType(ir.IntType(bits), LANES)

        def filled(number: float) -> Any:
            return ir.Constant(kind, [number] * LANES)

        def call(name: str, *operands: Any) -> Any:
            head = ir.FunctionType(kind, [kind] * len(operands))
            function = cgutils.get_or_insert_function(builder.module, head, f"llvm.{name}.v{LANES}f{bits}")
            return builder.call(function, operands)

        x = call("maxnum", call("minnum", arguments[0], filled(edge)), filled(-edge))
        n = call("rint", builder.fmul(x, filled(1.0 / math.log(2.0))))
        high, low = (0.693359375, -2.1219444005469059e-4) if bits == 32 else (0.693145751953125, 1.4286068203094173e-6)
        plain = {"flags": ("nsz",)}  # where no flags stand numba adds those that let sums be taken in another order
        rest = builder.fsub(x, builder.fmul(n, filled(high), **plain), **plain)
        rest = builder.fsub(rest, builder.fmul(n, filled(low), **plain), **plain)
        result = filled(1.0 / math.factorial(terms - 1))
        for power in range(terms - 2, -1, -1):
            product = builder.fmul(result, rest, flags=("contract",))
            result = builder.fadd(product, filled(1.0 / math.factorial(power)), flags=("contract",))
        raised = builder.add(builder.fptosi(n, whole), ir.Constant(whole, [bias] * LANES))
        power_of_two = builder.bitcast(builder.shl(raised, ir.Constant(whole, [digits] * LANES)), kind)
        result = builder.fmul(result, power_of_two)
        result = builder.select(builder.fcmp_ordered(">", arguments[0], filled(edge)), filled(math.inf), result)
        result = builder.select(builder.fcmp_ordered("<", arguments[0], filled(-edge)), filled(0.0), result)
        return builder.select(builder.fcmp_unordered("uno", arguments[0], arguments[0]), arguments[0], result)

    return a(a), generate


@builtin
def total(typing: Any, a: Any) -> Any:
    """Sum of the 16 numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = vector(a.dtype)
        name = f"llvm.vector.reduce.fadd.v{LANES}f{a.dtype.bitwidth}"
        head = ir.FunctionType(kind.element, [kind.element, kind])
        function = cgutils.get_or_insert_function(builder.module, head, name)
        return builder.call(function, [ir.Constant(kind.element, -0.0), arguments[0]], fastmath=("reassoc",))

    return a.dtype(a), generate


@compiled
def padded(size: int) -> int:
    """The next multiple of ``LANES``."""
    return (size + LANES - 1) // LANES * LANES


@compiled
def unit(rows: Any, n: int, place: int, count: int, out: Any, s: int) -> float:
    """Writes out[s] = x / |x| for the ``count`` numbers x from rows[n, place] on; returns |x|, at least 1e-6."""
    whole = count // LANES * LANES
    squares = splat(rows.dtype.type(0.0))
    for j in range(0, whole, LANES):
        squares = fma(load(rows, (n, place + j)), load(rows, (n, place + j)), squares)
    square = total(squares)
    for j in range(whole, count):
        square += rows[n, place + j] * rows[n, place + j]
    norm = max(math.sqrt(square), 1e-6)
    scale = out.dtype.type(1.0 / norm)
    for j in range(0, whole, LANES):
        store(out, (s, j), mul(splat(scale), load(rows, (n, place + j))))
    for j in range(whole, count):
        out[s, j] = rows[n, place + j] * scale
    return norm


@compiled
def unit_adjoint(found: Any, s: int, norm: float, grad: Any, i: int, count: int, out: Any, n: int) -> None:
    """Writes out[n] = the gradient with respect to what ``unit`` made found[s], from that of found[s], grad[i]."""
    whole = count // LANES * LANES
    products = splat(found.dtype.type(0.0))
    for j in range(0, whole, LANES):
        products = fma(load(found, (s, j)), load(grad, (i, j)), products)
    along = total(products)
    for j in range(whole, count):
        along += found[s, j] * grad[i, j]
    scale = found.dtype.type(1.0 / norm)
    for j in range(0, whole, LANES):
        straight = sub(load(grad, (i, j)), mul(splat(along), load(found, (s, j))))
        store(out, (n, j), mul(splat(scale), straight))
    for j in range(whole, count):
        out[n, j] = (grad[i, j] - found[s, j] * along) * scale
