"""The self-modifying memory on CPU: one compiled pass over the steps, and its adjoint.

The equations are those of ``delta_scan`` (same memory, same chunks: both forms agree to rounding), with the inputs'
and queries' normalisation and the memory's static part included: the read-out is M_mem q, not only Delta_mem q. On a
CPU the matrices of one head of one stream fit in the first-level cache, so a plain loop over time beats batched
products by a wide margin, for a single act step most of all. Matrices are key-major, [K, R], so that inner loops run
over a row of R; while worked on, rows are padded with zeros to a multiple of 32, which compiled loops take in whole
vectors.

The adjoint runs each head of each stream forward once more, keeping its trajectory in cache, and then backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
Result = TypeVar("Result")
FAST = {"contract", "reassoc", "nsz", "arcp"}  # not "nnan": a NaN must stay one


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compiles a function at its first call; what was compiled is kept beside this file or in the user's cache folder.

    Where neither can be written, every process compiles for itself.
    """

    def compiles(keep: bool) -> Callable[..., Result]:
        return cast(Callable[..., Result], njit(cache=keep, fastmath=FAST, error_model="numpy")(function))

    try:
        return compiles(True)
    except RuntimeError:  # numba found no folder to write to
        return compiles(False)


@compiled
def _matvec(matrix: Array, x: Array, out: Array, stop: int) -> None:
    """Writes out[:stop] = sum_j x_j matrix[j, :stop]; four rows at a time, so that sums wait in registers."""
    width = x.shape[0]
    fours = width // 4 * 4
    for r in range(stop):
        out[r] = 0.0
    for j in range(0, fours, 4):
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        for r in range(stop):
            out[r] += (x0 * matrix[j, r] + x1 * matrix[j + 1, r]) + (x2 * matrix[j + 2, r] + x3 * matrix[j + 3, r])
    for j in range(fours, width):
        x0 = x[j]
        for r in range(stop):
            out[r] += x0 * matrix[j, r]


@compiled
def _matvec_sum(base: Array, delta: Array, x: Array, out: Array) -> None:
    """Writes out = sum_j x_j (base + delta)[j]."""
    width, stop = base.shape
    fours = width // 4 * 4
    for r in range(stop):
        out[r] = 0.0
    for j in range(0, fours, 4):
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        for r in range(stop):
            left = x0 * (base[j, r] + delta[j, r]) + x1 * (base[j + 1, r] + delta[j + 1, r])
            right = x2 * (base[j + 2, r] + delta[j + 2, r]) + x3 * (base[j + 3, r] + delta[j + 3, r])
            out[r] += left + right
    for j in range(fours, width):
        x0 = x[j]
        for r in range(stop):
            out[r] += x0 * (base[j, r] + delta[j, r])


@compiled
def _unit(row: Array, out: Array) -> float:
    """Writes out = row / |row|; returns |row|, at least 1e-6."""
    total = row[0] * row[0]
    for j in range(1, row.shape[0]):
        total += row[j] * row[j]
    norm = max(math.sqrt(total), 1e-6)
    scale = row.dtype.type(1.0 / norm)
    for j in range(row.shape[0]):
        out[j] = row[j] * scale
    return norm


@compiled
def _unit_adjoint(unit: Array, norm: float, grad: Array, out: Array) -> None:
    """Writes out = the gradient with respect to the row that ``_unit`` normalised."""
    along = unit[0] * grad[0]
    for j in range(1, unit.shape[0]):
        along += unit[j] * grad[j]
    scale = unit.dtype.type(1.0 / norm)
    for j in range(unit.shape[0]):
        out[j] = (grad[j] - unit[j] * along) * scale


@compiled
def _write(
    base: Array,
    anchored: Array,
    delta: Array,
    c: Array,
    gate: Array,
    p: Array,
    k: Array,
    z: Array,
    error: Array,
    after: Array,
) -> float:
    """One write: ``after`` = the new deviation (may be ``delta`` itself). All matrices [K, R].

    gate = [b_step, b_retention, rate, -, -]; fills p [2K + 2], k [K], z and error [R], and gate[3:5] = beta, sigmoid of
    retention.

    Returns:
        |p_key|.
    """
    width, rows = base.shape
    two = 2 * width + 2
    _matvec(anchored, c, p, two)
    norm = _unit(p[:width], k)
    gate[3] = 1.0 / (1.0 + math.exp(-(p[two - 2] + gate[0])))
    gate[4] = 1.0 / (1.0 + math.exp(-(p[two - 1] + gate[1])))
    _matvec(anchored, p[width : 2 * width], z, rows)
    _matvec_sum(base, delta, k, error)
    one = base.dtype.type(1.0)
    for r in range(rows):
        error[r] = z[r] / math.sqrt(one + z[r] * z[r]) - error[r]
    keep = base.dtype.type(math.exp(-gate[2] * gate[4]))
    beta = gate[3]
    for j in range(width):
        pull = k[j] * beta
        for r in range(rows):
            after[j, r] = keep * delta[j, r] + pull * error[r]
    return norm


