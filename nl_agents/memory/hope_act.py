"""The Hope core's act step on CPU: a few compiled calls instead of some fifty operations.

The equations are those of ``hope``, ``delta_scan`` and ``continuum``; the numbers equal theirs to rounding. The
matrices of the state, and its other leaves, are changed in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from nl_agents.memory.delta_kernel import Array, Rows
from nl_agents.memory.delta_step import run_step
from nl_agents.memory.lanes import LANES, add, compiled, load, splat, total
from nl_agents.memory.level_kernel import run_level
from nl_agents.memory.sound import LARGEST
from nl_agents.memory.streams import in_rows, layer_norm, linear, side_by_side, silu, squash
from nl_agents.memory.tiles import whole_rows
from nl_agents.memory.views import Views

if TYPE_CHECKING:
    from nl_agents.memory.hope import HopeCore, HopeState

PRECISIONS = (torch.float32, torch.float64)


@compiled
def _adds_up(numbers: Array) -> bool:
    """Whether a contiguous array's sum is finite: false wherever one of the numbers is not."""
    flat = numbers.ravel()
    whole = len(flat) // (4 * LANES) * 4 * LANES
    a, b = splat(flat.dtype.type(0.0)), splat(flat.dtype.type(0.0))
    c, d = a, b
    for n in range(0, whole, 4 * LANES):
        a, b = add(a, load(flat, (n,))), add(b, load(flat, (n + LANES,)))
        c, d = add(c, load(flat, (n + 2 * LANES,))), add(d, load(flat, (n + 3 * LANES,)))
    summed = total(add(add(a, b), add(c, d)))
    for n in range(whole, len(flat)):
        summed += flat[n]
    return bool(np.isfinite(summed))


@compiled
def _lies_within(numbers: Array, largest: float) -> bool:
    """Whether no number of an array is beyond +-``largest``, nor a nan."""
    beyond = 0
    for number in numbers.ravel():
        beyond += not (-largest <= number <= largest)
    return beyond == 0


@compiled
def all_sound(
    x: Array, action: Array, delta: Array, anchor: Array, level: Array, gradient: Array, key: Array, signal: Array
) -> bool:
    """Whether all that a step is told lies within ``LARGEST`` and all that it remembers adds up to a finite sum."""
    told = _lies_within(x, LARGEST) and _lies_within(action, LARGEST) and _adds_up(key) and _adds_up(signal)
    return told and _adds_up(delta) and _adds_up(anchor) and _adds_up(level) and _adds_up(gradient)


@compiled
def embed(x: Array, weight: Array, bias: Array) -> Array:
    """The core's first layer on rows [B, I]; a block [D, S]."""
    out = np.empty((weight.shape[0], x.shape[1]), x.dtype)
    linear(weight, bias, x, 0, out, False)
    return out


@compiled
def remember(
    h: Array,
    norm: tuple[Array, Array],
    mix: tuple[Array, Array],
    matrices: tuple[Array, Array, Array, Array],
    out: tuple[Array, Array],
    size: Rows,
    clears: Array,
    state: tuple[Array, Array],
    flags: tuple[Array, Array],
    period: int,
    phase: int,
) -> None:
    """Adds to h [D, S] what the self-modifying memory reads, and writes the memory.

    ``matrices`` are memory_0 [H, R, K], residual [R, K], the gates' bias [H, 2] and log tau [H]; see
    ``delta_kernel.run`` for size, state and flags.
    """
    (memory_0, residual, bias, log_tau), (delta, anchor), (first, valid) = matrices, state, flags
    heads, rows, width = memory_0.shape
    none = h[0, :0]
    normal, block = np.empty_like(h), np.empty((mix[0].shape[0], h.shape[1]), h.dtype)
    layer_norm(h, 0, len(h), norm[0], norm[1], normal)
    linear(mix[0], mix[1], normal, 0, block, False)
    base = np.empty((heads, width, rows), h.dtype)
    for i in range(heads):
        for r in range(rows):
            for j in range(width):
                base[i, j, r] = memory_0[i, r, j] + residual[r, j]
    rate, answer = (2.0 * np.exp(-log_tau)).astype(h.dtype), np.zeros((heads * width, h.shape[1]), h.dtype)
    closes = (phase + 1) % period == 0
    run_step(size, block, base, bias, rate, clears, delta, anchor, first[0], valid[0], closes, answer)
    gate = block[2 * heads * width :]
    for i in range(heads):
        layer_norm(answer, i * width, width, none, none, answer)
    silu(gate)
    answer *= gate
    linear(out[0], out[1], answer, 0, h, True)


