"""The act-time CMS level on CPU: one compiled pass over the steps, and its adjoint.

The equations are those of ``continuum.ActTimeLevel`` from the keys after the silu on; both forms agree to rounding.
While worked on, rows of K are padded with zeros to whole vectors (``lanes``). Gradients of the two scalars, retention
over a period (``keep``) and rate of a write (``rate``), come out beside those of the arrays.
"""

from __future__ import annotations

import numpy as np

from nl_agents.memory.delta_kernel import Array, drain, fill
from nl_agents.memory.lanes import LANES, add, compiled, fma, load, mul, padded, splat, store, total, unit, unit_adjoint


@compiled
def _expect(base: Array, own: Array, kappa: Array, past: Array, i: int) -> tuple[float, float]:
    """What row i of the matrix says of this step's key and of the last one's."""
    ahead = splat(base.dtype.type(0.0))
    behind = ahead
    for j in range(0, base.shape[1], LANES):
        weight = add(load(base, (i, j)), load(own, (i, j)))
        ahead = fma(weight, load(kappa, (0, j)), ahead)
        behind = fma(weight, load(past, (0, j)), behind)
    return total(ahead), total(behind)


@compiled
def _gather(summed: Array, i: int, error: float, past: Array) -> None:
    """Adds error * past to row i of the summed gradient."""
    scale = splat(summed.dtype.type(error))
    for j in range(0, summed.shape[1], LANES):
        store(summed, (i, j), fma(scale, load(past, (0, j)), load(summed, (i, j))))


@compiled
def _close(own: Array, summed: Array, keep: float, rate: float) -> None:
    """The write of a period: own <- keep own + rate summed, summed <- 0."""
    kept, step = splat(own.dtype.type(keep)), splat(own.dtype.type(rate))
    zero = splat(own.dtype.type(0.0))
    for i in range(own.shape[0]):
        for j in range(0, own.shape[1], LANES):
            store(own, (i, j), fma(kept, load(own, (i, j)), mul(step, load(summed, (i, j)))))
            store(summed, (i, j), zero)


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
    delta_after: Array,
    gradient_after: Array,
) -> None:
    """Forward pass.

    Args:
        now: [T, B, K] keys of this step, action included, after the silu, before they are made units.
        before: [T, B, K] keys of the last valid step with this step's last action.
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
        delta_after: [B, P, K], written.
        gradient_after: [B, P, K], written.
    """
    steps, batch, size = now.shape
    out, wide, dtype = base.shape[0], padded(size), base.dtype
    given, own, summed = np.zeros((out, wide), dtype), np.zeros((out, wide), dtype), np.zeros((out, wide), dtype)
    kappa, past = np.zeros((1, wide), dtype), np.zeros((1, wide), dtype)
    now_rows, before_rows = now.reshape(steps * batch, size), before.reshape(steps * batch, size)
    fill(base, given)
    for b in range(batch):
        fill(delta[b], own)
        fill(gradient[b], summed)
        for t in range(steps):
            if resets[t, b]:
                own[:], summed[:] = 0.0, 0.0
            unit(now_rows, t * batch + b, 0, size, kappa, 0)
            unit(before_rows, t * batch + b, 0, size, past, 0)
            for i in range(out):
                ahead, behind = _expect(given, own, kappa, past, i)
                reads[t, b, i], reads[t, b, out + i] = ahead, 0.0
                if learns[t, b]:
                    reads[t, b, out + i] = target[t, b, i] - behind
                    _gather(summed, i, reads[t, b, out + i], past)
            if (phase + t + 1) % period == 0:
                _close(own, summed, keep, rate)
        drain(own, delta_after[b])
        drain(summed, gradient_after[b])


