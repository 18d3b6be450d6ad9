"""Self-modifying memory as a core of its own: the paper's self-modifying Titans with every option removable."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.base import MemoryCore
from nl_agents.memory.convolution import convolve
from nl_agents.memory.modify_heads import Memories, ModifyingHeads, Told
from nl_agents.memory.modify_rule import NAMES, Form, Objective, Read, Rule, Write, check_sizes
from nl_agents.memory.sound import mend, sort_out, spoil
from nl_agents.memory.titans import HeadScope
from nl_agents.types import LevelInfo, Scope


class ModifyingState(NamedTuple):
    """What one stream remembers. All zero = fresh. n memories that modify themselves, of S numbers a head.

    Attributes:
        delta: [B, H, n, S] deviation from the meta-learned memories.
        momentum: [B, H, n, S]; [B, H, 0, S] without momentum.
        anchor: [B, H, n, S] the deviation where the current chunk began; [B, H, 0, S] for chunks of one step.
        past: [B, H, window - 1, 2K] the last written inputs of the convolution.
        phase: [B] int64, env steps modulo the clock's period; survives resets.
    """

    delta: Tensor
    momentum: Tensor
    anchor: Tensor
    past: Tensor
    phase: Tensor


class SelfModifyingCore(MemoryCore):
    """Memories that write their own keys, values, step sizes and retention (Nested Learning, Eqs. 83-93), no CMS.

        h_t = W_in x_t        c_t, q_t, g_t = W_mix norm(h_t), c and q through a short causal convolution
        y_t = norm(h_t + W_out (norm(o_t) * silu(g_t))),       o_t from the heads (``modify_heads``) on norm(c), norm(q)

    Each ingredient of the paper is an option, so that its ablation (Table 6) is a list of options
    (``benchmarks/self_modifying.py``). With ``write="dgd"``, ``objective="dot"``, no momentum and no convolution it is
    the memory of the Hope core, at any chunk: the erasing term is the running memory's answer, the dot product adds the
    target. Streams whose clocks differ are run in groups of equal clock.

    State a stream: about H n S numbers, twice that with momentum, thrice with chunks besides; S = K^2, or
    2 expansion K^2 for perceptrons, which with the defaults is 31 thousand. Chunks of one step cost a loop over time.

    What is not finite: a step with such features writes nothing and reads nan; a memory that holds such a number reads
    nan until the reset that clears it; gradients stay finite (``sound``).

    Args:
        input_size: features of x.
        width: features of y and of the residual stream.
        scope: ``episode``, ``never``, or ``split``: the first half of the heads is cleared at episodes.
        heads: H.
        key_size: K.
        memory: ``linear`` or ``mlp`` (Eq. 91).
        expansion: hidden units of a perceptron / K.
        adaptive_key: whether the memory of keys modifies itself; if not, it stays a meta-learned map of the same form.
        adaptive_value: the same for values.
        adaptive_step: for step sizes.
        adaptive_retention: for retention.
        adaptive_query: for queries; False as in Eq. 83, where q_t = W_q x_t is the one fixed projection.
        write: ``dgd`` or ``gd`` (``modify_rule``).
        objective: ``l2`` or ``dot``.
        decay: whether memories fade (the paper's weight decay).
        momentum: whether gradients pass through a momentum.
        largest_momentum: its bound g.
        own_targets: whether each memory makes its own target, vhat_b = M_b(v), or all share v.
        window: steps of the convolution; 0 or 1 is none.
        read: ``running`` or, as in Eq. 90, ``anchor``.
        chunk: env steps for which mem stays anchored; 1 is exact and serial.
        projection_chunk: the same for the other memories; None is ``chunk``.
        retention: shortest and longest initial time constant tau of a kind of heads (env steps).
        step_limit: largest step size eta_max; None is the bound that ``modify_rule.step_bound`` proves.
        radius: see ``Rule``; infinite leaves memories unbounded.
    """

    state_type = ModifyingState
    solves = True
    clears: Tensor

    def __init__(
        self,
        input_size: int,
        width: int,
        *,
        scope: HeadScope = "never",
        heads: int = 4,
        key_size: int = 16,
        memory: Form = "linear",
        expansion: float = 1.0,
        adaptive_key: bool = True,
        adaptive_value: bool = True,
        adaptive_step: bool = True,
        adaptive_retention: bool = True,
        adaptive_query: bool = False,
        write: Write = "dgd",
        objective: Objective = "l2",
        decay: bool = True,
        momentum: bool = True,
        largest_momentum: float = 0.5,
        own_targets: bool = True,
        window: int = 4,
        read: Read = "running",
        chunk: int = 8,
        projection_chunk: int | None = None,
        retention: tuple[float, float] = (10.0, 1e5),
        step_limit: float | None = None,
        radius: float = 4.0,
    ) -> None:
        flags = (adaptive_key, adaptive_value, adaptive_step, adaptive_retention, adaptive_query, True)
        rule = Rule(
            memory,
            tuple(name for name, on in zip(NAMES, flags, strict=True) if on),
            write,
            objective,
            decay,
            largest_momentum if momentum else 0.0,
            own_targets,
            read,
            chunk,
            chunk if projection_chunk is None else projection_chunk,
            step_limit,
            radius,
        )
        super().__init__(input_size, width, clock_period=math.lcm(rule.chunk, rule.projection_chunk))
        check_sizes(scope, heads, key_size, window, expansion, retention)
        self.rule, self.key_size, self.heads = rule, key_size, heads
        cleared = {"episode": heads, "never": 0, "split": heads // 2}[scope]
        self.register_buffer("clears", torch.arange(heads) < cleared, persistent=False)
        low, high = (math.log10(tau) for tau in retention)
        spaced = [torch.logspace(low, high, count) for count in (cleared, heads - cleared) if count]
        self.embed = nn.Linear(input_size, width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * heads * key_size + (heads if rule.momentum else 0))
        kernel = torch.zeros(heads, max(1, window), 2 * key_size)
        kernel[:, 0] = 1.0  # a new convolution passes its input on
        self.kernel = nn.Parameter(kernel) if window > 1 else None
        self.memory = ModifyingHeads(rule, heads, key_size, round(expansion * key_size), torch.cat(spaced))
        self.norm_read = nn.LayerNorm(key_size)
        self.out = nn.Linear(heads * key_size, width)
        self.norm_out = nn.LayerNorm(width)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> ModifyingState:
        """Returns newborn memories for ``batch_size`` streams."""
        device = device or self.out.weight.device
        behind = 0 if self.kernel is None else self.kernel.shape[1] - 1
        past = self.out.weight.new_zeros(batch_size, self.heads, behind, 2 * self.key_size, device=device)
        phase = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return ModifyingState(*self.memory.initial(batch_size, device), past, phase)

    def forward(
        self,
        x: Tensor,
        state: ModifyingState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, ModifyingState]:
        """See ``MemoryCore.forward``; ``last_action`` is not used."""
        self.check(x, state, is_first, is_valid, last_action)
        if phase is None:
            clocks = state.phase.unique().tolist() if self.clock_period > 1 else [0]
            if len(clocks) > 1:
                return self._by_clock(clocks, x, state, is_first, is_valid)
            phase = int(clocks[0])
        x, resets, writes, spoilt = sort_out(x, is_first, is_valid)
        steps, batch, _ = x.shape
        h = self.embed(x)
        mixed = self.mix(self.norm(h))  # [T, B, 3HK (+ H)]
        segment = resets.cumsum(0).T.unsqueeze(1) * self.clears[:, None]  # [B, H, T]
        leaves, broken = zip(*(mend(leaf) for leaf in state[:4]), strict=True)
        told, past = self._told(mixed, leaves[3], writes, segment)
        read, memories = self.memory(told, Memories(*leaves[:3]), phase)
        gate = F.silu(mixed[..., 2 * self.heads * self.key_size : 3 * self.heads * self.key_size])
        read = self.norm_read(read).permute(2, 0, 1, 3).reshape(steps, batch, -1)
        y = self.norm_out(h + self.out(read * gate))
        ruined = torch.stack([where.flatten(2).any(-1) for where in broken]).any(0)  # [B, H]
        still = ruined.unsqueeze(-1) & (segment == 0)  # [B, H, T]
        ends = still[..., -1:, None]
        delta, momentum, anchor, past = (leaf.masked_fill(ends, torch.nan) for leaf in (*memories, past))
        clock = (torch.full_like(state.phase, phase) + steps) % self.clock_period
        return spoil(cast(Tensor, y), spoilt, still.any(1).T), ModifyingState(delta, momentum, anchor, past, clock)

    def _told(self, mixed: Tensor, past: Tensor, writes: Tensor, segment: Tensor) -> tuple[Told, Tensor]:
        """Cuts the projections into heads and sends them through the convolution."""
        steps, batch, _ = mixed.shape
        heads, size = self.heads, self.key_size
        both = mixed[..., : 2 * heads * size].view(steps, batch, 2, heads, size).permute(1, 3, 0, 2, 4)
        both = both.reshape(batch, heads, steps, 2 * size)
        if self.kernel is not None:
            both, past = convolve(both, past, self.kernel, writes.T, segment)
        content, query = F.normalize(both.unflatten(-1, (2, size)), dim=-1, eps=1e-6).unbind(-2)
        alive, log_momentum = writes.T.unsqueeze(1), None
        if self.rule.momentum:
            logit = mixed[..., 3 * heads * size :].permute(1, 2, 0)  # [B, H, T]
            log_momentum = (F.logsigmoid(logit) + math.log(self.rule.momentum)).masked_fill(~alive, 0.0)
        return Told(content, query, log_momentum, alive, segment), past

    def _by_clock(
        self, clocks: list[int], x: Tensor, state: ModifyingState, is_first: Tensor, is_valid: Tensor | None
    ) -> tuple[Tensor, ModifyingState]:
        """Runs streams of equal clock together and puts them back in order."""
        groups = [torch.nonzero(state.phase == clock).squeeze(1) for clock in clocks]
        results = []
        for clock, group in zip(clocks, groups, strict=True):
            part = ModifyingState(*(leaf[group] for leaf in state))
            valid = None if is_valid is None else is_valid[:, group]
            results.append(self(x[:, group], part, is_first[:, group], valid, None, clock))
        order = torch.cat(groups).argsort()
        y = torch.cat([result[0] for result in results], dim=1)[:, order]
        leaves = zip(*(result[1] for result in results), strict=True)
        return y, ModifyingState(*(torch.cat(leaf)[order] for leaf in leaves))

    def matrices(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """See ``MemoryCore.matrices``: the layers of every memory; past inputs are vectors."""
        return dict.fromkeys(("delta", "momentum", "anchor"), tuple(self.memory.shapes))

    def clock_marks(self) -> tuple[int, ...]:
        """Ends of chunks, of the main memory and of the projections."""
        return self.rule.chunk, self.rule.projection_chunk

    def levels(self) -> list[LevelInfo]:
        """One row a kind of head."""
        cleared = int(self.clears.sum())
        kinds: tuple[tuple[Scope, int], ...] = (("episode", cleared), ("never", self.heads - cleared))
        size = sum(leaf[0, 0].numel() for leaf in self.initial_state(1, device="cpu")[:4])
        target = "self-generated values" if self.rule.own_targets else "the value"
        loss = "L2 to" if self.rule.objective == "l2" else "dot product with"
        return [
            LevelInfo(
                f"core.self-modifying.{scope}",
                f"{count} heads, {count * size} floats a stream",
                "encoded observation, action, reward",
                f"{loss} {target} ({self.rule.write}{', momentum' if self.rule.momentum else ''})",
                1,
                "env step",
                scope,
            )
            for scope, count in kinds
            if count
        ]
