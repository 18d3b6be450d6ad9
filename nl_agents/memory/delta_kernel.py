"""The self-modifying memory on CPU: one compiled pass over the steps.

The equations are those of ``delta_scan`` (same memory, same chunks: both forms agree to rounding), with the inputs'
and queries' normalisation and the memory's static part included: the read-out is M_mem q, not only Delta_mem q. On a
CPU the matrices of one head of one stream fit in the first-level cache, so a plain loop over time beats batched
products by a wide margin, for a single act step most of all. Matrices are key-major, [K, R], so that 16 neighbours of
a row R make one vector (``lanes``); while worked on, rows are padded with zeros to whole vectors. The adjoint stands in
``delta_adjoint``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nl_agents.memory.lanes import LANES, add, compiled, div, fma, load, mul, padded, root, splat, store, unit

Array = NDArray[Any]


@compiled
def _copy(source: Array, out: Array, columns: int) -> None:
    """Copies the first columns of each row; the last vector of a row overlaps the one before."""
    if columns < LANES:
        for j in range(source.shape[0]):
            for r in range(columns):
                out[j, r] = source[j, r]
        return
    last = columns - LANES
    for j in range(source.shape[0]):
        for r in range(0, last, LANES):
            store(out, (j, r), load(source, (j, r)))
        store(out, (j, last), load(source, (j, last)))


@compiled
def fill(source: Array, out: Array) -> None:
    """Copies source [K, R] into the first R columns of out [K, >= R]."""
    _copy(source, out, source.shape[1])


@compiled
def drain(source: Array, out: Array) -> None:
    """Copies the first R columns of source [K, >= R] into out [K, R]."""
    _copy(source, out, out.shape[1])


@compiled
def add_into(a: Array, b: Array, out: Array) -> None:
    """Writes out = a + b, all [K, wide]."""
    for j in range(out.shape[0]):
        for r in range(0, out.shape[1], LANES):
            store(out, (j, r), add(load(a, (j, r)), load(b, (j, r))))


@compiled
def ask(anchored: Array, c: Array, gates: Array, p: Array, k: Array, z: Array, t: int) -> float:
    """What the write of step t is made of, from the anchored matrices [K, wide] and the input c[t].

    Fills p[t] = key, value and gate rows, k[t] = the unit key, z[t] = the raw targets and gates[t, 3:] = step size,
    sigmoid of the retention gate, retention; gates[t, :3] = step bias, retention bias, rate.

    Returns:
        |key| before it was made a unit.
    """
    width, wide = anchored.shape
    two = 2 * width + 2
    zero = splat(anchored.dtype.type(0.0))
    for r in range(0, padded(two), LANES):
        found = zero
        for j in range(width):
            found = fma(splat(c[t, j]), load(anchored, (j, r)), found)
        store(p, (t, r), found)
    norm = unit(p[t, :width], k, t)
    gates[t, 3] = 1.0 / (1.0 + math.exp(-(p[t, two - 2] + gates[t, 0])))
    gates[t, 4] = 1.0 / (1.0 + math.exp(-(p[t, two - 1] + gates[t, 1])))
    gates[t, 5] = math.exp(-gates[t, 2] * gates[t, 4])
    for r in range(0, wide, LANES):
        found = zero
        for j in range(width):
            found = fma(splat(p[t, width + j]), load(anchored, (j, r)), found)
        store(z, (t, r), found)
    return norm


@compiled
def write(
    start: Array, path: Array, now: int, then: int, gates: Array, k: Array, z: Array, error: Array, t: int
) -> None:
    """Writes step t: path[then] = retention * path[now] + step size * k error^T; fills error[t]. Rows are independent.

    ``now`` may be ``then``.
    """
    width, wide = start.shape
    dtype = start.dtype
    one, minus, zero = splat(dtype.type(1.0)), splat(dtype.type(-1.0)), splat(dtype.type(0.0))
    keep = splat(gates[t, 5])
    for r in range(0, wide, LANES):
        known = zero
        for j in range(width):
            known = fma(splat(k[t, j]), add(load(start, (j, r)), load(path, (now, j, r))), known)
        raw = load(z, (t, r))
        wrong = fma(known, minus, div(raw, root(fma(raw, raw, one))))
        store(error, (t, r), wrong)
        pull = mul(splat(gates[t, 3]), wrong)
        for j in range(width):
            store(path, (then, j, r), fma(splat(k[t, j]), pull, mul(keep, load(path, (now, j, r)))))


@compiled
def run(
    mixed: Array,
    base: Array,
    bias: Array,
    rate: Array,
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
) -> None:
    """Forward pass.

    Args:
        mixed: [T, B, 3, H, K] inputs and queries before normalisation (the third is not read).
        base: [H, K, R] meta-learned matrices.
        bias: [H, 2] of the step and retention gates.
        rate: [H] 2 / tau.
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
    """
    steps, batch, _, heads, width = mixed.shape
    rows, dtype = base.shape[2], base.dtype
    two, wide = 2 * width + 2, padded(rows)
    start, anchored = np.zeros((width, wide), dtype), np.zeros((width, wide), dtype)
    own, old = np.zeros((1, width, wide), dtype), np.zeros((width, wide), dtype)
    unit_rows = np.empty((3, 1, width), dtype)  # c, q, k
    c, q, k = unit_rows[0], unit_rows[1], unit_rows[2]
    p, z, error = np.zeros((1, wide), dtype), np.zeros((1, wide), dtype), np.zeros((1, wide), dtype)
    gates = np.empty((1, 6), dtype)
    zero = splat(dtype.type(0.0))
    for h in range(heads):
        fill(base[h], start)
        gates[0, 0], gates[0, 1], gates[0, 2] = bias[h, 0], bias[h, 1], rate[h]
        for b in range(batch):
            fill(delta[b, h], own[0])
            fill(anchor[b, h], old)
            add_into(start, old, anchored)
            for t in range(steps):
                alive = valid[t, b]
                if alive and first[t, b] and clears[h]:
                    own[:], old[:] = 0.0, 0.0
                    fill(start, anchored)
                unit(mixed[t, b, 1, h], q, 0)
                for r in range(two // LANES * LANES, wide, LANES):  # the rows of the memory come last
                    found = zero
                    for j in range(width):
                        found = fma(splat(q[0, j]), add(load(start, (j, r)), load(own, (0, j, r))), found)
                    store(error, (0, r), found)
                for j in range(width):
                    out[t, b, h, j] = error[0, two + j]
                if alive:
                    unit(mixed[t, b, 0, h], c, 0)
                    ask(anchored, c, gates, p, k, z, 0)
                    write(start, own, 0, 0, gates, k, z, error, 0)
                if (phase + t + 1) % period == 0:
                    fill(own[0], old)
                    add_into(start, old, anchored)
            drain(own[0], delta_after[b, h])
            drain(old, anchor_after[b, h])
