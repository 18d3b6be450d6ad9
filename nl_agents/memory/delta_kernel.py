"""The self-modifying memory on CPU: one compiled pass over the steps.

The equations are those of ``delta_scan`` (same memory, same chunks: both forms agree to rounding), with the inputs'
and queries' normalisation and the memory's static part included: the read-out is M_mem q, not only Delta_mem q. On a
CPU the matrices of one head of one stream fit in the first-level cache, so a plain loop over time beats batched
products by a wide margin, for a single act step most of all. Matrices are key-major, [K, R], so that 16 neighbours of
a row R make one vector (``lanes``); while worked on, rows are padded with zeros to whole vectors, and the gates stand
behind the memory, which then has vectors of its own. The adjoint stands in ``delta_adjoint``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
    padded,
    root,
    splat,
    store,
    sub,
    unit,
)
from nl_agents.memory.tiles import along, pushed, put, scaled, tile

Array = NDArray[Any]
Rows = tuple[int, ...]  # as many numbers as matrices have rows, K
Span = tuple[int, int]  # first and behind the last


@compiled
def _copy(source: Array, first: int, out: Array, place: int, rows: int, columns: int) -> None:
    """Copies columns from ``first`` on to those from ``place`` on; a row's last vector overlaps the one before."""
    if columns < LANES:
        for j in range(rows):
            for r in range(columns):
                out[j, place + r] = source[j, first + r]
        return
    last = columns - LANES
    for j in range(rows):
        for r in range(0, last, LANES):
            store(out, (j, place + r), load(source, (j, first + r)))
        store(out, (j, place + last), load(source, (j, first + last)))


@compiled
def fill(source: Array, out: Array) -> None:
    """Copies source [K, R] into the first K rows and R columns of out."""
    _copy(source, 0, out, 0, source.shape[0], source.shape[1])


@compiled
def drain(source: Array, out: Array) -> None:
    """Copies the first K rows and R columns of source into out [K, R]."""
    _copy(source, 0, out, 0, out.shape[0], out.shape[1])


@compiled
def gates_last(source: Array, out: Array) -> None:
    """Copies a state's matrix [K, R = 3K + 2], rows of key, value, gates, memory, with the gates behind the memory."""
    width = source.shape[0]
    _copy(source, 0, out, 0, width, 2 * width)
    _copy(source, 2 * width + 2, out, 2 * width, width, width)
    _copy(source, 2 * width, out, 3 * width, width, 2)


@compiled
def gates_back(source: Array, out: Array) -> None:
    """Undoes ``gates_last``: copies into a state's matrix [K, R]."""
    width = out.shape[0]
    _copy(source, 0, out, 0, width, 2 * width)
    _copy(source, 2 * width, out, 2 * width + 2, width, width)
    _copy(source, 3 * width, out, 2 * width, width, 2)