@compiled
def _row_adjoint(
    base: Array,
    own: Array,
    grown: Array,
    pending: Array,
    grad_base: Array,
    kappa: Array,
    past: Array,
    i: int,
    learns: bool,
    ahead: float,
    wrong: float,
    error: float,
    gk: Array,
    gp: Array,
) -> float:
    """Passes the gradients of row i's expectation (ahead) and error (wrong) back; returns that of its target."""
    dtype = base.dtype
    zero = splat(dtype.type(0.0))
    flow: float = dtype.type(0.0)
    if learns:
        found = zero
        for j in range(0, base.shape[1], LANES):
            found = fma(load(pending, (i, j)), load(past, (0, j)), found)
        flow = dtype.type(wrong) + total(found)
    written = splat(dtype.type(error) if learns else dtype.type(0.0))
    expected, missed = splat(dtype.type(ahead)), splat(-flow)
    for j in range(0, base.shape[1], LANES):
        weight = add(load(base, (i, j)), load(own, (i, j)))
        store(gk, (0, j), fma(weight, expected, load(gk, (0, j))))
        store(gp, (0, j), fma(load(pending, (i, j)), written, fma(weight, missed, load(gp, (0, j)))))
        pushed = fma(expected, load(kappa, (0, j)), mul(missed, load(past, (0, j))))
        store(grown, (i, j), add(load(grown, (i, j)), pushed))
        store(grad_base, (i, j), add(load(grad_base, (i, j)), pushed))
    return flow


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
    out, wide, dtype = base.shape[0], padded(size), base.dtype
    writes = steps // period + 2
    owns, sums = np.zeros((writes, out, wide), dtype), np.zeros((writes, out, wide), dtype)
    given, first, given_grad = np.zeros((out, wide), dtype), np.zeros((out, wide), dtype), np.zeros((out, wide), dtype)
    own, summed = np.zeros((out, wide), dtype), np.zeros((out, wide), dtype)
    grown, pending = np.zeros((out, wide), dtype), np.zeros((out, wide), dtype)
    kappa, past = np.zeros((1, wide), dtype), np.zeros((1, wide), dtype)
    gk, gp = np.zeros((1, wide), dtype), np.zeros((1, wide), dtype)
    now_rows, before_rows = now.reshape(steps * batch, size), before.reshape(steps * batch, size)
    grad_now_rows = grad_now.reshape(steps * batch, size)
    grad_before_rows = grad_before.reshape(steps * batch, size)
    fill(base, given)
    for b in range(batch):
        fill(delta[b], first)
        fill(gradient[b], summed)
        own[:] = first
        count = 0
        for t in range(steps):  # forward once more, for what stood at each write
            if resets[t, b]:
                own[:], summed[:] = 0.0, 0.0
            if learns[t, b]:
                unit(before_rows, t * batch + b, 0, size, past, 0)
                for i in range(out):
                    _gather(summed, i, reads[t, b, out + i], past)
            if (phase + t + 1) % period == 0:
                owns[count], sums[count] = own, summed
                count += 1
                _close(own, summed, keep, rate)
        fill(grad_delta[b], grown)
        fill(grad_gradient[b], pending)
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
                _stood(own, owns, first, keep, rate, sums, count, resets, b, t, period, phase)
                fresh = False
            n = t * batch + b
            norm_now, norm_before = unit(now_rows, n, 0, size, kappa, 0), unit(before_rows, n, 0, size, past, 0)
            gk[:], gp[:] = 0.0, 0.0
            for i in range(out):
                grad_target[t, b, i] = _row_adjoint(
                    given, own, grown, pending, given_grad, kappa, past, i, learns[t, b],
                    grad_reads[t, b, i], grad_reads[t, b, out + i], reads[t, b, out + i], gk, gp,
                )  # fmt: skip
            unit_adjoint(kappa, 0, norm_now, gk, 0, size, grad_now_rows, n)
            unit_adjoint(past, 0, norm_before, gp, 0, size, grad_before_rows, n)
            if resets[t, b]:
                grown[:], pending[:] = 0.0, 0.0
                fresh = True
        drain(grown, grad_delta[b])
        drain(pending, grad_gradient[b])
    for i in range(out):
        for j in range(size):
            grad_base[i, j] += given_grad[i, j]


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
