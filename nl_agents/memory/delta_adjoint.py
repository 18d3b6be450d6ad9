"""Adjoint of the self-modifying memory's compiled form: each head of each stream forward once more, then backward."""

from __future__ import annotations

import numpy as np

from nl_agents.memory.delta_kernel import Array, add_into, ask, drain, fill, write
from nl_agents.memory.lanes import (
    LANES,
    add,
    compiled,
    div,
    fma,
    load,
    mul,
    padded,
    root,
    splat,
    store,
    total,
    unit,
    unit_adjoint,
)


@compiled
def _through(matrix: Array, x: Array, t: int, first: int, rows: Array, stop: int, grad: Array, lent: Array) -> None:
    """Adjoint of y = matrix^T x with x = x[t, first : first + K]: grad = matrix rows, lent += x rows^T."""
    for j in range(matrix.shape[0]):
        xj, found = splat(x[t, first + j]), splat(matrix.dtype.type(0.0))
        for r in range(0, stop, LANES):
            row = load(rows, (r,))
            found = fma(load(matrix, (j, r)), row, found)
            store(lent, (j, r), fma(xj, row, load(lent, (j, r))))
        grad[j] = total(found)


@compiled
def _from_error(
    grown: Array, path: Array, t: int, gates: Array, k: Array, z: Array, error: Array, gy: Array, gz: Array
) -> tuple[float, float]:
    """Fills the gradients of what is expected (gy, negated target) and of the raw target (gz).

    Returns:
        The gradients of the retention and of the step size.
    """
    width, wide = grown.shape
    dtype = grown.dtype
    zero, one = splat(dtype.type(0.0)), splat(dtype.type(1.0))
    push, pull = splat(-gates[t, 3]), splat(gates[t, 3])
    flow, steps = zero, zero
    for r in range(0, wide, LANES):
        found, kept = zero, zero  # short chains of sums run side by side
        for j in range(width):
            g = load(grown, (j, r))
            found = fma(splat(k[t, j]), g, found)
            kept = fma(g, load(path, (t, j, r)), kept)
        flow = add(flow, kept)
        steps = fma(found, load(error, (t, r)), steps)
        store(gy, (r,), mul(push, found))
        raw = load(z, (t, r))
        square = fma(raw, raw, one)
        store(gz, (r,), div(mul(pull, found), mul(square, root(square))))
    return total(flow), total(steps)


@compiled
def _from_write(
    start: Array,
    grown: Array,
    given: Array,
    path: Array,
    t: int,
    gates: Array,
    k: Array,
    q: Array,
    error: Array,
    gy: Array,
    read: Array,
    gk: Array,
    gq: Array,
) -> None:
    """Passes ``grown`` back over the write of step t and adds that of its read (which saw the same matrices)."""
    width, wide = grown.shape
    zero = splat(grown.dtype.type(0.0))
    keep, beta = splat(gates[t, 5]), splat(gates[t, 3])
    for j in range(width):
        kj, qj = splat(k[t, j]), splat(q[t, j])
        for_key, for_query = zero, zero
        for r in range(0, wide, LANES):
            g, stood = load(grown, (j, r)), add(load(start, (j, r)), load(path, (t, j, r)))
            expected, asked = load(gy, (r,)), load(read, (r,))
            for_key = fma(mul(beta, load(error, (t, r))), g, fma(expected, stood, for_key))
            for_query = fma(asked, stood, for_query)
            pushed = fma(kj, expected, mul(qj, asked))
            store(grown, (j, r), fma(keep, g, pushed))
            store(given, (j, r), add(load(given, (j, r)), pushed))
        gk[j], gq[j] = total(for_key), total(for_query)


