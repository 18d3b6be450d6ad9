"""Tiles of numbers for compiled loops: some rows of a matrix, 16 columns wide, held as a value (in registers).

A recurrence M <- keep M + k e^T treats the columns of M apart, so 16 of them may stay in registers while time goes on.
How many rows a tile has is known to the compiler: it is the length of the tuple ``size`` (of any integers) that the
caller passes. Where a processor has too few registers LLVM keeps the rest in memory. All sums are taken in one fixed
order. Usable inside ``compiled`` functions only, with the vectors of ``lanes``.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from nl_agents.memory.lanes import LANES, Lanes, builtin, cgutils, pointer, vector

FLAGS = ("contract", "nsz")  # sums in the order that is written
SQUARE = (0,) * LANES
"""The ``size`` of a tile of 16 rows."""
HALF = (0,) * (LANES // 2)
"""The ``size`` of a tile of 8 rows."""


def whole_rows(count: int) -> tuple[int, ...]:
    """The ``size`` of a tile with ``count`` rows and as few more as make a multiple of 8."""
    return (0,) * (-(-count // len(HALF)) * len(HALF))


class Tile(types.Type):
    """The type of ``count`` vectors of one dtype."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Tile({dtype}, {count})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Tile) -> None:
        super().__init__(manager, kind, ir.ArrayType(vector(kind.dtype), kind.count))  # type: ignore[no-untyped-call]


def _row(context: Any, builder: Any, kind: Any, array: Any, index_type: Any, index: Any, row: int) -> Any:
    """Address of a tile's row inside an array; the last two numbers of the index are its first row and column."""
    places = cgutils.unpack_tuple(builder, index, len(index_type))
    places[-2] = builder.add(places[-2], ir.Constant(places[-2].type, row))
    return pointer(context, builder, kind, array, places)


def _spread(builder: Any, number: Any, dtype: Any) -> Any:
    """A vector whose 16 numbers are all ``number``."""
    empty = ir.Constant(vector(dtype), ir.Undefined)
    one = builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _number(
    context: Any, builder: Any, kind: Any, array: Any, index_type: Any, index: Any, step: int, axis: int = -1
) -> Any:
    """The number ``step`` places behind array[index] along an axis, in all 16 lanes."""
    places = cgutils.unpack_tuple(builder, index, len(index_type))
    places[axis] = builder.add(places[axis], ir.Constant(places[axis].type, step))
    view = context.make_array(kind)(context, builder, array)
    shape = cgutils.unpack_tuple(builder, view.shape, kind.ndim)
    strides = cgutils.unpack_tuple(builder, view.strides, kind.ndim)
    place = cgutils.get_item_pointer2(context, builder, view.data, shape, strides, kind.layout, places)
    return _spread(builder, builder.load(place), kind.dtype)


