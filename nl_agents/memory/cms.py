"""The Continuum Memory System as a core of its own: sequential, nested or independent (Nested Learning, Eqs. 70-74)."""

from __future__ import annotations

import itertools
import math
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.errors import ConfigError
from nl_agents.memory.base import CLOCK, MemoryCore
from nl_agents.memory.clocks import run_by_clock
from nl_agents.memory.cms_sound import find_ruin, last_steps, show_ruin
from nl_agents.memory.continuum import LearnerTimeLevel
from nl_agents.memory.fast_block import Context, FastBlock, FastState, Reduction
from nl_agents.memory.last_valid import shift
from nl_agents.memory.options import whole
from nl_agents.memory.sound import all_sound, bounded, sort_out, spoil
from nl_agents.types import LevelInfo, Scope

Variant = Literal["sequential", "nested", "independent"]


class ContinuumState(NamedTuple):
    """What one stream keeps of its L act-time levels, N weights each. All zero = fresh.

    Attributes:
        level_delta: [B, L, N] each level's deviation from its meta-learned weights.
        level_gradient: [B, L, N] what the running chunks have summed so far.
        level_start: [B, S, N] what nested levels are re-initialised to; S = L - 1 if nested, else 0.
        level_input: [B, L, D] each level's normalised input at the last valid step.
        signal: [B, P] that step's projected core input.
        phase: [B] int64, env steps modulo the clock's period; survives resets.
    """

    level_delta: Tensor
    level_gradient: Tensor
    level_start: Tensor
    level_input: Tensor
    signal: Tensor
    phase: Tensor


