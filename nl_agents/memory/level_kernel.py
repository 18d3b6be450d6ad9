"""The act-time CMS level on CPU: one compiled pass over the steps, and its adjoint.

The equations are those of ``continuum.ActTimeLevel``; both forms agree to rounding. Gradients of the two scalars,
retention over a period (``keep``) and rate of a write (``rate``), come out beside those of the arrays.
"""

from __future__ import annotations

import math

import numpy as np

from nl_agents.memory.delta_kernel import Array
from nl_agents.memory.lanes import compiled


@compiled
def _key(row: Array, active: Array, unit: Array) -> float:
    """Fills active = silu(row) and unit = active / |active|; returns that norm, at least 1e-6."""
    total = 0.0
    for j in range(row.shape[0]):
        active[j] = row[j] / (1.0 + math.exp(-row[j]))
        total += active[j] * active[j]
    norm = max(math.sqrt(total), 1e-6)
    for j in range(row.shape[0]):
        unit[j] = active[j] / norm
    return norm


@compiled
def _key_adjoint(row: Array, unit: Array, norm: float, grad: Array, out: Array) -> None:
    """Fills out with the gradient of ``_key``'s row, given that of its unit vector."""
    along = 0.0
    for j in range(row.shape[0]):
        along += unit[j] * grad[j]
    for j in range(row.shape[0]):
        gate = 1.0 / (1.0 + math.exp(-row[j]))
        out[j] = (grad[j] - unit[j] * along) / norm * gate * (1.0 + row[j] * (1.0 - gate))


@compiled
def run_level(
    now: Array,
    before: Array,
    target: Array,
    learns: Array,
    resets: Array,
    base: Array,
    keep: float,
    rate: float,
    delta: Array,
    gradient: Array,
    period: int,
    phase: int,
    reads: Array,
) -> None:
    """Forward pass; ``delta`` and ``gradient`` are changed in place.

    Args:
        now: [T, B, K] key rows of this step, action included, before the silu.
        before: [T, B, K] key rows of the last valid step with this step's last action.
        target: [T, B, P].
        learns: [T, B] bool, the step's error is written.
        resets: [T, B] bool, the stream's matrix is cleared before the step.
        base: [P, K] meta-learned matrix.
        keep: retention of a period.
        rate: step of a write.
        delta: [B, P, K].
        gradient: [B, P, K].
        period: steps between two writes.
        phase: the step clock at the first step.
        reads: [T, B, 2P] expectation and error, written.
    """
    steps, batch, size = now.shape
    out = base.shape[0]
    active, kappa, past = np.empty(size, base.dtype), np.empty(size, base.dtype), np.empty(size, base.dtype)
    for b in range(batch):
        own, summed = delta[b], gradient[b]
        for t in range(steps):
            if resets[t, b]:
                own[:], summed[:] = 0.0, 0.0
            _key(now[t, b], active, kappa)
            _key(before[t, b], active, past)
            for i in range(out):
                ahead, behind = base.dtype.type(0.0), base.dtype.type(0.0)
                for j in range(size):
                    weight = base[i, j] + own[i, j]
                    ahead += weight * kappa[j]
                    behind += weight * past[j]
                reads[t, b, i] = ahead
                error = target[t, b, i] - behind
                if not learns[t, b]:
                    error = base.dtype.type(0.0)
                reads[t, b, out + i] = error
                if learns[t, b]:
                    for j in range(size):
                        summed[i, j] += error * past[j]
            if (phase + t + 1) % period == 0:
                for i in range(out):
                    for j in range(size):
                        own[i, j] = keep * own[i, j] + rate * summed[i, j]
                        summed[i, j] = 0.0


