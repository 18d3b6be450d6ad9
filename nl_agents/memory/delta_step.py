"""The self-modifying memory on CPU for who acts: one step of all streams, matrices changed where they lie.

The equations are those of ``delta_scan``. ``delta_kernel`` does the same for whole sequences: it copies a stream's
matrices once and keeps them close by, here there is no time to win that back. A row of R >= 16 numbers is cut into
whole vectors; the last one overlaps the one before it, is read before that is written, and comes to the same numbers.
"""

from __future__ import annotations

import numpy as np

from nl_agents.memory.delta_kernel import Array, Rows
from nl_agents.memory.lanes import (
    LANES,
    add,
    compiled,
    div,
    exponential,
    fma,
    load,
    mul,
    padded,
    root,
    splat,
    store,
    sub,
    unit,
)  # fmt: skip
from nl_agents.memory.streams import in_rows, to_units
from nl_agents.memory.tiles import along, gathered, pushed, put, scaled, tile


@compiled
def _ask(size: Rows, base: Array, anchor: Array, asked: Array, b: int, place: int, stop: int, out: Array) -> None:
    """Writes out[b] = asked[b, place : place + K] (base + anchor), at least the columns before ``stop``."""
    last, one = base.shape[1] - LANES, splat(base.dtype.type(1.0))
    for r in range(0, stop, LANES):
        column = min(r, last)
        matrix = gathered(tile(base, (0, column), size), tile(anchor, (0, column), size), one)
        store(out, (b, column), along(asked, (b, place), matrix))


@compiled
def _gates(p: Array, place: int, bias: Array, h: int, rate: float, out: Array) -> None:
    """Fills out [2, S] with step size and retention of all streams, from p[:, place] and p[:, place + 1]."""
    zero, one = splat(out.dtype.type(0.0)), splat(out.dtype.type(1.0))
    for b in range(len(p)):
        out[0, b], out[1, b] = p[b, place] + bias[h, 0], p[b, place + 1] + bias[h, 1]
    for s in range(0, out.shape[1], LANES):
        for i in range(2):
            store(out, (i, s), div(one, add(one, exponential(sub(zero, load(out, (i, s)))))))
        store(out, (1, s), exponential(mul(splat(out.dtype.type(-rate)), load(out, (1, s)))))


@compiled
def _write(size: Rows, base: Array, own: Array, k: Array, aim: Array, b: int, step: float, keep: float) -> None:
    """Own <- keep own + step k (bound(aim) - k (base + own))^T, the row aim[b] being what the value's answer is."""
    last, one = base.shape[1] - LANES, splat(base.dtype.type(1.0))
    size_of_step, fade, end = splat(step), splat(keep), tile(own, (0, last), size)
    for r in range(0, base.shape[1], LANES):
        column = min(r, last)
        memory = end if r >= last else tile(own, (0, column), size)
        raw = load(aim, (b, column))
        expected = add(along(k, (b, 0), tile(base, (0, column), size)), along(k, (b, 0), memory))
        wrong = sub(mul(raw, div(one, root(fma(raw, raw, one)))), expected)
        put(own, (0, column), pushed(scaled(memory, fade), k, (b, 0), mul(size_of_step, wrong)))


@compiled
def run_step(
    size: Rows,
    block: Array,
    base: Array,
    bias: Array,
    rate: Array,
    clears: Array,
    delta: Array,
    anchor: Array,
    first: Array,
    valid: Array,
    closes: bool,
    out: Array,
) -> None:
    """One step, reading before writing.

    Args:
        size: as many numbers as keys have features, K (their values do not matter).
        block: [>= 2 H K, S] inputs, then queries, before normalisation; both are made units.
        base: [H, K, R] meta-learned matrices.
        bias: [H, 2] of the step and retention gates.
        rate: [H] 2 / tau.
        clears: [H] bool, cleared at episodes.
        delta: [B, H, K, R] running deviation, changed.
        anchor: [B, H, K, R] deviation at the chunk's start, changed.
        first: [B] bool.
        valid: [B] bool.
        closes: whether a chunk ends with this step.
        out: [H K, S] read-out, written.
    """
    (batch, heads, width, rows), dtype, two = delta.shape, base.dtype, 2 * len(size) + 2
    wide, last = padded(batch), rows - LANES
    c, q, k = np.empty((batch, width), dtype), np.empty((batch, width), dtype), np.empty((batch, width), dtype)
    p, aim = np.empty((batch, rows), dtype), np.empty((batch, rows), dtype)
    gates, read = np.zeros((2, wide), dtype), np.empty((batch, rows), dtype)
    to_units(block, 0, 2 * heads, width)
    for h in range(heads):
        in_rows(block, h * width, c)
        in_rows(block, (heads + h) * width, q)
        for b in range(batch):
            if clears[h] and first[b] and valid[b]:
                delta[b, h], anchor[b, h] = 0.0, 0.0
            _ask(size, base[h], anchor[b, h], c, b, 0, two, p)
            unit(p, b, 0, width, k, b)
            _ask(size, base[h], anchor[b, h], p, b, width, rows, aim)
        _gates(p, 2 * width, bias, h, rate[h], gates)
        for b in range(batch):
            own = delta[b, h]
            for r in range(two // LANES * LANES, rows, LANES):
                column = min(r, last)
                static, memory = tile(base[h], (0, column), size), tile(own, (0, column), size)
                store(read, (b, column), add(along(q, (b, 0), static), along(q, (b, 0), memory)))
            for j in range(width):
                out[h * width + j, b] = read[b, two + j]
            if valid[b]:
                _write(size, base[h], own, k, aim, b, gates[0, b], gates[1, b])
            if closes:
                anchor[b, h] = own