@compiled
def _padded(rows: int) -> int:
    """Rows while worked on: the next multiple of 32."""
    return (rows + 31) // 32 * 32


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
) -> None:
    """Forward pass; ``delta`` and ``anchor`` are changed in place.

    Args:
        mixed: [T, B, 2, H, K] inputs and queries before normalisation.
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
    """
    steps, batch, _, heads, width = mixed.shape
    rows = base.shape[2]
    alone = steps == 1  # an act step works in place: copying to padded rows would cost more than it gains
    two, wide = 2 * width + 2, rows if alone else _padded(rows)
    gate = np.empty(5, base.dtype)
    shape = (width, wide)
    start, own, anchored = np.zeros(shape, base.dtype), np.zeros(shape, base.dtype), np.zeros(shape, base.dtype)
    c, q, k = np.empty(width, base.dtype), np.empty(width, base.dtype), np.empty(width, base.dtype)
    p, z, error = np.empty(wide, base.dtype), np.empty(wide, base.dtype), np.empty(wide, base.dtype)
    for b in range(batch):
        for h in range(heads):
            gate[0], gate[1], gate[2] = bias[h, 0], bias[h, 1], rate[h]
            old = anchor[b, h]
            if alone:
                start, own = base[h], delta[b, h]
            else:
                start[:, :rows], own[:, :rows] = base[h], delta[b, h]
            for j in range(width):
                for r in range(rows):
                    anchored[j, r] = base[h, j, r] + old[j, r]
            for t in range(steps):
                alive = valid[t, b]
                if alive and first[t, b] and clears[h]:
                    own[:], old[:] = 0.0, 0.0
                    anchored[:] = start
                _unit(mixed[t, b, 1, h], q)
                _matvec_sum(start, own, q, error)
                for j in range(width):
                    out[t, b, h, j] = error[two + j]
                if alive:
                    _unit(mixed[t, b, 0, h], c)
                    _write(start, anchored, own, c, gate, p, k, z, error, own)
                if (phase + t + 1) % period == 0:
                    old[:] = own[:, :rows]
                    anchored[:] = start + own
            if not alone:
                delta[b, h] = own[:, :rows]


