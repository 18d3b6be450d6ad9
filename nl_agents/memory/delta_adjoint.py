"""Adjoint of the self-modifying memory's compiled form: each head of each stream, piece by piece from the last.

A piece's memories are written once more from the one at its start, which the forward pass kept. Then only the gradient
of the running memory goes from step to step; what comes back through the anchored products is taken for a whole piece
at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nl_agents.memory.delta_kernel import (
    Array,
    Rows,
    Span,
    Steps,
    add_into,
    fill,
    foresee,
    gates_back,
    gates_last,
    piece_end,
    room,
    spans,
    turn,
)
from nl_agents.memory.lanes import (
    LANES,
    add,
    compiled,
    fma,
    load,
    mul,
    padded,
    splat,
    store,
    sub,
    total,
    unit_adjoint,
)
from nl_agents.memory.tiles import (
    HALF,
    SQUARE,
    along,
    gathered,
    no_tile,
    pushed,
    put,
    put_totals,
    scaled,
    tile,
    together,
)


class Gradients(NamedTuple):
    """Gradients of the steps of a piece, one row a step (K here: with room for whole vectors)."""

    expected: Array  # [*, wide] of what the matrices expected at the key
    raw: Array  # [*, wide] of the targets before they were bent
    read: Array  # [*, wide] of the answer to the query
    p: Array  # [*, wide] of the rows of key, value and gates
    key: Array  # [*, K] of the unit key
    query: Array  # [*, K] of the unit query
    value: Array  # [*, K]
    input: Array  # [*, K] of the unit input
    scalars: Array  # [*, 2] of the retention's logarithm and of the step size


@compiled
def _room(like: Array, steps: int) -> Gradients:
    """Makes room for the gradients of some steps on matrices ``like`` [K, wide]."""
    height, wide, dtype = like.shape[0], like.shape[1], like.dtype
    broad, narrow = np.zeros((4, steps, wide), dtype), np.zeros((4, steps, padded(height) + LANES), dtype)
    scalars = np.zeros((steps, 2), dtype)
    return Gradients(broad[0], broad[1], broad[2], broad[3], narrow[0], narrow[1], narrow[2], narrow[3], scalars)


@compiled
def _rewrite(size: Rows, path: Array, count: int, told: Steps, error: Array) -> None:
    """Writes path[s + 1] [K, wide], the memory after step s, and error[s] of a piece's steps, from path[0]."""
    k, gates, aim = told.k, told.gates, told.aim
    for r in range(0, path.shape[2], LANES):
        memory = tile(path, (0, 0, r), size)
        for s in range(count):
            wrong = sub(load(aim, (s, r)), along(k, (s, 0), memory))
            store(error, (s, r), wrong)
            faded = scaled(memory, splat(gates[s, 2]))
            memory = pushed(faded, k, (s, 0), mul(splat(gates[s, 0]), wrong))
            put(path, (s + 1, 0, r), memory)


@compiled
def _recur(
    size: Rows, path: Array, count: int, told: Steps, error: Array, grown: Array, reads: Span, out: Gradients
) -> None:
    """Passes ``grown`` [K, wide], the gradient of the memory, back over a piece's writes and reads.

    Fills ``out``'s gradients of what was expected, of the raw targets and of the scalars, and those of keys and queries
    as far as they come from the running memory. That of retention needs no product of matrices: with G_t the gradient
    of memory M_t after step t, I_t = <G_t, M_t> and M_t = alpha M_t-1 + beta k e^T,

        alpha <G_t, M_t-1> = I_t - beta e . G_t^T k
        I_t-1 = alpha <G_t, M_t-1> + (gradients of step t's products) . products
    """
    q, k, gates, bend, aim = told.q, told.k, told.gates, told.bend, told.aim
    zero, height, wide = grown.dtype.type(0.0), grown.shape[0], grown.shape[1]
    inner = splat(zero)
    for r in range(0, wide, LANES):
        inner = add(inner, together(tile(grown, (0, r), size), tile(path, (count, 0, r), size)))
    product = total(inner)
    for s in range(count - 1, -1, -1):
        keep, beta, push = splat(gates[s, 2]), splat(gates[s, 0]), splat(-gates[s, 0])
        pulled, known_now = splat(zero), splat(zero)
        for r in range(0, wide, LANES):
            found, wrong = along(k, (s, 0), tile(grown, (0, r), size)), load(error, (s, r))
            expected = mul(push, found)
            store(out.expected, (s, r), expected)
            store(out.raw, (s, r), mul(mul(beta, found), load(bend, (s, r))))
            pulled = fma(found, wrong, pulled)
            known_now = fma(expected, sub(load(aim, (s, r)), wrong), known_now)
        for j in range(0, height, 8):
            for_key, for_query = no_tile(zero, HALF), no_tile(zero, HALF)
            for r in range(0, wide, LANES):
                g, stood, expected = tile(grown, (j, r), HALF), tile(path, (s, j, r), HALF), load(out.expected, (s, r))
                for_key = gathered(gathered(for_key, g, mul(beta, load(error, (s, r)))), stood, expected)
                g = pushed(scaled(g, keep), k, (s, j), expected)
                if reads[0] <= r < reads[1]:
                    asked = load(out.read, (s, r))
                    for_query = gathered(for_query, stood, asked)
                    g = pushed(g, q, (s, j), asked)
                put(grown, (j, r), g)
            put_totals(out.key, (s, j), for_key)
            put_totals(out.query, (s, j), for_query)
        steps = total(pulled)
        out.scalars[s, 0], out.scalars[s, 1] = product - gates[s, 0] * steps, steps
        product = out.scalars[s, 0] + total(known_now)
        for j in range(height):
            product += q[s, j] * out.query[s, j]