@compiled
def foretell(
    z: Array,
    x: Array,
    key: tuple[Array, Array],
    push: Array,
    matrices: tuple[Array, Array, Array, Array],
    size: Rows,
    scalars: tuple[Array, Array],
    actions: Array,
    memories: tuple[Array, Array],
    last: tuple[Array, Array],
    flags: tuple[Array, Array],
    clears: bool,
    period: int,
    phase: int,
) -> None:
    """Adds to z [D, S] what the act-time level reads, and writes the level.

    ``push`` [K, A] takes ``actions`` [B, A] to the keys; ``matrices`` are memory_0 [P, K], the targets' gain [P], omega
    [P, I] and the read-out [D, 2P]; ``size`` is for ``run_level``; ``scalars`` log tau and the logit of the rate;
    ``memories`` delta and gradient [B, P, K]; ``last`` key [B, K] and signal [B, P] of the last valid step.
    """
    (base, gain, omega, out), (old_key, old_signal), (first, valid) = matrices, last, flags
    (outputs, count), (batch, wide), dtype, none = base.shape, (first.shape[1], z.shape[1]), z.dtype, z[0, :0]
    normal, raw, signal = np.empty_like(z), np.empty((count, wide), dtype), np.empty((outputs, wide), dtype)
    layer_norm(z, 0, len(z), none, none, normal)
    linear(key[0], key[1], normal, 0, raw, False)
    linear(omega, none, x, 0, signal, False)
    pushed, target = np.empty_like(raw), signal - side_by_side(old_signal)
    linear(push, none, side_by_side(actions), 0, pushed, False)
    before, now = side_by_side(old_key) + pushed, raw + pushed
    silu(before)
    silu(now)
    squash(target, gain)
    keys, targets = np.empty((2, 1, batch, count), dtype), np.empty((1, batch, outputs), dtype)
    in_rows(now, 0, keys[0, 0])
    in_rows(before, 0, keys[1, 0])
    in_rows(target, 0, targets[0])
    reads, resets = np.empty((1, batch, 2 * outputs), dtype), np.zeros_like(first)
    if clears:
        resets[:] = first & valid
    keep, rate = np.exp(-period * np.exp(-scalars[0].item())), 1.0 / (1.0 + np.exp(-scalars[1].item())) / period
    run_level(
        size, keys[0], keys[1], targets, ~first & valid, resets, base, keep, rate, memories[0], memories[1],
        period, phase, reads, memories[0], memories[1],
    )  # fmt: skip
    linear(out, none, side_by_side(reads[0]), 0, z, True)
    for b in range(batch):
        if valid[0, b]:
            for j in range(count):
                old_key[b, j] = raw[j, b]
            for i in range(outputs):
                old_signal[b, i] = signal[i, b]


@compiled
def refine(z: Array, norm_w: Array, norm_b: Array, up_w: Array, up_b: Array, down_w: Array, down_b: Array) -> None:
    """A learner-time level on a block [D, S], in place."""
    normal, hidden = np.empty_like(z), np.empty((up_w.shape[0], z.shape[1]), z.dtype)
    layer_norm(z, 0, len(z), norm_w, norm_b, normal)
    linear(up_w, up_b, normal, 0, hidden, False)
    silu(hidden)
    linear(down_w, down_b, hidden, 0, z, True)


@compiled
def say(z: Array, weight: Array, bias: Array, out: Array) -> None:
    """The last layer norm: a block [D, S] to rows [B, D]."""
    normal = np.empty_like(z)
    layer_norm(z, 0, len(z), weight, bias, normal)
    in_rows(normal, 0, out)


