"""Layers for who acts on CPU: one step of all streams, streams side by side in vectors, features one below the other.

With few streams a step's products are small, and each call of a general library costs more than its numbers. Blocks
here are [features, S], S streams rounded up to whole vectors of 16 (``lanes``); whoever fills the rest with zeros gets
finite numbers there. Then weights are read as they lie ([outputs, inputs], as torch keeps them), and what is summed
over features (layer norms, lengths) is summed over rows. Sums are taken in one fixed order: a stream's numbers do not
depend on its neighbours or on how many there are.
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
    largest,
    load,
    mul,
    padded,
    root,
    splat,
    store,
    sub,
)  # fmt: skip
from nl_agents.memory.tiles import HALF, no_tile, pushed, put, tile, weighed

Array = NDArray[Any]
ONE = (0,)
"""The ``size`` of a tile of one row."""


@compiled
def side_by_side(rows: Array) -> Array:
    """Turns rows [B, N] into a block [N, S], zeros behind the last stream."""
    batch, count = rows.shape
    out = np.zeros((count, padded(batch)), rows.dtype)
    for b in range(batch):
        for n in range(count):
            out[n, b] = rows[b, n]
    return out


@compiled
def in_rows(block: Array, first: int, rows: Array) -> None:
    """Writes N rows of a block from ``first`` on into rows [B, N], one a stream."""
    batch, count = rows.shape
    for b in range(batch):
        for n in range(count):
            rows[b, n] = block[first + n, b]


@compiled
def linear(weight: Array, bias: Array, given: Array, first: int, out: Array, adds: bool) -> None:
    """Writes (or adds to) out [O, S]: weight [O, I] times I rows of ``given`` from ``first`` on, plus bias [O].

    A bias of length 0 is none.
    """
    outputs, inputs = weight.shape
    zero, one = weight.dtype.type(0.0), splat(weight.dtype.type(1.0))
    whole = outputs // len(HALF) * len(HALF)
    for s in range(0, given.shape[1], LANES):
        for o in range(0, whole, len(HALF)):
            some = tile(out, (o, s), HALF) if adds else no_tile(zero, HALF)
            if len(bias):
                some = pushed(some, bias, (o,), one)
            for i in range(inputs):
                some = weighed(some, weight, (o, i), load(given, (first + i, s)))
            put(out, (o, s), some)
        for o in range(whole, outputs):
            single = tile(out, (o, s), ONE) if adds else no_tile(zero, ONE)
            if len(bias):
                single = pushed(single, bias, (o,), one)
            for i in range(inputs):
                single = weighed(single, weight, (o, i), load(given, (first + i, s)))
            put(out, (o, s), single)


@compiled
def layer_norm(given: Array, first: int, count: int, weight: Array, bias: Array, out: Array) -> None:
    """Writes rows first .. first + count of out: those of ``given`` less their mean, by their deviation (eps 1e-5).

    ``weight`` and ``bias`` [count] scale and shift them; of length 0 they do nothing.
    """
    dtype = given.dtype
    share, eps = splat(dtype.type(1.0 / count)), splat(dtype.type(1e-5))
    one, zero = splat(dtype.type(1.0)), splat(dtype.type(0.0))
    for s in range(0, given.shape[1], LANES):
        summed = zero
        for n in range(first, first + count):
            summed = add(summed, load(given, (n, s)))
        mean, square = mul(summed, share), zero
        for n in range(first, first + count):
            off = sub(load(given, (n, s)), mean)
            square = fma(off, off, square)
        scale = div(one, root(fma(square, share, eps)))
        for n in range(first, first + count):
            normal = mul(sub(load(given, (n, s)), mean), scale)
            if len(weight):
                normal = fma(normal, splat(weight[n - first]), splat(bias[n - first]))
            store(out, (n, s), normal)


@compiled
def to_units(block: Array, first: int, groups: int, count: int) -> None:
    """Shortens (or lengthens) every group of ``count`` rows from ``first`` on to length 1; lengths count as >= 1e-6."""
    dtype = block.dtype
    zero, one, least = splat(dtype.type(0.0)), splat(dtype.type(1.0)), dtype.type(1e-6)
    for start in range(first, first + groups * count, count):
        for s in range(0, block.shape[1], LANES):
            square = zero
            for n in range(start, start + count):
                square = fma(load(block, (n, s)), load(block, (n, s)), square)
            scale = div(one, largest(root(square), splat(least)))
            for n in range(start, start + count):
                store(block, (n, s), mul(load(block, (n, s)), scale))


@compiled
def silu(block: Array) -> None:
    """Replaces every x by x / (1 + exp(-x))."""
    one, zero = splat(block.dtype.type(1.0)), splat(block.dtype.type(0.0))
    for n in range(block.shape[0]):
        for s in range(0, block.shape[1], LANES):
            x = load(block, (n, s))
            store(block, (n, s), div(x, add(one, exponential(sub(zero, x)))))


@compiled
def squash(block: Array, gain: Array) -> None:
    """Replaces row n by tanh(gain[n] * row n)."""
    one, two = splat(block.dtype.type(1.0)), splat(block.dtype.type(2.0))
    for n in range(block.shape[0]):
        for s in range(0, block.shape[1], LANES):
            twice = mul(two, mul(splat(gain[n]), load(block, (n, s))))
            store(block, (n, s), sub(one, div(two, add(one, exponential(twice)))))