@compiled
def spans(width: int, wide: int) -> tuple[Span, Span, Span]:
    """Columns, in whole vectors, that hold keys and values; gates, but for what the first hold; the memory."""
    early = padded(2 * width)
    late = max(early, 3 * width // LANES * LANES), wide
    return (0, early), late, (2 * width // LANES * LANES, padded(3 * width))


@compiled
def add_into(a: Array, b: Array, out: Array) -> None:
    """Writes out = a + b, all [K, wide]."""
    for j in range(out.shape[0]):
        for r in range(0, out.shape[1], LANES):
            store(out, (j, r), add(load(a, (j, r)), load(b, (j, r))))


@compiled
def turn(matrix: Array, out: Array) -> None:
    """Writes the transpose of matrix [K, *] into the first K columns of out, as far as out has rows."""
    for r in range(min(matrix.shape[1], out.shape[0])):
        for j in range(matrix.shape[0]):
            out[r, j] = matrix[j, r]


class Steps(NamedTuple):
    """What the steps of a piece ask of the memory and are told, one row a step (K here: up to a multiple of 8)."""

    c: Array  # [*, K] input, of unit length
    q: Array  # [*, K] query, of unit length
    k: Array  # [*, K] key, of unit length; 0 where a step is invalid
    norms: Array  # [*, 3] lengths of the three before
    p: Array  # [*, wide] rows of key, value and gates, as the anchored matrices answer the input
    gates: Array  # [*, 4] step size, sigmoid of the retention gate, retention, the target's share; 0, 0, 1, 1: invalid
    aim: Array  # [*, wide] target less what the meta-learned matrices expect at the key
    bend: Array  # [*, wide] slope of the target
    read: Array  # [*, wide] what the meta-learned matrices answer the query, then what the memory answers
    target: Array  # [*, wide] the whole target; filled only where steps may reflect
    logits: Array  # [3, padded *] the gates on their way, steps side by side


@compiled
def room(like: Array, steps: int) -> Steps:
    """Makes room for some steps on matrices ``like`` [K, wide]."""
    height, wide, dtype = like.shape[0], like.shape[1], like.dtype
    narrow, broad = np.zeros((3, steps, height), dtype), np.zeros((5, steps, wide), dtype)
    norms, gates, logits = np.ones((steps, 3), dtype), np.ones((steps, 4), dtype), np.zeros((3, padded(steps)), dtype)
    blocks = broad[0], gates, broad[1], broad[2], broad[3], broad[4], logits
    return Steps(narrow[0], narrow[1], narrow[2], norms, *blocks)


@compiled
def open_gates(rows: Array, count: int, rate: float) -> None:
    """Rows [3, >= count in whole vectors]: logits to sigmoid, sigmoid, and the third to exp(-rate * the second)."""
    zero, one = splat(rows.dtype.type(0.0)), splat(rows.dtype.type(1.0))
    for s in range(0, count, LANES):
        for i in range(2):
            store(rows, (i, s), div(one, add(one, exponential(sub(zero, load(rows, (i, s)))))))
        store(rows, (2, s), exponential(mul(splat(rows.dtype.type(-rate)), load(rows, (1, s)))))


@compiled
def piece_end(t: int, b: int, first: Array, valid: Array, clears: bool, period: int, phase: int) -> int:
    """The step after the last one that has the anchor of step t and no reset between."""
    stop, steps = t + 1, len(first)
    while stop < steps and not ((phase + stop) % period == 0 or (clears and first[stop, b] and valid[stop, b])):
        stop += 1
    return stop


@compiled
def answers(size: Rows, matrix: Array, asked: Array, place: int, count: int, columns: Span, out: Array) -> None:
    """Writes out[s] = sum_j asked[s, place + j] matrix[j] for s < count and some columns (whole vectors)."""
    for r in range(columns[0], columns[1], LANES):
        part = tile(matrix, (0, r), size)
        for s in range(count):
            store(out, (s, r), along(asked, (s, place), part))


@compiled
def foresee(
    size: Rows,
    mixed: Array,
    width: int,
    valid: Array,
    bias: Array,
    rate: Array,
    limit: float,
    b: int,
    h: int,
    now: int,
    count: int,
    start: Array,
    anchored: Array,
    out: Steps,
) -> None:
    """Fills the rows of a piece's ``count`` steps from step ``now`` on: all that does not wait for its writes.

    ``mixed`` comes as rows [T * B * 3 * H, K]. The step size is limit sigmoid(p + bias), the retention
    exp(-rate sigmoid(p + bias)), the target z / sqrt(1 + z^2) of the value's answer z. A limit above 1 lets steps
    reflect (``delta_scan``): retention multiplies the step too, and a share of the target is written.
    """
    wide, gate, one = start.shape[1], 3 * width, splat(start.dtype.type(1.0))
    early, late, memory = spans(width, wide)
    batch, heads = valid.shape[1], bias.shape[0]
    c, q, k, norms, p, gates, aim, bend, read, target, logits = out
    for s in range(count):
        row = ((now + s) * batch + b) * 3 * heads + h
        norms[s, 1] = unit(mixed, row + heads, 0, width, q, s)
        if valid[now + s, b]:
            norms[s, 0] = unit(mixed, row, 0, width, c, s)
        else:
            c[s, :] = 0.0
    answers(size, anchored, c, 0, count, early, p)
    answers(size, anchored, c, 0, count, late, p)
    for s in range(count):
        logits[0, s], logits[1, s] = p[s, gate] + bias[h, 0], p[s, gate + 1] + bias[h, 1]
    open_gates(logits, count, rate[h])
    for s in range(count):
        if valid[now + s, b]:
            norms[s, 2] = unit(p, s, 0, width, k, s)
            gates[s, 0], gates[s, 1], gates[s, 2] = limit * logits[0, s], logits[1, s], logits[2, s]
            if limit > 1.0:
                gates[s, 3] = min(1.0, 2.0 / gates[s, 0] - 1.0)
                gates[s, 0] *= gates[s, 2]
        else:
            k[s, :] = 0.0
            gates[s, 0], gates[s, 1], gates[s, 2], gates[s, 3] = 0.0, 0.0, 1.0, 1.0
    answers(size, anchored, p, width, count, (0, wide), aim)
    answers(size, start, k, 0, count, (0, wide), bend)
    for s in range(count):
        for r in range(0, wide, LANES):
            raw, expected = load(aim, (s, r)), load(bend, (s, r))
            shrink = div(one, root(fma(raw, raw, one)))
            store(bend, (s, r), mul(shrink, mul(shrink, shrink)))
            if limit > 1.0:
                part, bound = splat(gates[s, 3]), mul(raw, shrink)
                store(target, (s, r), bound)
                store(aim, (s, r), sub(mul(part, bound), expected))
                store(bend, (s, r), mul(part, load(bend, (s, r))))
            else:
                store(aim, (s, r), sub(mul(raw, shrink), expected))
    answers(size, start, q, 0, count, memory, read)


@compiled
def run(
    size: Rows,
    mixed: Array,
    base: Array,
    bias: Array,
    rate: Array,
    limit: float,
    clears: Array,
    delta: Array,
    anchor: Array,
    first: Array,
    valid: Array,
    period: int,
    phase: int,
    out: Array,
    delta_after: Array,
    anchor_after: Array,
    kept: Array,
    some: Span,
) -> None:
    """Forward pass.

    Args:
        size: as many numbers as K has up to the next multiple of 8 (their values do not matter).
        mixed: [T, B, 3, H, K] inputs and queries before normalisation (the third is not read).
        base: [H, K, R] meta-learned matrices.
        bias: [H, 2] of the step and retention gates.
        rate: [H] 2 / tau.
        limit: largest step size, in (0, 2].
        clears: [H] bool, cleared at episodes.
        delta: [B, H, K, R] running deviation.
        anchor: [B, H, K, R] deviation at the chunk's start.
        first: [T, B] bool.
        valid: [T, B] bool.
        period: steps of a chunk.
        phase: the step clock at the first step.
        out: [T, B, H, K] read-out, written.
        delta_after: [B, H, K, R], written.
        anchor_after: [B, H, K, R], written.
        kept: [B, H, N, K, R] the deviations at the ends of the first N chunks, gates last, for the adjoint, written; N
            may be 0.
        some: the heads to run; heads share nothing that is written, so several calls may run at once.
    """
    steps, batch, _, heads, width = mixed.shape
    rows, dtype = base.shape[2], base.dtype
    wide = padded(rows)
    reads, behind = spans(width, wide)[2]
    matrices = np.zeros((4, len(size), wide), dtype)
    start, anchored, own, old = matrices[0], matrices[1], matrices[2], matrices[3]
    told = room(start, min(steps, period))
    q, k, gates, aim, read = told.q, told.k, told.gates, told.aim, told.read
    mixed_rows = mixed.reshape(steps * batch * 3 * heads, width)
    for h in range(some[0], some[1]):
        gates_last(base[h], start)
        for b in range(batch):
            gates_last(delta[b, h], own)
            gates_last(anchor[b, h], old)
            add_into(start, old, anchored)
            now, closed = 0, 0
            while now < steps:
                stop = piece_end(now, b, first, valid, clears[h], period, phase)
                count = stop - now
                if clears[h] and first[now, b] and valid[now, b]:
                    own[:, :], old[:, :] = 0.0, 0.0
                    anchored[:, :] = start
                foresee(size, mixed_rows, width, valid, bias, rate, limit, b, h, now, count, start, anchored, told)
                for r in range(0, wide, LANES):
                    memory = tile(own, (0, r), size)
                    for s in range(count):
                        if reads <= r < behind:
                            store(read, (s, r), add(load(read, (s, r)), along(q, (s, 0), memory)))
                        wrong = sub(load(aim, (s, r)), along(k, (s, 0), memory))
                        faded = scaled(memory, splat(gates[s, 2]))
                        memory = pushed(faded, k, (s, 0), mul(splat(gates[s, 0]), wrong))
                    put(own, (0, r), memory)
                for s in range(count):
                    for j in range(width):
                        out[now + s, b, h, j] = read[s, 2 * width + j]
                if (phase + stop) % period == 0:
                    old[:, :] = own
                    add_into(start, old, anchored)
                    if closed < kept.shape[2]:
                        drain(own, kept[b, h, closed])
                        closed += 1
                now = stop
            gates_back(own, delta_after[b, h])
            gates_back(old, anchor_after[b, h])
