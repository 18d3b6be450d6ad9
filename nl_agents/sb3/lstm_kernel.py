"""An LSTM layer on CPU in compiled loops: units side by side in vectors, some streams at a time, one pass each way.

Blocks are time first, as torch has them. Sixteen units' four gates of some streams are a tile that stays in registers
while it is summed; then it is bent. The weights are laid out in the order in which they are read (``pack``). So four
streams keep a core as busy as forty, a stream's numbers depend on no other's, and who wants two cores gives each some
of the streams. Loaded where numba works; ``lstm_scan`` says what is computed.
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
from nl_agents.memory.tiles import no_tile, put, weighed

Array = NDArray[Any]
GATES = 4
"""In torch's order: i, f, g, o."""
PAIR = 2 * LANES
"""Widths are rounded up to multiples of this; the units behind the last are zero and stay so."""


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
def pack(enter: Array, weight: Array, bias: Array, joined: Array, turned: Array) -> None:
    """Lays W [4 H, D], U [4 H, H] and the bias ([4 H] or of length 0) out as the loops read them.

    Args:
        enter: W, gates one below the other, as
        weight: U, and
        bias: the sum of both biases.
        joined: [P / 16, D + 1 + P, 4 * 16], written: what 16 units' gates are made of, input by input; P >= H.
        turned: [P / 32, 4 P, 32], written: U, 32 units at a time.
    """
    (size, width), padded = (enter.shape[1], weight.shape[1]), PAIR * len(turned)
    if padded != width:
        joined[:] = joined.dtype.type(0.0)
        turned[:] = turned.dtype.type(0.0)
    for gate in range(GATES):
        for unit in range(width):
            row, block, place = gate * width + unit, unit // LANES, gate * LANES + unit % LANES
            for d in range(size):
                joined[block, d, place] = enter[row, d]
            joined[block, size, place] = bias[row] if len(bias) else joined.dtype.type(0.0)
            for d in range(width):
                joined[block, size + 1 + d, place] = weight[row, d]
                turned[d // PAIR, gate * padded + unit, d % PAIR] = weight[row, d]


@compiled
def forward(
    first: Array,
    weights: Array,
    joined: Array,
    cells: Array,
    bent: Array,
    gates: Array,
    out: Array,
    hidden: Array,
    cell: Array,
    start: int,
    stop: int,
    size: Any,
) -> None:
    """Runs T steps of the streams from ``start`` to ``stop``, P units wide.

    Args:
        first: [T, B] bool, where an episode begins.
        weights: [P / 16, D + 1 + P, 4 * 16] as ``pack`` leaves them.
        joined: [T, B, D + 1 + P] x, 1 and h before each step; x and 1 are given, h is written.
        cells: [T, B, P], written: c before each step.
        bent: [T, B, P], written: tanh of the cells.
        gates: [T, B, 4 P], written: bent gates.
        out: [T, B, P], written: h.
        hidden: [B, P] before the first step; after the last one on return, as
        cell: [B, P].
        start: first stream.
        stop: behind the last one.
        size: of a tile, as long as streams are taken at a time: at most ``stop - start``.
    """
    (steps, _, many), width, dtype = joined.shape, hidden.shape[1], out.dtype
    zero, one, own = dtype.type(0.0), splat(dtype.type(1.0)), many - width
    for t in range(steps):
        for b in range(start, stop):
            blank = first[t, b]
            for u in range(0, width, LANES):
                store(joined, (t, b, own + u), splat(zero) if blank else load(hidden, (b, u)))
                store(cells, (t, b, u), splat(zero) if blank else load(cell, (b, u)))
        for u in range(0, width, LANES):
            block = u // LANES
            for nominal in range(start, stop, len(size)):
                s = min(nominal, stop - len(size))  # the last tile may lie over the one before it
                i, f, g, o = no_tile(zero, size), no_tile(zero, size), no_tile(zero, size), no_tile(zero, size)
                for d in range(many):
                    i = weighed(i, joined, (t, s, d), load(weights, (block, d, 0)))
                    f = weighed(f, joined, (t, s, d), load(weights, (block, d, LANES)))
                    g = weighed(g, joined, (t, s, d), load(weights, (block, d, 2 * LANES)))
                    o = weighed(o, joined, (t, s, d), load(weights, (block, d, 3 * LANES)))
                put(gates, (t, s, u), i)
                put(gates, (t, s, width + u), f)
                put(gates, (t, s, 2 * width + u), g)
                put(gates, (t, s, 3 * width + u), o)
                for b in range(s, s + len(size)):
                    enters, keeps = _bend(load(gates, (t, b, u)), one), _bend(load(gates, (t, b, width + u)), one)
                    fresh = _bend_both_ways(load(gates, (t, b, 2 * width + u)), one)
                    leaves = _bend(load(gates, (t, b, 3 * width + u)), one)
                    new = fma(enters, fresh, mul(keeps, load(cells, (t, b, u))))
                    turned = _bend_both_ways(new, one)
                    store(gates, (t, b, u), enters)
                    store(gates, (t, b, width + u), keeps)
                    store(gates, (t, b, 2 * width + u), fresh)
                    store(gates, (t, b, 3 * width + u), leaves)
                    store(cell, (b, u), new)
                    store(bent, (t, b, u), turned)
                    store(out, (t, b, u), mul(leaves, turned))
        hidden[start:stop] = out[t, start:stop]


@compiled
def backward(
    grad: Array,
    first: Array,
    weights: Array,
    cells: Array,
    bent: Array,
    gates: Array,
    to_hidden: Array,
    to_cell: Array,
    sums: Array,
    start: int,
    stop: int,
    size: Any,
) -> None:
    """The adjoint of ``forward`` for the streams from ``start`` to ``stop``.

    Args:
        grad: [T, B, P] of the loss with respect to h.
        first: [T, B] bool.
        weights: [P / 32, 4 P, 32] as ``pack`` leaves U.
        cells: [T, B, P] as ``forward`` left them, as
        bent: [T, B, P], and
        gates: [T, B, 4 P].
        to_hidden: [B, P] gradient of the last h; on return that of the first, as
        to_cell: [B, P].
        sums: [T, B, 4 P], written: gradients of what enters the gates.
        start: first stream.
        stop: behind the last one.
        size: as for ``forward``.
    """
    (steps, _, width), dtype = grad.shape, grad.dtype
    zero, one = dtype.type(0.0), splat(dtype.type(1.0))
    for t in range(steps - 1, -1, -1):
        for b in range(start, stop):
            for u in range(0, width, LANES):
                i, f = load(gates, (t, b, u)), load(gates, (t, b, width + u))
                g, o = load(gates, (t, b, 2 * width + u)), load(gates, (t, b, 3 * width + u))
                tanh = load(bent, (t, b, u))
                to_h = add(load(to_hidden, (b, u)), load(grad, (t, b, u)))
                passed = mul(to_h, o)
                to_c = fma(passed, sub(one, mul(tanh, tanh)), load(to_cell, (b, u)))
                store(sums, (t, b, u), mul(mul(to_c, g), mul(i, sub(one, i))))
                store(sums, (t, b, width + u), mul(mul(to_c, load(cells, (t, b, u))), mul(f, sub(one, f))))
                store(sums, (t, b, 2 * width + u), mul(mul(to_c, i), sub(one, mul(g, g))))
                store(sums, (t, b, 3 * width + u), mul(mul(passed, tanh), sub(one, o)))
                store(to_cell, (b, u), mul(to_c, f))
        for u in range(0, width, PAIR):
            block = u // PAIR
            for nominal in range(start, stop, len(size)):
                s = min(nominal, stop - len(size))
                low, high = no_tile(zero, size), no_tile(zero, size)
                for n in range(GATES * width):
                    low = weighed(low, sums, (t, s, n), load(weights, (block, n, 0)))
                    high = weighed(high, sums, (t, s, n), load(weights, (block, n, LANES)))
                put(to_hidden, (s, u), low)
                put(to_hidden, (s, u + LANES), high)
        for b in range(start, stop):
            if first[t, b]:
                to_hidden[b] = zero
                to_cell[b] = zero


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