class ContinuumMemory(MemoryCore):
    """Blocks with update periods of their own, chained, nested or side by side (Continuum Memory System).

    h_t = W_in x_t, and with r^(l)(z) what block l adds to its input z:

        sequential (Eqs. 70, 73)    z^(l+1) = z^(l) + r^(l)(z^(l)),  z^(1) = h_t           y_t = norm(z^(last))
        nested     (Eq. 72)         the same chain; at the boundary of a level its faster neighbour is re-initialised
        independent (Eq. 74)        y_t = norm(h_t + sum_l w_l r^(l)(h_t)),  w learnable, one number a block

    Two kinds of block, each with its period named in its own unit: *act-time* levels (``periods``, env steps) are
    ``FastBlock``s, whose weights every stream writes for itself from a local objective; *learner-time* levels
    (``slow_periods``, learner updates) are residual perceptrons, parameters whose gradients the learner's
    ``LevelScheduler`` sums over the period. Act-time levels come first in the chain, in the order given.

    *Initial states.* In every variant each block's initial weights are parameters, trained together by the outer loss
    through the writes (Eq. 73). **Nested** adds what lies between: level s's neighbour s - 1 begins anew every C_s
    steps from an initial state that is a state of its own of each stream, moved at the same boundary by one first-order
    step of Eq. 72's argmin over the chunk just lived (``FastBlock.restart``). What is re-initialised is the weights of
    that one neighbour. Not touched: the sum of gradients (zero there, because periods divide each other), the initial
    state that a re-initialised level holds for the next faster one, and the last input (a sensor, not a memory).

    **Where the paper leaves it open.** Which of s and s + 1 is the faster (both readings occur: we name periods); how
    the argmin is solved (one step of Reptile, ours); whether re-initialising a level also re-initialises what that
    level holds for others (here not: it would be forgotten faster than it is learnt); whether the ratio of two periods
    must be whole (it rounds up; here it must, so that no chunk is cut); the loss at act time (``FastBlock``, ours).
    Learner-time levels are not nested: they stand in the chain after the nested ones. Eq. 70 replaces a host's blocks,
    here they are residual with W_out = 0 at the start, so a new level leaves its host as it was.

    *What is not finite.* A step with such features writes nothing and reads nan. Where a level of a stream holds such a
    number the stream reads nan and no level of it learns, until the reset that clears that level; gradients stay finite
    (``sound``).

    Args:
        input_size: features of x.
        width: D, features of y and of the residual stream.
        action_size: features of ``last_action``.
        variant: ``sequential``, ``nested`` or ``independent``.
        periods: env steps between two writes of each act-time level, fastest first; nested: each divides the next.
        slow_periods: learner updates between two steps of each learner-time level.
        scope: ``never``, ``episode``, or ``split``: the faster half of the act-time levels is cleared at episodes.
        reduction: ``mean`` or ``sum`` of a chunk's gradients, see ``FastBlock``.
        size: K, features between a block's layers, and P, features of its target.
        retention: time constant of forgetting (env steps).
        radius: largest norm of a level's deviation.
        blend: nested: share of the way that an initial state moves at a boundary, at the start; learnable.
        expansion: hidden width of the learner-time levels / width.

    Raises:
        ConfigError: no level at all, unknown words, or nested periods that do not divide each other.
        ValueError: a period < 1, or a number out of its range.
    """

    state_type = ContinuumState
    shared = ("signal",)
    omega: Tensor
    clears: Tensor

    def __init__(
        self,
        input_size: int,
        width: int,
        action_size: int = 0,
        *,
        variant: Variant = "sequential",
        periods: tuple[int, ...] = (8, 64),
        slow_periods: tuple[int, ...] = (4, 16),
        scope: Literal["episode", "never", "split"] = "never",
        reduction: Reduction = "mean",
        size: int = 16,
        retention: float = 1e4,
        radius: float = 8.0,
        blend: float = 0.25,
        expansion: float = 0.5,
    ) -> None:
        _check_options(variant, scope, reduction, periods, slow_periods)
        whole("size", size)
        _check_numbers(retention=retention, radius=radius, blend=blend, expansion=expansion)
        super().__init__(input_size, width, action_size, math.lcm(*periods))
        self.variant, self.size, periods = variant, int(size), tuple(map(int, periods))
        self.embed = nn.Linear(input_size, width)
        outer = (*periods[1:], None)[: len(periods)] if variant == "nested" else (None,) * len(periods)
        clears = {"episode": len(periods), "never": 0, "split": len(periods) // 2}[scope]
        scopes: list[Scope] = ["episode" if index < clears else "never" for index in range(len(periods))]
        self.fast = nn.ModuleList(
            FastBlock(width, size, action_size, period, size, own, reduction, retention, radius, above, blend)
            for period, own, above in zip(periods, scopes, outer, strict=True)
        )
        hidden = max(1, int(expansion * width))
        self.slow = nn.ModuleList(LearnerTimeLevel(width, hidden, period) for period in slow_periods)
        self.mixture: nn.Parameter | None = None
        if variant == "independent":
            self.mixture = nn.Parameter(torch.ones(len(periods) + len(slow_periods)))
        self.norm_out = nn.LayerNorm(width)
        self.register_buffer("omega", torch.randn(size, input_size) / math.sqrt(input_size))
        cleared = torch.tensor([own == "episode" for own in scopes], dtype=torch.bool)
        self.register_buffer("clears", cleared, persistent=False)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> ContinuumState:
        """Returns newborn memories for ``batch_size`` streams."""
        device = device or self.omega.device
        levels, weights = len(self.fast), self.size * (self.width + self.size)
        starts = max(0, levels - 1) if self.variant == "nested" else 0
        shapes = ((levels, weights), (levels, weights), (starts, weights), (levels, self.width), (self.size,))
        leaves = [self.omega.new_zeros(batch_size, *shape, device=device) for shape in shapes]
        return ContinuumState._make((*leaves, torch.zeros(batch_size, dtype=torch.int64, device=device)))

    def forward(
        self,
        x: Tensor,
        state: ContinuumState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, ContinuumState]:
        """See ``MemoryCore.forward``. Streams whose clocks differ are run in groups of equal clock."""
        self.check(x, state, is_first, is_valid, last_action)
        last_action = self._fed(last_action, x)
        if phase is None:
            clocks = state.phase.unique().tolist()
            if len(clocks) > 1:
                return run_by_clock(self, clocks, x, state, is_first, is_valid, last_action)
            phase = int(clocks[0])
        x, resets, writes, spoilt = sort_out(x, is_first, is_valid)
        if last_action is not None and not (x.is_cpu and all_sound((last_action,))):
            fine = last_action.isfinite().all(-1)
            last_action = bounded(last_action).masked_fill(~fine.unsqueeze(-1), 0.0)
            writes, spoilt = writes & fine, spoilt | (writes & ~fine)
        kept, ruin = find_ruin(state, self.clears, resets, writes)
        signal, learns, newest, lost = F.linear(x.detach(), self.omega), ruin.learns & ~is_first, None, None
        if not (x.is_cpu and bool(writes.all())):
            newest, same, lost = last_steps(writes, resets)
            learns = learns & same
        before, signal_last = shift(signal, kept.signal, newest)
        if lost is not None:
            signal_last = signal_last.masked_fill(lost.unsqueeze(-1), torch.nan)
        context = Context(signal - before, last_action, learns, resets, phase)
        z, leaves = self._chain(self.embed(x), kept, context, newest)
        clock = (state.phase + x.shape[0]) % self.clock_period
        y = spoil(cast(Tensor, self.norm_out(z)), spoilt, ruin.steps)
        return y, ContinuumState._make((*show_ruin(leaves[:3], ruin.levels), leaves[3], signal_last, clock))

    def _chain(
        self, h: Tensor, state: ContinuumState, context: Context, newest: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs all blocks on h [T, B, D]; returns the residual stream and the state's first four leaves."""
        z, after, inputs = h, [], []
        shares = None if self.mixture is None else self.mixture.unbind()
        for index, block in enumerate(self.fast):
            assert isinstance(block, FastBlock)
            u = F.layer_norm(h if shares else z, h.shape[-1:]) / math.sqrt(self.width)
            before, last = shift(u, state.level_input[:, index], newest)
            start = state.level_start[:, index] if block.outer_period else None
            own = FastState(state.level_delta[:, index], state.level_gradient[:, index], start)
            read, own = block(u, before, context, own)
            z = z + (read if shares is None else shares[index] * read)
            after.append(own)
            inputs.append(last)
        for index, level in enumerate(self.slow, len(self.fast)):
            z = level(z) if shares is None else z + shares[index] * (level(h) - h)
        leaves = [
            [own.delta for own in after],
            [own.gradient for own in after],
            [own.start for own in after if own.start is not None],
            inputs,
        ]
        given = state[:4]
        return z, [torch.stack(leaf, 1) if leaf else old for leaf, old in zip(leaves, given, strict=True)]

    def matrices(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """See ``MemoryCore.matrices``: both layers of every block; inputs are vectors."""
        layers = (self.size, self.width), (self.size, self.size)
        return dict.fromkeys(("level_delta", "level_gradient", "level_start"), layers)

    def clock_marks(self) -> tuple[int, ...]:
        """Writes of the act-time levels."""
        return tuple(row.period for row in self.state_levels()) or (1,)

    def owners(self) -> ContinuumState:
        """See ``MemoryCore.owners``: what all act-time levels look at belongs to the first of them."""
        index = {row.name: place for place, row in enumerate(self.state_levels())}
        names = [f"core.fast.{place}" for place in range(len(self.fast))]
        own = torch.tensor([index[name] for name in names], dtype=torch.int64)
        starts = torch.tensor([index[f"{name}.start"] for name in names if f"{name}.start" in index], dtype=torch.int64)
        one = self.initial_state(1, device="cpu")
        rows = [
            owner.unsqueeze(1).expand(leaf.shape[1:]) for owner, leaf in zip((own, own, starts, own), one, strict=False)
        ]
        signal = torch.full(one.signal.shape[1:], 0 if names else CLOCK)
        return ContinuumState._make((*rows, signal, torch.tensor(CLOCK)))

    def levels(self) -> list[LevelInfo]:
        """Fastest first: act-time levels, each with its initial state if nested, then learner-time levels."""
        rows: list[LevelInfo] = []
        for index, block in enumerate(self.fast):
            assert isinstance(block, FastBlock)
            rows += block.levels(f"core.fast.{index}")
        for index, level in enumerate(self.slow):
            assert isinstance(level, LearnerTimeLevel)
            rows += level.levels(f"core.slow.{index}")
        return rows


def _check_options(
    variant: str, scope: str, reduction: str, periods: tuple[int, ...], slow_periods: tuple[int, ...]
) -> None:
    """Raises what ``ContinuumMemory`` says that it raises for words and periods."""
    for name, given, known in (
        ("variant", variant, ("sequential", "nested", "independent")),
        ("scope", scope, ("episode", "never", "split")),
        ("reduction", reduction, ("mean", "sum")),
    ):
        if given not in known:
            raise ConfigError(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, got {given!r}")
    if not periods and not slow_periods:
        raise ConfigError("a continuum memory needs a level: periods in env steps, or slow_periods in learner updates")
    for name, unit, group in (("periods", "env steps", periods), ("slow_periods", "learner updates", slow_periods)):
        for period in group:
            whole(f"each of {name}", period, 1, unit)
    for fast, slow in itertools.pairwise(periods):
        if variant == "nested" and (slow % fast or slow == fast):
            raise ConfigError(
                f"nested periods must divide each other, fastest first: {slow} env steps is no multiple (2, 3, ...) of "
                f"{fast} in {periods}; take for example {(fast, fast * max(2, round(slow / fast)))}"
            )


def _check_numbers(**numbers: float) -> None:
    """Raises a ValueError that names the range of the first number outside it."""
    ranges = {
        "retention": (1.0, math.inf, "a time constant >= 1 in env steps"),
        "radius": (1e-9, math.inf, "a norm > 0"),
        "blend": (1e-9, 1 - 1e-9, "a share between 0 and 1"),
        "expansion": (0.0, math.inf, "a ratio >= 0"),
    }
    for name, value in numbers.items():
        low, high, words = ranges[name]
        if not (low <= value <= high and math.isfinite(value)):
            raise ValueError(f"{name} must be {words}, got {value}")
