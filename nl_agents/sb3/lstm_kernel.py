"""An LSTM layer on CPU in compiled loops: streams side by side in vectors, one pass over time each way.

Blocks are [features, T * S]: a step's S streams (rounded up to whole vectors of 16) lie side by side, steps follow each
other. So a step reads and writes whole vectors, its gates are bent while they are in registers, and products over all
steps at once are ordinary products of matrices. Loaded where numba works; ``lstm_scan`` says what is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nl_agents.memory.lanes import (
    LANES,
    add,
    compiled,
    div,
    exponential,
    fma,
    load,
    mul,
    splat,
    store,
    sub,
)  # fmt: skip
from nl_agents.memory.streams import in_rows, linear, side_by_side
from nl_agents.memory.tiles import no_tile, pushed, put, weighed

Array = NDArray[Any]
UNITS = (0,) * 4
"""The ``size`` of a tile of 4 units; four of these are the gates of 4 units."""
FEWEST = len(UNITS)
"""Widths are multiples of this."""


@compiled
def _bend(x: Any, one: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return div(one, add(one, exponential(sub(sub(one, one), x))))


@compiled
def _bend_both_ways(x: Any, one: Any) -> Any:
    """Tanh, as 1 - 2 / (1 + exp(2 x))."""
    two = add(one, one)
    return sub(one, div(two, add(one, exponential(mul(two, x)))))


@compiled
def forward(
    x: Array,
    first: Array,
    enter: Array,
    weight: Array,
    bias: Array,
    hidden: Array,
    cell: Array,
    gates: Array,
    bent: Array,
    before: tuple[Array, Array],
    out: Array,
) -> None:
    """Runs T steps of B streams.

    Args:
        x: [D, T * S].
        first: [T, B] bool, where an episode begins.
        enter: [4 H, D] W, gates i, f, g, o one below the other.
        weight: [4 H, H] U.
        bias: [4 H] both biases' sum, or of length 0.
        hidden: [H, S] before the first step; changed in place, as
        cell: [H, S].
        gates: [4 H, T * S], written: bent gates.
        bent: [H, T * S], written: tanh of the cells.
        before: h and c that each step starts from, each [H, T * S], written.
        out: [H, T * S], written: h.
    """
    (steps, batch), (width, wide), inputs, dtype = first.shape, hidden.shape, len(x), x.dtype
    zero, one = dtype.type(0.0), splat(dtype.type(1.0))
    for t in range(steps):
        for b in range(batch):
            if first[t, b]:
                for n in range(width):
                    hidden[n, b] = zero
                    cell[n, b] = zero
        for s in range(0, wide, LANES):
            at = t * wide + s
            for n in range(0, width, len(UNITS)):
                i, f, g, o = no_tile(zero, UNITS), no_tile(zero, UNITS), no_tile(zero, UNITS), no_tile(zero, UNITS)
                if len(bias):
                    i, f = pushed(i, bias, (n,), one), pushed(f, bias, (width + n,), one)
                    g, o = pushed(g, bias, (2 * width + n,), one), pushed(o, bias, (3 * width + n,), one)
                for d in range(inputs):
                    told = load(x, (d, at))
                    i, f = weighed(i, enter, (n, d), told), weighed(f, enter, (width + n, d), told)
                    g, o = weighed(g, enter, (2 * width + n, d), told), weighed(o, enter, (3 * width + n, d), told)
                for d in range(width):
                    told = load(hidden, (d, s))
                    i, f = weighed(i, weight, (n, d), told), weighed(f, weight, (width + n, d), told)
                    g, o = weighed(g, weight, (2 * width + n, d), told), weighed(o, weight, (3 * width + n, d), told)
                put(gates, (n, at), i)
                put(gates, (width + n, at), f)
                put(gates, (2 * width + n, at), g)
                put(gates, (3 * width + n, at), o)
                for u in range(n, n + len(UNITS)):
                    enters, keeps = _bend(load(gates, (u, at)), one), _bend(load(gates, (width + u, at)), one)
                    fresh = _bend_both_ways(load(gates, (2 * width + u, at)), one)
                    leaves = _bend(load(gates, (3 * width + u, at)), one)
                    old = load(cell, (u, s))
                    new = fma(enters, fresh, mul(keeps, old))
                    turned = _bend_both_ways(new, one)
                    store(gates, (u, at), enters)
                    store(gates, (width + u, at), keeps)
                    store(gates, (2 * width + u, at), fresh)
                    store(gates, (3 * width + u, at), leaves)
                    store(before[1], (u, at), old)
                    store(cell, (u, s), new)
                    store(bent, (u, at), turned)
                    store(out, (u, at), mul(leaves, turned))
            for u in range(width):
                store(before[0], (u, at), load(hidden, (u, s)))
                store(hidden, (u, s), load(out, (u, at)))


@compiled
def backward(
    grad: Array,
    first: Array,
    turned: Array,
    gates: Array,
    bent: Array,
    cells: Array,
    to_hidden: Array,
    to_cell: Array,
    sums: Array,
) -> None:
    """The adjoint of ``forward``.

    Args:
        grad: [H, T * S] of the loss with respect to h.
        first: [T, B] bool.
        turned: [H, 4 H] U, transposed.
        gates: [4 H, T * S] as ``forward`` left them, as
        bent: [H, T * S], and
        cells: [H, T * S] before each step.
        to_hidden: [H, S] gradient of the last h; on return that of the first, as
        to_cell: [H, S].
        sums: [4 H, T * S], written: gradients of what enters the gates.
    """
    (steps, batch), (width, wide), dtype = first.shape, to_hidden.shape, grad.dtype
    one, none = splat(dtype.type(1.0)), grad[0, :0]
    block = np.empty((4 * width, wide), dtype)
    for t in range(steps - 1, -1, -1):
        for s in range(0, wide, LANES):
            at = t * wide + s
            for u in range(width):
                i, f = load(gates, (u, at)), load(gates, (width + u, at))
                g, o = load(gates, (2 * width + u, at)), load(gates, (3 * width + u, at))
                tanh = load(bent, (u, at))
                to_h = add(load(to_hidden, (u, s)), load(grad, (u, at)))
                passed = mul(to_h, o)
                to_c = fma(passed, sub(one, mul(tanh, tanh)), load(to_cell, (u, s)))
                of_i = mul(mul(to_c, g), mul(i, sub(one, i)))
                of_f = mul(mul(to_c, load(cells, (u, at))), mul(f, sub(one, f)))
                of_g = mul(mul(to_c, i), sub(one, mul(g, g)))
                of_o = mul(mul(passed, tanh), sub(one, o))
                store(to_cell, (u, s), mul(to_c, f))
                store(block, (u, s), of_i)
                store(block, (width + u, s), of_f)
                store(block, (2 * width + u, s), of_g)
                store(block, (3 * width + u, s), of_o)
                store(sums, (u, at), of_i)
                store(sums, (width + u, at), of_f)
                store(sums, (2 * width + u, at), of_g)
                store(sums, (3 * width + u, at), of_o)
        linear(turned, none, block, 0, to_hidden, False)
        for b in range(batch):
            if first[t, b]:
                for n in range(width):
                    to_hidden[n, b] = dtype.type(0.0)
                    to_cell[n, b] = dtype.type(0.0)


@compiled
def step(
    x: Array, first: Array, enter: Array, weight: Array, biases: tuple[Array, Array], hidden: Array, cell: Array
) -> None:
    """One step of who acts: x [B, D] and first [B] as told, the state [B, H] changed in place.

    ``biases`` are those of W and U, [4 H] each or of length 0.
    """
    (batch, width), dtype = hidden.shape, hidden.dtype
    for b in range(batch):
        if first[b]:
            hidden[b] = dtype.type(0.0)
            cell[b] = dtype.type(0.0)
    told, before, stored = side_by_side(x), side_by_side(hidden), side_by_side(cell)
    gates, one = np.empty((4 * width, told.shape[1]), dtype), splat(dtype.type(1.0))
    linear(enter, biases[0], told, 0, gates, False)
    linear(weight, biases[1], before, 0, gates, True)
    for u in range(width):
        for s in range(0, told.shape[1], LANES):
            enters, keeps = _bend(load(gates, (u, s)), one), _bend(load(gates, (width + u, s)), one)
            fresh = _bend_both_ways(load(gates, (2 * width + u, s)), one)
            new = fma(enters, fresh, mul(keeps, load(stored, (u, s))))
            store(stored, (u, s), new)
            store(before, (u, s), mul(_bend(load(gates, (3 * width + u, s)), one), _bend_both_ways(new, one)))
    in_rows(before, 0, hidden)
    in_rows(stored, 0, cell)