@compiled
def _add_answers(matrix: Array, asked: Array, count: int, columns: Span, out: Array) -> None:
    """Adds sum_r asked[s, r] matrix[r] over some r to out[s], for s < count; matrix [wide, >= K]."""
    for j in range(0, matrix.shape[1], LANES):
        for r in range(columns[0], columns[1], LANES):
            square = tile(matrix, (r, j), SQUARE)
            for s in range(count):
                store(out, (s, j), add(load(out, (s, j)), along(asked, (s, r), square)))


@compiled
def _add_products(size: Rows, x: Array, place: int, y: Array, count: int, columns: Span, out: Array) -> None:
    """Adds sum_s x[s, place : place + K] (outer) y[s] over s < count to some columns of out [K, wide]."""
    for r in range(columns[0], columns[1], LANES):
        summed = tile(out, (0, r), size)
        for s in range(count):
            summed = pushed(summed, x, (s, place), load(y, (s, r)))
        put(out, (0, r), summed)


@compiled
def _reflect(told: Steps, grads: Gradients, s: int, limit: float, place: int) -> None:
    """Gradient of the step gate where steps may reflect, beta = alpha limit sigma with a share of the target.

    Adds to retention's what comes from beta. share = 2 / (limit sigma) - 1 falls by 1 + share a unit of log sigma.
    """
    flow, share = grads.scalars[s, 1] * told.gates[s, 0], told.gates[s, 3]  # of log beta
    grads.scalars[s, 0] += flow
    if share < 1.0:
        for r in range(told.target.shape[1]):
            flow += grads.expected[s, r] * told.target[s, r] * (1.0 + share)  # expected holds minus the target's
    grads.p[s, place] = flow * (1.0 - told.gates[s, 0] / (told.gates[s, 2] * limit))


@compiled
def _settle(
    size: Rows,
    width: int,
    count: int,
    turned: Array,
    told: Steps,
    grads: Gradients,
    given: Array,
    lent: Array,
    rate: float,
    limit: float,
    grad_bias: Array,
) -> float:
    """All of a piece's gradients that no step waits for.

    Adds to ``given`` and ``lent``, the gradients of the meta-learned matrices and of the anchor [K, wide], and to
    ``grad_bias`` [2]; returns the gradient of the rate.
    """
    wide, gate = given.shape[1], 3 * width
    early, late, reads = spans(width, wide)
    gates, p = told.gates, grads.p
    _add_answers(turned[0], grads.expected, count, (0, wide), grads.key)
    _add_answers(turned[0], grads.read, count, reads, grads.query)
    _add_products(size, told.k, 0, grads.expected, count, (0, wide), given)
    _add_products(size, told.q, 0, grads.read, count, reads, given)
    grads.value[:count, :], grads.input[:count, :] = 0.0, 0.0
    _add_answers(turned[1], grads.raw, count, (0, wide), grads.value)
    _add_products(size, told.p, width, grads.raw, count, (0, wide), lent)
    for_rate: float = p.dtype.type(0.0)
    for s in range(count):
        unit_adjoint(told.k, s, told.norms[s, 2], grads.key, s, width, p, s)
        for j in range(width):
            p[s, width + j] = grads.value[s, j]
        if limit > 1.0:
            _reflect(told, grads, s, limit, gate)
        else:
            p[s, gate] = grads.scalars[s, 1] * gates[s, 0] * (1.0 - gates[s, 0] / limit)
        p[s, gate + 1] = -grads.scalars[s, 0] * rate * gates[s, 1] * (1.0 - gates[s, 1])
        grad_bias[0] += p[s, gate]
        grad_bias[1] += p[s, gate + 1]
        for_rate -= grads.scalars[s, 0] * gates[s, 1]
    for columns in (early, late):
        _add_answers(turned[1], p, count, columns, grads.input)
        _add_products(size, told.c, 0, p, count, columns, lent)
    return for_rate


