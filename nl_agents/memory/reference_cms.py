"""Slow, honest Continuum Memory System, the judge of ``cms``: one stream, one step, one level at a time.

The local objective's gradients are autograd's, not the closed form's, and every matrix is kept as a matrix. It shares
no code with the fast path but the parameters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.cms import ContinuumMemory, ContinuumState
from nl_agents.memory.continuum import LearnerTimeLevel
from nl_agents.memory.fast_block import FastBlock

Matrices = list[Tensor]  # first layer [K, D], second layer [P, K]


class _Stream:
    """One level of one stream: what it keeps, and one step of it."""

    def __init__(self, block: FastBlock, delta: Tensor, gradient: Tensor, start: Tensor | None, last: Tensor) -> None:
        self.block, self.last = block, last
        self.delta, self.gradient = self._matrices(delta), self._matrices(gradient)
        self.start = None if start is None else self._matrices(start)

    def _matrices(self, flat: Tensor) -> Matrices:
        up, down = self.block.up_0, self.block.down_0
        return [flat[: up.numel()].reshape(up.shape), flat[up.numel() :].reshape(down.shape)]

    def key(self, weights: Matrices, u: Tensor, action: Tensor | None) -> Tensor:
        push = self.block.bias if action is None or self.block.action is None else self.block.action(action)
        push = push if push is self.block.bias else push + self.block.bias
        raw: Tensor = torch.tanh(weights[0] @ u + push)
        return raw / math.sqrt(raw.numel())

    def step(
        self, z: Tensor, change: Tensor, action: Tensor | None, is_first: bool, is_valid: bool, clock: int
    ) -> Tensor:
        """Returns what the block adds to z [D]; ``clock`` counts the env steps lived, this one included."""
        block = self.block
        if is_first and is_valid and block.scope == "episode":
            self.delta, self.gradient = _zeros(self.delta), _zeros(self.gradient)
            self.start = None if self.start is None else _zeros(self.start)
        u = F.layer_norm(z, z.shape) / len(z) ** 0.5
        weights = [block.up_0 + self.delta[0], block.down_0 + self.delta[1]]
        expected = weights[1] @ self.key(weights, u, action)
        with torch.enable_grad():
            own = [weight if weight.requires_grad else weight.detach().requires_grad_() for weight in weights]
            error = torch.tanh(block.gain * change) - own[1] @ self.key(own, self.last, action)
            objective = 0.5 * error.square().sum()
            steps = torch.autograd.grad(objective, own, create_graph=True)
        learns = is_valid and not is_first
        error = error if learns else torch.zeros_like(error)
        read: Tensor = block.out(torch.cat((expected, error)))
        if learns:
            self.gradient = [total - step for total, step in zip(self.gradient, steps, strict=True)]
        if is_valid:
            self.last = u
        if clock % block.period == 0:
            self._write(clock)
        return read

    def _write(self, clock: int) -> None:
        block = self.block
        keep, rate = torch.exp(-block.period / block.log_tau.exp()), torch.sigmoid(block.rate_logit)
        rate = rate / block.period if block.mean else rate
        moved = [keep * old + rate * new for old, new in zip(self.delta, self.gradient, strict=True)]
        norm = torch.sqrt(sum((matrix.square().sum() for matrix in moved), torch.zeros(())))
        self.delta = [matrix * block.radius / norm for matrix in moved] if norm > block.radius else moved
        self.gradient = _zeros(self.gradient)
        if self.start is None or clock % (block.outer_period or 1):
            return
        assert block.blend_logit is not None
        share = torch.sigmoid(block.blend_logit)
        self.start = [(1 - share) * a + share * b for a, b in zip(self.start, self.delta, strict=True)]
        self.delta = self.start


def cms_reference(
    core: ContinuumMemory, x: Tensor, state: ContinuumState, is_first: Tensor, is_valid: Tensor, last_action: Tensor
) -> tuple[Tensor, ContinuumState]:
    """The whole core on [T, B, *], stream by stream, each with a step clock of its own."""
    outs, states = [], []
    for b in range(x.shape[1]):
        phase, signal = int(state.phase[b]), state.signal[b]
        levels = []
        for index, block in enumerate(core.fast):
            assert isinstance(block, FastBlock)
            start = state.level_start[b, index] if block.outer_period else None
            kept = state.level_delta[b, index], state.level_gradient[b, index], start, state.level_input[b, index]
            levels.append(_Stream(block, *kept))
        out = []
        for t in range(x.shape[0]):
            valid = bool(is_valid[t, b])
            seen = x[t, b] if valid else torch.zeros_like(x[t, b])
            sensed = core.omega @ seen.detach()
            given = sensed - signal, last_action[t, b], bool(is_first[t, b]), valid, phase + t + 1
            out.append(_stack_of_levels(core, levels, core.embed(seen), given))
            signal = sensed if valid else signal
        outs.append(torch.stack(out))
        starts = [torch.cat([m.flatten() for m in level.start]) for level in levels if level.start is not None]
        states.append(
            (
                _flat([level.delta for level in levels], state.level_delta[b]),
                _flat([level.gradient for level in levels], state.level_gradient[b]),
                torch.stack(starts) if starts else state.level_start[b],
                torch.stack([level.last for level in levels]) if levels else state.level_input[b],
                signal,
                torch.tensor((phase + x.shape[0]) % core.clock_period),
            )
        )
    return torch.stack(outs, dim=1), ContinuumState(*(torch.stack(leaf) for leaf in zip(*states, strict=True)))


def _stack_of_levels(
    core: ContinuumMemory, levels: list[_Stream], h: Tensor, given: tuple[Tensor, Tensor, bool, bool, int]
) -> Tensor:
    """One step through all levels: Eq. 70 or 74."""
    change, action, is_first, is_valid, clock = given
    z = h
    for index, level in enumerate(levels):
        if core.mixture is None:
            z = z + level.step(z, change, action, is_first, is_valid, clock)
        else:
            z = z + core.mixture[index] * level.step(h, change, action, is_first, is_valid, clock)
    for index, slow in enumerate(core.slow):
        assert isinstance(slow, LearnerTimeLevel)
        z = slow(z) if core.mixture is None else z + core.mixture[len(levels) + index] * (slow(h) - h)
    y: Tensor = core.norm_out(z)
    return y


def _flat(levels: list[Matrices], empty: Tensor) -> Tensor:
    """[L, N] of L pairs of matrices."""
    return torch.stack([torch.cat([matrix.flatten() for matrix in level]) for level in levels]) if levels else empty


def _zeros(matrices: Matrices) -> Matrices:
    return [torch.zeros_like(matrix) for matrix in matrices]