def _times(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """A * b + c of vectors."""
    return builder.fadd(builder.fmul(a, b, flags=FLAGS), c, flags=FLAGS)


def _sum_of_products(builder: Any, pairs: list[tuple[Any, Any]]) -> Any:
    """Four short chains of sums side by side, then their sum."""
    chains: list[Any] = []
    for index, (a, b) in enumerate(pairs):
        if index < 4:
            chains.append(builder.fmul(a, b, flags=FLAGS))
        else:
            chains[index % 4] = _times(builder, a, b, chains[index % 4])
    while len(chains) > 1:
        halves = [builder.fadd(*pair, flags=FLAGS) for pair in zip(chains[::2], chains[1::2], strict=False)]
        chains = halves + (chains[-1:] if len(chains) % 2 else [])
    return chains[0]


@builtin
def tile(typing: Any, array: Any, index: Any, size: Any) -> Any:
    """``tile(array, (..., j, r), size)``: rows j, j + 1, ..., columns r to r + 15, which must exist."""
    kind = Tile(array.dtype, len(size))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = ir.Constant(context.get_value_type(kind), ir.Undefined)
        for row in range(kind.count):
            place = _row(context, builder, array, arguments[0], index, arguments[1], row)
            value = builder.insert_value(value, builder.load(place, align=array.dtype.bitwidth // 8), row)
        return value

    return kind(array, index, size), generate


@builtin
def no_tile(typing: Any, number: Any, size: Any) -> Any:
    """A tile whose numbers are all ``number``."""
    kind = Tile(number, len(size))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, row = ir.Constant(context.get_value_type(kind), ir.Undefined), _spread(builder, arguments[0], number)
        for index in range(kind.count):
            value = builder.insert_value(value, row, index)
        return value

    return kind(number, size), generate


@builtin
def put(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """``put(array, (..., j, r), tile)``: writes the tile to rows j, j + 1, ... and columns r to r + 15."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for row in range(value.count):
            place = _row(context, builder, array, arguments[0], index, arguments[1], row)
            builder.store(builder.extract_value(arguments[2], row), place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, value), generate


@builtin
def along(typing: Any, numbers: Any, index: Any, value: Any) -> Any:
    """``along(numbers, (..., j), tile)``: the vector sum_i numbers[..., j + i] * tile row i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pairs = [
            (
                _number(context, builder, numbers, arguments[0], index, arguments[1], row),
                builder.extract_value(arguments[2], row),
            )
            for row in range(value.count)
        ]
        return _sum_of_products(builder, pairs)

    return Lanes(value.dtype)(numbers, index, value), generate


@builtin
def pushed(typing: Any, value: Any, numbers: Any, index: Any, lanes: Any) -> Any:
    """``pushed(tile, numbers, (..., j), v)``: the tile with numbers[..., j + i] * v added to row i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = arguments[0]
        for row in range(value.count):
            number = _number(context, builder, numbers, arguments[1], index, arguments[2], row)
            moved = _times(builder, number, arguments[3], builder.extract_value(arguments[0], row))
            result = builder.insert_value(result, moved, row)
        return result

    return value(value, numbers, index, lanes), generate


@builtin
def weighed(typing: Any, value: Any, numbers: Any, index: Any, lanes: Any) -> Any:
    """``weighed(tile, numbers, (..., i, j), v)``: the tile with numbers[..., i + r, j] * v added to row r."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = arguments[0]
        for row in range(value.count):
            number = _number(context, builder, numbers, arguments[1], index, arguments[2], row, axis=-2)
            moved = _times(builder, number, arguments[3], builder.extract_value(arguments[0], row))
            result = builder.insert_value(result, moved, row)
        return result

    return value(value, numbers, index, lanes), generate


@builtin
def scaled(typing: Any, value: Any, lanes: Any) -> Any:
    """The tile with every row multiplied by a vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = arguments[0]
        for row in range(value.count):
            product = builder.fmul(builder.extract_value(arguments[0], row), arguments[1], flags=FLAGS)
            result = builder.insert_value(result, product, row)
        return result

    return value(value, lanes), generate


@builtin
def gathered(typing: Any, value: Any, other: Any, lanes: Any) -> Any:
    """``gathered(tile, other, v)``: the tile with other row i * v added to row i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = arguments[0]
        for row in range(value.count):
            mine, theirs = (builder.extract_value(argument, row) for argument in arguments[:2])
            result = builder.insert_value(result, _times(builder, theirs, arguments[2], mine), row)
        return result

    return value(value, other, lanes), generate


@builtin
def together(typing: Any, value: Any, other: Any) -> Any:
    """The vector sum_i tile row i * other row i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = range(value.count)
        pairs = [tuple(builder.extract_value(argument, row) for argument in arguments) for row in rows]
        return _sum_of_products(builder, pairs)

    return Lanes(value.dtype)(value, other), generate


@builtin
def put_totals(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """``put_totals(array, (..., j), tile)``: writes the sum of row i to array[..., j + i]; zeros fill up the vectors.

    Two vectors' sums are taken in one: half of the numbers are added to the other half until 16 vectors are one.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = vector(value.dtype)
        for start in range(0, value.count, LANES):
            stop = min(start + LANES, value.count)
            rows = [builder.extract_value(arguments[2], row) for row in range(start, stop)]
            rows += [ir.Constant(kind, None)] * (LANES - len(rows))
            span = LANES  # numbers that still belong to one row
            while span > 1:
                rows = [_halved(builder, a, b, span) for a, b in zip(rows[::2], rows[1::2], strict=True)]
                span //= 2
            places = cgutils.unpack_tuple(builder, arguments[1], len(index))
            places[-1] = builder.add(places[-1], ir.Constant(places[-1].type, start))
            place = pointer(context, builder, array, arguments[0], places)
            builder.store(rows[0], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, value), generate


def _halved(builder: Any, a: Any, b: Any, span: int) -> Any:
    """Adds the halves of each stretch of ``span`` numbers; a's halved stretches come first, then b's."""
    half = span // 2
    starts = [place for place in range(0, 2 * LANES, span)]
    low = [start + i for start in starts for i in range(half)]
    index = ir.VectorType(ir.IntType(32), LANES)
    first = builder.shuffle_vector(a, b, ir.Constant(index, low))
    second = builder.shuffle_vector(a, b, ir.Constant(index, [place + half for place in low]))
    return builder.fadd(first, second, flags=FLAGS)
