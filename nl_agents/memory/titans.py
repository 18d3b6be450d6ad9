"""Titans' neural memory with fixed projections: surprise, momentum and forgetting, nothing that modifies itself.

The equations, and how many steps are solved in parallel, stand in ``titans_scan``.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.base import MemoryCore
from nl_agents.memory.options import check_retention, whole
from nl_agents.memory.sound import mend, sort_out, spoil
from nl_agents.memory.titans_scan import Inputs, blocks, step
from nl_agents.types import LevelInfo, Scope

HeadScope = Literal["episode", "never", "split"]


class TitansState(NamedTuple):
    """What one stream remembers. All zero = fresh.

    Attributes:
        memory: [B, H, K, K] M^T, rows are keys, columns are values.
        momentum: [B, H, K, K] S^T.
        anchor: [B, H, K, K] M^T where the current chunk began; [B, H, 0, K] for chunks of one step.
        phase: [B] int64, env steps modulo the chunk; survives resets.
    """

    memory: Tensor
    momentum: Tensor
    anchor: Tensor
    phase: Tensor


def largest_step(momentum: float) -> float:
    """Returns the bound of the step sizes' sum over a chunk, under which no sequence of inputs makes a memory grow.

    Let g = ``momentum`` bound eta_t / (1 - alpha_t), W = 1 / (1 - g), c = g W^1.5, and let w_t = 1 + the sum of all
    products of the momenta that follow. For u = m + (w - 1) s, the row m of M moved on by the momentum s still in
    store, V = |u|^2 + c |s|^2 does not grow over a chunk without forgetting if the step sizes sum to at most

        2 (1 - g)^2 / (1 - g + 2 g sqrt(W)),

    and not under total forgetting if to at most (1 - g) / (1 + g sqrt(W)). V is convex in the product of the retentions
    1 - alpha of a chunk, so the smaller of the two holds for all of them, whatever the keys and gates.
    """
    kept, root = 1.0 - momentum, momentum / math.sqrt(1.0 - momentum)
    return min(2.0 * kept**2 / (kept + 2.0 * root), kept / (1.0 + root))


class TitansCore(MemoryCore):
    """Matrix memories written by surprise with momentum and forgetting (Titans), fixed projections.

        h_t = W_in x_t,  y_t = norm(h_t + W_out (norm(o_t) * silu(W_gate norm(h_t)))), o_t from the memory on norm(h_t).

    Differs from the paper (Behrouz, Zhong & Mirrokni 2025, "Titans"): the memory is a matrix a head, not a perceptron;
    no short convolution and no persistent tokens; the gates are bounded so that no input, however chosen, makes the
    memory diverge: with three free sigmoids a repeated key is enough. Per head, with sigmoids of the input,

        1 - alpha_t = exp(-(2 / tau) sigmoid)       eta_t = (1 - alpha_t) g sigmoid
        theta_t = (1 - alpha_t) largest_step(g) / C sigmoid                            (``largest_step`` says why)

    Gradients of the outer loss flow through every write of the sequence, to the gates and to the state that was handed
    in; none is stopped. The gradient of the inner loss is written down, not taken.

    Args:
        input_size: features of x.
        width: features of y and of the residual stream.
        scope: ``episode``, ``never``, or ``split``: the first half of the heads is cleared at episodes.
        heads: H; ``width`` is a multiple of it and K = width / H.
        chunk: C, env steps whose inner gradients are taken where the chunk began; 1 is the exact form, at equal speed.
            Step sizes shrink with C. A chunk's place is counted by the step clock, not from the episode's start.
        momentum: g, the largest momentum, in [0, 1); 0 is plain gradient descent.
        retention: shortest and longest initial time constant tau of a kind of heads (env steps).
    """

    state_type = TitansState
    solves = True
    clears: Tensor

    def __init__(
        self,
        input_size: int,
        width: int,
        *,
        scope: HeadScope = "never",
        heads: int = 8,
        chunk: int = 1,
        momentum: float = 0.5,
        retention: tuple[float, float] = (10.0, 1e5),
    ) -> None:
        chunk = whole("chunk", chunk, 1, "env steps")
        super().__init__(input_size, width, clock_period=chunk)
        if scope not in ("episode", "never", "split"):
            raise ValueError(f"scope must be 'episode', 'never' or 'split', got {scope!r}")
        if width % whole("heads", heads):
            raise ValueError(f"width must be a multiple of heads >= 1, got width {width} and heads {heads}")
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
        check_retention(retention)
        self.heads, self.key_size, self.chunk, self.momentum = heads, width // heads, chunk, momentum
        episode_heads = {"episode": heads, "never": 0, "split": heads // 2}[scope]
        self.register_buffer("clears", torch.arange(heads) < episode_heads, persistent=False)
        self.embed = nn.Linear(input_size, width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 4 * width + 3 * heads)
        self.norm_read = nn.LayerNorm(self.key_size)
        self.out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        low, high = (math.log10(tau) for tau in retention)
        spaced = [torch.logspace(low, high, count) for count in (episode_heads, heads - episode_heads) if count]
        self.log_tau = nn.Parameter(torch.cat(spaced).log())

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> TitansState:
        """Returns newborn memories for ``batch_size`` streams."""
        device = device or self.log_tau.device
        empty = self.log_tau.new_zeros(batch_size, self.heads, self.key_size, self.key_size, device=device)
        anchor = empty.clone() if self.chunk > 1 else empty[:, :, :0].clone()
        phase = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return TitansState(empty, empty.clone(), anchor, phase)

    def forward(
        self,
        x: Tensor,
        state: TitansState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, TitansState]:
        """See ``MemoryCore.forward``; ``last_action`` is not used. Never synchronises with the host."""
        self.check(x, state, is_first, is_valid, last_action)
        x, resets, writes, spoilt = sort_out(x, is_first, is_valid)
        steps, batch, width = *x.shape[:2], self.width
        clock = state.phase if phase is None else torch.full_like(state.phase, phase)
        h = self.embed(x)
        mixed = self.mix(self.norm(h))  # [T, B, 4W + 3H]
        inputs = self._inputs(mixed, resets, writes)
        kept, broken = mend(torch.stack(self._sources(state), 2))  # [B, H, 2 or 3, K, K]
        run = step if steps == 1 else blocks
        read, kept = run(inputs, kept.flatten(0, 1), clock.repeat_interleave(self.heads), self.chunk)
        read = self.norm_read(read).view(batch, self.heads, steps, self.key_size).permute(2, 0, 1, 3)
        gate = F.silu(mixed[..., 3 * width : 4 * width])
        y = self.norm_out(h + self.out(read.reshape(steps, batch, width) * gate))
        still = broken.flatten(2).any(-1).unsqueeze(-1) & (inputs.segment.view(batch, self.heads, steps) == 0)
        kept = kept.view_as(broken).masked_fill(still[..., -1:, None, None], torch.nan)
        anchor = kept[:, :, 2] if self.chunk > 1 else state.anchor
        after = TitansState(kept[:, :, 0], kept[:, :, 1], anchor, (clock + steps) % self.chunk)
        return spoil(cast(Tensor, y), spoilt, still.any(1).T), after

    def _sources(self, state: TitansState) -> tuple[Tensor, ...]:
        """The matrices that a read or an error can draw from."""
        return state[:3] if self.chunk > 1 else state[:2]

    def _inputs(self, mixed: Tensor, resets: Tensor, writes: Tensor) -> Inputs:
        """Cuts the projections into heads, applies gates and flags."""
        steps, batch, _ = mixed.shape
        heads, size, width = self.heads, self.key_size, self.width
        parts = mixed[..., : 3 * width].view(steps, batch, 3, heads, size).permute(2, 1, 3, 0, 4)
        query, key, value = parts.reshape(3, batch * heads, steps, size).unbind(0)
        gates = mixed[..., 4 * width :].view(steps, batch, 3, heads).permute(2, 1, 3, 0)  # [3, B, H, T]
        alive = writes.T.unsqueeze(1)  # [B, 1, T]
        log_retention = (gates[0].sigmoid() * (-2.0 * torch.exp(-self.log_tau))[:, None]).masked_fill(~alive, 0.0)
        bound = math.log(self.momentum) if self.momentum else -math.inf
        log_momentum = (F.logsigmoid(gates[1]) + bound).masked_fill(~alive, 0.0)
        strength = gates[2].sigmoid() * (largest_step(self.momentum) / self.chunk) * log_retention.exp() * alive
        segment = resets.cumsum(0).T.unsqueeze(1) * self.clears[:, None]  # [B, H, T]
        alive = alive.expand(batch, heads, steps)
        flat = (part.reshape(-1, steps) for part in (strength, log_retention, log_momentum, alive, segment))
        return Inputs(F.normalize(query, dim=-1, eps=1e-6), F.normalize(key, dim=-1, eps=1e-6), value, *flat)

    def levels(self) -> list[LevelInfo]:
        """One row a kind of head."""
        cleared = int(self.clears.sum())
        kinds: tuple[tuple[Scope, int], ...] = (("episode", cleared), ("never", self.heads - cleared))
        matrices = 2 if self.chunk == 1 else 3
        return [
            LevelInfo(
                f"core.titans.{scope}",
                f"{count} heads, {count * matrices * self.key_size**2} floats a stream",
                "encoded observation, action, reward",
                "L2 between M k and the projected value, by momentum",
                1,
                "env step",
                scope,
            )
            for scope, count in kinds
            if count
        ]