class Weights(Views):
    """A core's parameters as the compiled functions take them."""

    def __init__(self, core: HopeCore) -> None:
        super().__init__()
        memory, level = core.memory, core.fast
        self.embed = self.layer(core.embed) if isinstance(core.embed, nn.Linear) else None
        self.norm, self.mix, self.memory_out = self.layer(core.norm), self.layer(memory.mix), self.layer(memory.out)
        matrices = self.parameter(memory, "memory_0"), self.buffer(memory, "residual")
        self.matrices = (*matrices, self.parameter(memory, "gate_bias"), self.parameter(memory, "log_tau"))
        self.clears = self.buffer(memory, "clears")
        self.size = (0,) * memory.key_size
        self.key = self.layer(level.key)
        empty = np.empty((level.size, 0), self.key[0].dtype)
        self.push = empty if level.action is None else self.parameter(level.action, "weight")
        matrices = self.parameter(level, "memory_0"), self.parameter(level, "gain")
        self.level = (*matrices, self.buffer(level, "omega"), self.parameter(level.out, "weight"))
        self.level_size = whole_rows(level.size)
        self.scalars = self.parameter(level, "log_tau"), self.parameter(level, "rate_logit")
        self.slow = [
            sum((self.layer(getattr(each, name)) for name in ("norm", "up", "down")), ()) for each in core.slow
        ]
        self.close = self.layer(core.norm_out)


def serves(core: HopeCore, x: Tensor) -> bool:
    """Whether ``step`` can do it: one step on CPU in single or double precision, long enough rows, steps up to 1."""
    memory, dtype = core.memory, core.memory.memory_0.dtype
    fits = memory.rows >= LANES and memory.step_limit == 1.0 and memory.fade == 1.0
    return fits and len(x) == 1 and x.is_cpu and x.dtype == dtype and dtype in PRECISIONS


def step(
    core: HopeCore,
    x: Tensor,
    state: HopeState,
    is_first: Tensor,
    is_valid: Tensor | None,
    last_action: Tensor | None,
    phase: int,
) -> tuple[Tensor, HopeState] | None:
    """``HopeCore.forward`` for one step x [1, B, I] without gradients; ``state`` is given away.

    None, with nothing changed, where something is not finite, or huge.
    """
    weights, level = core.views.of(lambda: Weights(core)), core.fast
    state = core.state_type(*(leaf.contiguous() for leaf in state))
    delta, anchor, level_delta, level_gradient, key, signal, clock = (leaf.numpy() for leaf in state)
    first = is_first.contiguous().numpy()
    flags = first, np.ones_like(first) if is_valid is None else is_valid.contiguous().numpy()
    rows = x.contiguous().numpy()[0]
    actions = np.empty((len(rows), 0), rows.dtype) if last_action is None else last_action.contiguous().numpy()[0]
    if not all_sound(rows, actions, delta, anchor, level_delta, level_gradient, key, signal):
        return None
    given = side_by_side(rows)
    z = given.copy() if weights.embed is None else embed(given, *weights.embed)
    remember(
        z, weights.norm, weights.mix, weights.matrices, weights.memory_out, weights.size, weights.clears,
        (delta, anchor), flags, core.memory.chunk, phase,
    )  # fmt: skip
    push = weights.push
    if actions.shape[1] != push.shape[1]:  # the core makes no use of actions, or was told none
        push, actions = push[:, :0], actions[:, :0]
    foretell(
        z, given, weights.key, push, weights.level, weights.level_size, weights.scalars, actions,
        (level_delta, level_gradient), (key, signal), flags, level.scope == "episode", level.period, phase,
    )  # fmt: skip
    for each in weights.slow:
        refine(z, *each)
    y = np.empty((1, x.shape[1], core.width), z.dtype)
    say(z, *weights.close, y[0])
    clock += 1
    clock %= core.clock_period
    return torch.from_numpy(y), state