@compiled
def run_adjoint(
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
    kept: Array,
    grad_out: Array,
    grad_delta: Array,
    grad_anchor: Array,
    grad_mixed: Array,
    grad_base: Array,
    grad_bias: Array,
    grad_rate: Array,
    some: Span,
) -> None:
    """Adjoint of ``delta_kernel.run``: arguments as there (``delta``, ``anchor`` before the first step, left alone).

    ``grad_delta`` and ``grad_anchor`` hold the gradients of the outputs and end as those of the inputs; ``grad_mixed``
    and ``grad_base`` are written; ``grad_bias`` and ``grad_rate`` are added to.
    """
    steps, batch, _, heads, width = mixed.shape
    rows, dtype, longest = base.shape[2], base.dtype, min(steps, period)
    wide = padded(rows)
    reads = spans(width, wide)[2]
    path = np.zeros((longest + 1, len(size), wide), dtype)  # memory at a piece's start and after each of its steps
    begins = np.empty(steps + 1, np.int64)  # first steps of pieces
    matrices = np.zeros((5, len(size), wide), dtype)
    start, anchored = matrices[0], matrices[1]
    grown, lent, given = matrices[2], matrices[3], matrices[4]  # gradients of the memory, of the anchor, of M_0
    turned = np.zeros((2, wide, padded(len(size))), dtype)
    told, grads, error = room(start, longest), _room(start, longest), np.zeros((longest, wide), dtype)
    mixed_rows = mixed.reshape(steps * batch * 3 * heads, width)
    grad_rows = grad_mixed.reshape(steps * batch * 3 * heads, width)
    base_grown = np.zeros((len(size), wide), dtype)
    for h in range(some[0], some[1]):
        base_grown[:, :] = 0.0
        gates_last(base[h], start)
        turn(start, turned[0])
        for b in range(batch):
            begins[0], pieces = 0, 0
            while begins[pieces] < steps:
                begins[pieces + 1] = piece_end(begins[pieces], b, first, valid, clears[h], period, phase)
                pieces += 1
            gates_last(grad_delta[b, h], grown)
            gates_last(grad_anchor[b, h], lent)
            given[:, :] = -lent  # what later comes in with ``lent`` is to be the part of the anchored products alone
            for piece in range(pieces - 1, -1, -1):
                now, count = begins[piece], begins[piece + 1] - begins[piece]
                reset = clears[h] and first[now, b] and valid[now, b]
                if (phase + now + count) % period == 0:
                    add_into(grown, lent, grown)
                    add_into(given, lent, given)
                    lent[:, :] = 0.0
                path[0], anchored[:, :] = 0.0, 0.0
                if not reset and now == 0:
                    gates_last(delta[b, h], path[0])
                    gates_last(anchor[b, h], anchored)
                elif not reset:  # the end of a chunk parted the two
                    fill(kept[b, h, (phase + now) // period - phase // period - 1], path[0])
                    anchored[:, :] = path[0]
                add_into(start, anchored, anchored)
                turn(anchored, turned[1])
                foresee(size, mixed_rows, width, valid, bias, rate, limit, b, h, now, count, start, anchored, told)
                _rewrite(size, path, count, told, error)
                for s in range(count):
                    for j in range(width):
                        grads.read[s, 2 * width + j] = grad_out[now + s, b, h, j]
                _recur(size, path, count, told, error, grown, reads, grads)
                grad_rate[h] += _settle(
                    size, width, count, turned, told, grads, given, lent, rate[h], limit, grad_bias[h]
                )
                for s in range(count):
                    row = ((now + s) * batch + b) * 3 * heads + h
                    unit_adjoint(told.c, s, told.norms[s, 0], grads.input, s, width, grad_rows, row)
                    unit_adjoint(told.q, s, told.norms[s, 1], grads.query, s, width, grad_rows, row + heads)
                if reset:
                    add_into(given, lent, given)
                    lent[:, :], grown[:, :] = 0.0, 0.0
            add_into(given, lent, given)
            add_into(base_grown, given, base_grown)
            gates_back(grown, grad_delta[b, h])
            gates_back(lent, grad_anchor[b, h])
        gates_back(base_grown, grad_base[h])