@compiled
def run_adjoint(
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
    grad_out: Array,
    grad_delta: Array,
    grad_anchor: Array,
    grad_mixed: Array,
    grad_base: Array,
    grad_bias: Array,
    grad_rate: Array,
) -> None:
    """Adjoint of ``run``: arguments as there (``delta``, ``anchor`` before the first step, left as they are).

    ``grad_delta`` and ``grad_anchor`` hold the gradients of the outputs and end as those of the inputs; ``grad_mixed``
    is written; ``grad_base``, ``grad_bias`` and ``grad_rate`` are added to.
    """
    steps, batch, _, heads, width = mixed.shape
    rows = base.shape[2]
    two, wide = 2 * width + 2, _padded(rows)
    dtype = base.dtype
    path = np.zeros((steps + 1, width, wide), dtype)  # deviation before every step, after its reset
    source = np.empty(steps, np.int64)  # whence a step's anchor: the step whose write closed a chunk, -1 given, -2 zero
    kept = np.empty((3, steps, width), dtype)  # c, q, k
    long = np.zeros((3, steps, wide), dtype)  # p, z, error
    norms = np.empty((3, steps), dtype)
    gates = np.empty((steps, 5), dtype)
    shape = (width, wide)
    start, first_anchor, anchored = np.zeros(shape, dtype), np.zeros(shape, dtype), np.zeros(shape, dtype)
    grown = np.zeros(shape, dtype)  # gradient of the deviation
    lent = np.zeros(shape, dtype)  # gradient of the anchor
    given = np.zeros(shape, dtype)  # gradient of M_0
    gw, gy, gz = np.zeros(wide, dtype), np.zeros(wide, dtype), np.zeros(wide, dtype)
    read, gp = np.zeros(wide, dtype), np.zeros(wide, dtype)
    gk, gv, gc = np.empty(width, dtype), np.empty(width, dtype), np.empty(width, dtype)
    one, zero = dtype.type(1.0), dtype.type(0.0)
    for b in range(batch):
        for h in range(heads):
            # forward once more
            start[:, :rows], path[0, :, :rows] = base[h], delta[b, h]
            first_anchor[:, :rows] = base[h] + anchor[b, h]
            anchored[:] = first_anchor
            origin = -1
            for t in range(steps):
                alive = valid[t, b]
                if alive and first[t, b] and clears[h]:
                    path[t] = 0.0
                    anchored[:] = start
                    origin = -2
                source[t] = origin
                norms[1, t] = _unit(mixed[t, b, 1, h], kept[1, t])
                if alive:
                    gates[t, 0], gates[t, 1], gates[t, 2] = bias[h, 0], bias[h, 1], rate[h]
                    norms[0, t] = _unit(mixed[t, b, 0, h], kept[0, t])
                    norms[2, t] = _write(
                        start, anchored, path[t], kept[0, t], gates[t], long[0, t], kept[2, t], long[1, t],
                        long[2, t], path[t + 1],
                    )  # fmt: skip
                else:
                    path[t + 1] = path[t]
                if (phase + t + 1) % period == 0:
                    anchored[:] = start + path[t + 1]
                    origin = t
            # and backward
            grown[:, :rows], lent[:, :rows] = grad_delta[b, h], grad_anchor[b, h]
            given[:] = -lent  # what later comes in with ``lent`` is to be the part of the anchored products alone
            current = -3
            for t in range(steps - 1, -1, -1):
                if (phase + t + 1) % period == 0:
                    for j in range(width):
                        for r in range(wide):
                            grown[j, r] += lent[j, r]
                            given[j, r] += lent[j, r]
                            lent[j, r] = zero
                own = path[t]
                alive = valid[t, b]
                c, q, k = kept[0, t], kept[1, t], kept[2, t]
                if alive:
                    p, z, error = long[0, t], long[1, t], long[2, t]
                    if source[t] != current:
                        current = source[t]
                        if current == -1:
                            anchored[:] = first_anchor
                        elif current == -2:
                            anchored[:] = start
                        else:
                            anchored[:] = start + path[current + 1]
                    beta, retention = gates[t, 3], gates[t, 4]
                    keep = dtype.type(math.exp(-rate[h] * retention))
                    # the write: after = keep * own + beta * k error^T
                    flow = zero
                    _matvec(grown, k, gw, wide)
                    for j in range(width):
                        pulled = zero
                        for r in range(wide):
                            g = grown[j, r]
                            flow += g * own[j, r]
                            pulled += g * error[r]
                        gk[j] = pulled * beta
                    grad_beta = zero
                    for r in range(wide):
                        grad_beta += gw[r] * error[r]
                        gy[r] = -beta * gw[r]
                        square = one + z[r] * z[r]
                        gz[r] = -gy[r] / (square * math.sqrt(square))
                    # error = bound(z) - (base + own)^T k
                    for j in range(width):
                        kj, pulled = k[j], zero
                        for r in range(wide):
                            pushed = kj * gy[r]
                            pulled += (start[j, r] + own[j, r]) * gy[r]
                            grown[j, r] = keep * grown[j, r] + pushed
                            given[j, r] += pushed
                        gk[j] += pulled
                    # z = anchored^T v, v = p[K : 2K]
                    for j in range(width):
                        vj, pulled = p[width + j], zero
                        for r in range(wide):
                            pulled += anchored[j, r] * gz[r]
                            lent[j, r] += vj * gz[r]
                        gv[j] = pulled
                    # p = anchored^T c: key, value, step, retention
                    _unit_adjoint(k, norms[2, t], gk, gp[:width])
                    for j in range(width):
                        gp[width + j] = gv[j]
                    grad_log = flow * keep  # of log alpha
                    gp[two - 2] = grad_beta * beta * (one - beta)
                    gp[two - 1] = -grad_log * rate[h] * retention * (one - retention)
                    grad_bias[h, 0] += gp[two - 2]
                    grad_bias[h, 1] += gp[two - 1]
                    grad_rate[h] -= grad_log * retention
                    for j in range(width):
                        cj, pulled = c[j], zero
                        for r in range(two):
                            pulled += anchored[j, r] * gp[r]
                            lent[j, r] += cj * gp[r]
                        gc[j] = pulled
                    _unit_adjoint(c, norms[0, t], gc, grad_mixed[t, b, 0, h])
                else:
                    grad_mixed[t, b, 0, h] = zero
                # the read: out = (base + own)_mem^T q
                for i in range(width):
                    read[two + i] = grad_out[t, b, h, i]
                for j in range(width):
                    qj, pulled = q[j], zero
                    for r in range(wide):
                        pushed = qj * read[r]
                        pulled += (start[j, r] + own[j, r]) * read[r]
                        grown[j, r] += pushed
                        given[j, r] += pushed
                    gk[j] = pulled
                _unit_adjoint(q, norms[1, t], gk, grad_mixed[t, b, 1, h])
                if alive and first[t, b] and clears[h]:
                    for j in range(width):
                        for r in range(wide):
                            given[j, r] += lent[j, r]
                            lent[j, r], grown[j, r] = zero, zero
            given += lent
            grad_base[h] += given[:, :rows]
            grad_delta[b, h], grad_anchor[b, h] = grown[:, :rows], lent[:, :rows]
