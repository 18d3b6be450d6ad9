"""The act-time CMS level on CPU: compiled passes over the steps, and their adjoint.

The equations are those of ``continuum.ActTimeLevel`` from the keys after the silu on; both forms agree to rounding.
Between two writes a stream's matrix stands still, so all steps of such a piece ask it at once, and what they add to the
next write, or to a gradient, is summed in registers (``tiles``). While worked on, matrices are padded with zeros to
whole vectors. Gradients of the two scalars, retention over a period (``keep``) and rate of a write (``rate``), come out
beside those of the arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nl_agents.memory.delta_kernel import Array, Rows, add_into, answers, drain, fill, turn
from nl_agents.memory.lanes import LANES, add, compiled, fma, load, mul, padded, splat, store, unit, unit_adjoint
from nl_agents.memory.tiles import along, pushed, put, tile


class Told(NamedTuple):
    """What the steps of a piece ask and are told, one row a step (P and K here: up to whole vectors)."""

    now: Array  # [*, K] key of this step, of unit length
    past: Array  # [*, K] key of the last one, of unit length
    norms: Array  # [*, 2] lengths of both before
    ahead: Array  # [*, P] what the matrix says of this step's key; its gradient in the adjoint
    behind: Array  # [*, P] what it says of the last one's; the gradient that its error got in the adjoint
    error: Array  # [*, P] 0 where a step does not learn


@compiled
def _room(steps: int, outputs: int, size: int, like: Array) -> Told:
    """Makes room for some steps of a matrix [outputs, size]."""
    keys, rows = np.zeros((2, steps, padded(size)), like.dtype), np.zeros((3, steps, padded(outputs)), like.dtype)
    return Told(keys[0], keys[1], np.zeros((steps, 2), like.dtype), rows[0], rows[1], rows[2])


@compiled
def _end(t: int, b: int, resets: Array, period: int, phase: int) -> int:
    """The step after the last one that finds the matrix of step t."""
    stop, steps = t + 1, len(resets)
    while stop < steps and not ((phase + stop) % period == 0 or resets[stop, b]):
        stop += 1
    return stop


@compiled
def _to_units(now: Array, before: Array, first: int, count: int, batch: int, b: int, size: int, out: Told) -> None:
    """Fills the keys of ``count`` steps from ``first`` on; both come as rows [T * B, K]."""
    for s in range(count):
        row = (first + s) * batch + b
        out.norms[s, 0] = unit(now, row, 0, size, out.now, s)
        out.norms[s, 1] = unit(before, row, 0, size, out.past, s)


@compiled
def _add_products(size: Rows, x: Array, y: Array, count: int, out: Array) -> None:
    """Adds sum_s x[s] (outer) y[s] over s < count to out [P, K]."""
    for r in range(0, out.shape[1], LANES):
        summed = tile(out, (0, r), size)
        for s in range(count):
            summed = pushed(summed, x, (s, 0), load(y, (s, r)))
        put(out, (0, r), summed)


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
    size: Rows,
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
        size: as many numbers as P = K has up to the next multiple of 8 (their values do not matter).
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
    (steps, batch, width), out, dtype = now.shape, base.shape[0], base.dtype
    matrices = np.zeros((5, len(size), padded(len(size))), dtype)
    given, own, summed, whole, turned = matrices[0], matrices[1], matrices[2], matrices[3], matrices[4]
    told, zero = _room(min(steps, period), out, width, base), dtype.type(0.0)
    now_rows, before_rows = now.reshape(steps * batch, width), before.reshape(steps * batch, width)
    fill(base, given)
    for b in range(batch):
        fill(delta[b], own)
        fill(gradient[b], summed)
        first = 0
        while first < steps:
            stop = _end(first, b, resets, period, phase)
            count = stop - first
            if resets[first, b]:
                own[:], summed[:] = 0.0, 0.0
            add_into(given, own, whole)
            turn(whole, turned)
            _to_units(now_rows, before_rows, first, count, batch, b, width, told)
            answers(size, turned, told.now, 0, count, (0, told.ahead.shape[1]), told.ahead)
            answers(size, turned, told.past, 0, count, (0, told.ahead.shape[1]), told.behind)
            for s in range(count):
                for i in range(out):
                    told.error[s, i] = target[first + s, b, i] - told.behind[s, i] if learns[first + s, b] else zero
                    reads[first + s, b, i], reads[first + s, b, out + i] = told.ahead[s, i], told.error[s, i]
            _add_products(size, told.error, told.past, count, summed)
            if (phase + stop) % period == 0:
                _close(own, summed, keep, rate)
            first = stop
        drain(own, delta_after[b])
        drain(summed, gradient_after[b])


@compiled
def _live_again(
    size: Rows,
    before: Array,
    resets: Array,
    reads: Array,
    keep: float,
    rate: float,
    b: int,
    own: Array,
    summed: Array,
    clock: tuple[int, int],
    begins: Array,
    owns: Array,
    sums: Array,
    told: Told,
) -> int:
    """Goes forward once more; returns the number of pieces.

    Fills ``begins`` with their first steps, ``owns`` and ``sums`` with the matrix that stood and the sum at its end.
    """
    (steps, batch), pieces, out = resets.shape, 0, reads.shape[2] // 2
    begins[0] = 0
    while begins[pieces] < steps:
        first = begins[pieces]
        stop = _end(first, b, resets, clock[0], clock[1])
        if resets[first, b]:
            own[:], summed[:] = 0.0, 0.0
        for s in range(stop - first):
            unit(before, (first + s) * batch + b, 0, before.shape[1], told.past, s)
            for i in range(out):
                told.error[s, i] = reads[first + s, b, out + i]
        _add_products(size, told.error, told.past, stop - first, summed)
        owns[pieces], sums[pieces] = own, summed
        if (clock[1] + stop) % clock[0] == 0:
            _close(own, summed, keep, rate)
        pieces += 1
        begins[pieces] = stop
    return pieces


@compiled
def _most_pieces(resets: Array, period: int) -> int:
    """At least as many pieces as any stream has."""
    most: int = 0
    (steps, batch) = resets.shape
    for b in range(batch):
        count = 0
        for t in range(steps):
            count += 1 if resets[t, b] else 0
        most = max(most, count)
    pieces: int = most + steps // period + 2
    return pieces


@compiled
def run_level_adjoint(
    size: Rows,
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
    (steps, batch, width), out, dtype = now.shape, base.shape[0], base.dtype
    wide, most = padded(len(size)), _most_pieces(resets, period)
    owns, sums = np.zeros((most, len(size), wide), dtype), np.zeros((most, len(size), wide), dtype)
    begins, matrices = np.zeros(most + 1, np.int64), np.zeros((8, len(size), wide), dtype)
    given, own, summed, whole, turned = matrices[0], matrices[1], matrices[2], matrices[3], matrices[4]
    grown, pending, step = matrices[5], matrices[6], matrices[7]  # gradients of the matrix, of the sum, a piece's share
    base_grown, zero = np.zeros((len(size), wide), dtype), dtype.type(0.0)
    told, key_grads = _room(min(steps, period), out, width, base), np.zeros((2, min(steps, period), wide), dtype)
    now_rows, before_rows = now.reshape(steps * batch, width), before.reshape(steps * batch, width)
    grad_now_rows = grad_now.reshape(steps * batch, width)
    grad_before_rows = grad_before.reshape(steps * batch, width)
    fill(base, given)
    for b in range(batch):
        fill(delta[b], own)
        fill(gradient[b], summed)
        pieces = _live_again(
            size, before_rows, resets, reads, keep, rate, b, own, summed, (period, phase), begins, owns, sums, told
        )
        fill(grad_delta[b], grown)
        fill(grad_gradient[b], pending)
        for piece in range(pieces - 1, -1, -1):
            first, stop = begins[piece], begins[piece + 1]
            count = stop - first
            if (phase + stop) % period == 0:
                for i in range(out):
                    for j in range(width):
                        grad_scalars[0] += grown[i, j] * owns[piece, i, j]
                        grad_scalars[1] += grown[i, j] * sums[piece, i, j]
                        pending[i, j] = rate * grown[i, j]
                        grown[i, j] = keep * grown[i, j]
            _to_units(now_rows, before_rows, first, count, batch, b, width, told)
            turn(pending, turned)
            answers(size, turned, told.past, 0, count, (0, told.behind.shape[1]), told.behind)
            for s in range(count):
                for i in range(out):
                    flow = grad_reads[first + s, b, out + i] + told.behind[s, i] if learns[first + s, b] else zero
                    grad_target[first + s, b, i], told.behind[s, i] = flow, -flow
                    told.ahead[s, i] = grad_reads[first + s, b, i]
                    told.error[s, i] = reads[first + s, b, out + i]
            add_into(given, owns[piece], whole)
            for r in range(0, wide, LANES):
                stood, waits = tile(whole, (0, r), size), tile(pending, (0, r), size)
                for s in range(count):
                    store(key_grads, (0, s, r), along(told.ahead, (s, 0), stood))
                    store(key_grads, (1, s, r), along(told.behind, (s, 0), stood))
                for s in range(count):
                    pulled = add(load(key_grads, (1, s, r)), along(told.error, (s, 0), waits))
                    store(key_grads, (1, s, r), pulled)
            for s in range(count):
                row = (first + s) * batch + b
                unit_adjoint(told.now, s, told.norms[s, 0], key_grads[0], s, width, grad_now_rows, row)
                unit_adjoint(told.past, s, told.norms[s, 1], key_grads[1], s, width, grad_before_rows, row)
            step[:] = 0.0
            _add_products(size, told.ahead, told.now, count, step)
            _add_products(size, told.behind, told.past, count, step)
            add_into(grown, step, grown)
            add_into(base_grown, step, base_grown)
            if resets[first, b]:
                grown[:], pending[:] = 0.0, 0.0
        drain(grown, grad_delta[b])
        drain(pending, grad_gradient[b])
    for i in range(out):
        for j in range(width):
            grad_base[i, j] += base_grown[i, j]