@compiled
def run_level_adjoint(
    now: Array,
    before: Array,
    learns: Array,
    resets: Array,
    base: Array,
    keep: float,
    rate: float,
    delta: Array,
    gradient: Array,
    period: int,
    phase: int,
    reads: Array,
    grad_reads: Array,
    grad_delta: Array,
    grad_gradient: Array,
    grad_now: Array,
    grad_before: Array,
    grad_target: Array,
    grad_base: Array,
    grad_scalars: Array,
) -> None:
    """Adjoint of ``run_level``; ``delta`` and ``gradient`` as before the first step, ``reads`` as it wrote them.

    ``grad_delta`` and ``grad_gradient`` hold the gradients of the outputs and end as those of the inputs; ``grad_now``,
    ``grad_before`` and ``grad_target`` are written; ``grad_base`` and ``grad_scalars`` [keep, rate] are added to.
    """
    steps, batch, size = now.shape
    out = base.shape[0]
    dtype = base.dtype
    writes = steps // period + 2
    owns, sums = np.empty((writes, out, size), dtype), np.empty((writes, out, size), dtype)
    own, summed = np.empty((out, size), dtype), np.empty((out, size), dtype)
    active, kappa, past = np.empty(size, dtype), np.empty(size, dtype), np.empty(size, dtype)
    gk, gp = np.empty(size, dtype), np.empty(size, dtype)
    for b in range(batch):
        own[:], summed[:] = delta[b], gradient[b]
        count = 0
        for t in range(steps):  # forward once more, for what stood at each write
            if resets[t, b]:
                own[:], summed[:] = 0.0, 0.0
            if learns[t, b]:
                _key(before[t, b], active, past)
                for i in range(out):
                    for j in range(size):
                        summed[i, j] += reads[t, b, out + i] * past[j]
            if (phase + t + 1) % period == 0:
                owns[count], sums[count] = own, summed
                count += 1
                for i in range(out):
                    for j in range(size):
                        own[i, j] = keep * own[i, j] + rate * summed[i, j]
                        summed[i, j] = 0.0
        grown, pending = grad_delta[b], grad_gradient[b]
        fresh = False  # whether ``own`` must be looked up again: a reset hides what stood before
        for t in range(steps - 1, -1, -1):
            if (phase + t + 1) % period == 0:
                count -= 1
                own[:] = owns[count]
                for i in range(out):
                    for j in range(size):
                        grad_scalars[0] += grown[i, j] * owns[count, i, j]
                        grad_scalars[1] += grown[i, j] * sums[count, i, j]
                        pending[i, j] = rate * grown[i, j]
                        grown[i, j] = keep * grown[i, j]
            if fresh:
                _stood(own, owns, delta[b], keep, rate, sums, count, resets, b, t, period, phase)
                fresh = False
            norm_now, norm_before = _key(now[t, b], active, kappa), _key(before[t, b], active, past)
            gk[:], gp[:] = 0.0, 0.0
            for i in range(out):
                ahead, flow = grad_reads[t, b, i], dtype.type(0.0)
                if learns[t, b]:
                    flow = grad_reads[t, b, out + i]
                    for j in range(size):
                        flow += pending[i, j] * past[j]
                        gp[j] += pending[i, j] * reads[t, b, out + i]
                grad_target[t, b, i] = flow
                for j in range(size):
                    weight = base[i, j] + own[i, j]
                    gk[j] += weight * ahead
                    gp[j] -= weight * flow
                    pushed = ahead * kappa[j] - flow * past[j]
                    grown[i, j] += pushed
                    grad_base[i, j] += pushed
            _key_adjoint(now[t, b], kappa, norm_now, gk, grad_now[t, b])
            _key_adjoint(before[t, b], past, norm_before, gp, grad_before[t, b])
            if resets[t, b]:
                grown[:], pending[:] = 0.0, 0.0
                fresh = True


@compiled
def _stood(
    own: Array,
    owns: Array,
    first: Array,
    keep: float,
    rate: float,
    sums: Array,
    count: int,
    resets: Array,
    b: int,
    t: int,
    period: int,
    phase: int,
) -> None:
    """Fills ``own`` with the matrix that stood at step t, seen from behind a reset at t + 1."""
    s = t
    while s >= 0:
        if resets[s, b]:
            own[:] = 0.0
            return
        if s < t and (phase + s + 1) % period == 0:
            own[:] = keep * owns[count - 1] + rate * sums[count - 1]
            return
        s -= 1
    own[:] = first