@compiled
def _from_read(start: Array, grown: Array, given: Array, path: Array, t: int, q: Array, read: Array, gq: Array) -> None:
    """Adds the gradient of the read of step t, where nothing was written."""
    width, wide = grown.shape
    for j in range(width):
        qj, for_query = splat(q[t, j]), splat(grown.dtype.type(0.0))
        for r in range(0, wide, LANES):
            asked = load(read, (r,))
            for_query = fma(asked, add(load(start, (j, r)), load(path, (t, j, r))), for_query)
            store(grown, (j, r), fma(qj, asked, load(grown, (j, r))))
            store(given, (j, r), fma(qj, asked, load(given, (j, r))))
        gq[j] = total(for_query)


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
    """Adjoint of ``delta_kernel.run``: arguments as there (``delta``, ``anchor`` before the first step, left alone).

    ``grad_delta`` and ``grad_anchor`` hold the gradients of the outputs and end as those of the inputs; ``grad_mixed``
    is written; ``grad_base``, ``grad_bias`` and ``grad_rate`` are added to.
    """
    steps, batch, _, heads, width = mixed.shape
    rows, dtype = base.shape[2], base.dtype
    two, wide = 2 * width + 2, padded(rows)
    path = np.zeros((steps + 1, width, wide), dtype)  # deviation before every step, after its reset
    source = np.empty(steps, np.int64)  # whence a step's anchor: the step whose write closed a chunk, -1 given, -2 zero
    c, q, k = np.empty((steps, width), dtype), np.empty((steps, width), dtype), np.empty((steps, width), dtype)
    p, z, error = np.zeros((steps, wide), dtype), np.zeros((steps, wide), dtype), np.zeros((steps, wide), dtype)
    norms, gates = np.empty((3, steps), dtype), np.empty((steps, 6), dtype)
    start, given_anchor = np.zeros((width, wide), dtype), np.zeros((width, wide), dtype)
    anchored = np.zeros((width, wide), dtype)
    grown = np.zeros((width, wide), dtype)  # gradient of the deviation
    lent = np.zeros((width, wide), dtype)  # gradient of the anchor
    given = np.zeros((width, wide), dtype)  # gradient of M_0
    gy, gz, gp, read = np.zeros(wide, dtype), np.zeros(wide, dtype), np.zeros(wide, dtype), np.zeros(wide, dtype)
    gk, gv, gc, gq = np.empty(width, dtype), np.empty(width, dtype), np.empty(width, dtype), np.empty(width, dtype)
    one, zero = dtype.type(1.0), dtype.type(0.0)
    for h in range(heads):
        fill(base[h], start)
        for b in range(batch):
            # forward once more
            fill(delta[b, h], path[0])
            fill(anchor[b, h], given_anchor)
            add_into(start, given_anchor, given_anchor)
            fill(given_anchor, anchored)
            origin = -1
            for t in range(steps):
                alive = valid[t, b]
                if alive and first[t, b] and clears[h]:
                    path[t] = zero
                    fill(start, anchored)
                    origin = -2
                source[t] = origin
                norms[1, t] = unit(mixed[t, b, 1, h], q, t)
                if alive:
                    gates[t, 0], gates[t, 1], gates[t, 2] = bias[h, 0], bias[h, 1], rate[h]
                    norms[0, t] = unit(mixed[t, b, 0, h], c, t)
                    norms[2, t] = ask(anchored, c, gates, p, k, z, t)
                    write(start, path, t, t + 1, gates, k, z, error, t)
                else:
                    fill(path[t], path[t + 1])
                if (phase + t + 1) % period == 0:
                    add_into(start, path[t + 1], anchored)
                    origin = t
            # and backward
            fill(grad_delta[b, h], grown)
            fill(grad_anchor[b, h], lent)
            given[:] = -lent  # what later comes in with ``lent`` is to be the part of the anchored products alone
            current = -3
            for t in range(steps - 1, -1, -1):
                if (phase + t + 1) % period == 0:
                    add_into(grown, lent, grown)
                    add_into(given, lent, given)
                    lent[:] = zero
                for i in range(width):
                    read[two + i] = grad_out[t, b, h, i]
                alive = valid[t, b]
                if alive:
                    if source[t] != current:
                        current = source[t]
                        if current == -1:
                            fill(given_anchor, anchored)
                        elif current == -2:
                            fill(start, anchored)
                        else:
                            add_into(start, path[current + 1], anchored)
                    for_keep, for_step = _from_error(grown, path, t, gates, k, z, error, gy, gz)
                    _from_write(start, grown, given, path, t, gates, k, q, error, gy, read, gk, gq)
                    _through(anchored, p, t, width, gz, wide, gv, lent)  # the targets
                    unit_adjoint(k, t, norms[2, t], gk, gp[:width])
                    for j in range(width):
                        gp[width + j] = gv[j]
                    beta, gate, keep = gates[t, 3], gates[t, 4], gates[t, 5]
                    for_log = for_keep * keep
                    gp[two - 2] = for_step * beta * (one - beta)
                    gp[two - 1] = -for_log * rate[h] * gate * (one - gate)
                    grad_bias[h, 0] += gp[two - 2]
                    grad_bias[h, 1] += gp[two - 1]
                    grad_rate[h] -= for_log * gate
                    _through(anchored, c, t, 0, gp, padded(two), gc, lent)  # key, value, gates
                    unit_adjoint(c, t, norms[0, t], gc, grad_mixed[t, b, 0, h])
                else:
                    grad_mixed[t, b, 0, h] = zero
                    _from_read(start, grown, given, path, t, q, read, gq)
                unit_adjoint(q, t, norms[1, t], gq, grad_mixed[t, b, 1, h])
                if alive and first[t, b] and clears[h]:
                    add_into(given, lent, given)
                    lent[:], grown[:] = zero, zero
            add_into(given, lent, given)
            for j in range(width):
                for r in range(rows):
                    grad_base[h, j, r] += given[j, r]
            drain(grown, grad_delta[b, h])
            drain(lent, grad_anchor[b, h])
