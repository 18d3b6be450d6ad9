"""The Hope core: self-modifying memory, then a Continuum Memory System (Nested Learning, Eqs. 94-97)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nl_agents.memory.base import CLOCK, MemoryCore
from nl_agents.memory.clocks import run_by_clock
from nl_agents.memory.continuum import ActTimeLevel, ActTimeState, LearnerTimeLevel
from nl_agents.memory.form import hope_act
from nl_agents.memory.hope_sound import run_soundly
from nl_agents.memory.options import hidden_size, whole
from nl_agents.memory.self_modifying import SelfModifyingMemory, SelfModifyingState
from nl_agents.memory.sound import all_sound
from nl_agents.memory.views import KeptViews
from nl_agents.types import LevelInfo


class HopeState(NamedTuple):
    """What one stream remembers: the two memories' states, flattened, and the step clock. All zero = fresh."""

    delta: Tensor  # [B, H, K, R]
    anchor: Tensor  # [B, H, K, R]
    level_delta: Tensor  # [B, P, P]
    level_gradient: Tensor  # [B, P, P]
    level_key: Tensor  # [B, P]
    level_signal: Tensor  # [B, P]
    phase: Tensor  # [B] int64, env steps modulo the clock's period; survives resets


class HopeCore(MemoryCore):
    """Self-modifying memory -> act-time CMS level -> learner-time CMS levels, all residual.

        h_t = W_in x_t        z_t = h_t + memory(norm(h_t))        y_t = norm(CMS_slow(... CMS_fast(z_t)))

    Differs from the paper: no local convolution (the previous action and reward are inputs), residual paths throughout
    (read-before-write means that the memory has not yet seen x_t), and the act-time level (see its page).

    Args:
        input_size: features of x.
        width: features of y and of the residual stream.
        action_size: features of ``last_action``.
        heads: heads of the self-modifying memory, half of them (rounded up) never cleared.
        key_size: K, features of a key.
        chunk: env steps for which projections stay anchored; 1 is the exact step form (serial).
        never_heads: heads that outlive episodes; None means half.
        retention: shortest and longest initial time constant of the heads (env steps).
        level_period: env steps between two writes of the act-time level.
        level_size: rows and columns of its matrix.
        slow_periods: learner updates between two steps of each learner-time level, fastest first.
        expansion: hidden width of the learner-time levels / width.
        step_limit: largest step of the memory's writes, in (0, 2]; beyond 1 they may reflect (``delta_scan``).
        projection_retention: time constant (env steps) of what streams write into projections; None: as long as mem's.
    """

    state_type = HopeState
    solves = True

    def __init__(
        self,
        input_size: int,
        width: int,
        action_size: int = 0,
        heads: int = 4,
        key_size: int = 16,
        chunk: int = 32,
        never_heads: int | None = None,
        retention: tuple[float, float] = (10.0, 1e5),
        level_period: int = 64,
        level_size: int = 16,
        slow_periods: tuple[int, ...] = (4, 16),
        expansion: float = 0.5,
        step_limit: float = 1.0,
        projection_retention: float | None = None,
    ) -> None:
        chunk, level_period = whole("chunk", chunk, 1, "env steps"), whole("level_period", level_period, 1, "env steps")
        super().__init__(input_size, width, action_size, math.lcm(chunk, level_period))
        width = self.width
        self.embed = nn.Linear(input_size, width) if input_size != width else nn.Identity()
        self.norm = nn.LayerNorm(width)
        self.memory = SelfModifyingMemory(
            width, heads, key_size, chunk, never_heads, retention, step_limit, projection_retention
        )
        self.fast = ActTimeLevel(width, input_size, action_size, level_period, whole("level_size", level_size))
        hidden = hidden_size(expansion, width) if slow_periods else 0
        self.slow = nn.ModuleList(LearnerTimeLevel(width, hidden, period) for period in slow_periods)
        self.norm_out = nn.LayerNorm(width)
        self.views: KeptViews[Any] = KeptViews()

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> HopeState:
        """Returns newborn memories for ``batch_size`` streams."""
        device = device or self.memory.memory_0.device
        phase = torch.zeros(batch_size, dtype=torch.int64, device=device)
        memory, level = self.memory.initial_state(batch_size, device), self.fast.initial_state(batch_size, device)
        return HopeState(*memory, *level, phase)

    def forward(
        self,
        x: Tensor,
        state: HopeState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, HopeState]:
        """See ``MemoryCore.forward``. Streams whose clocks differ are run in groups of equal clock."""
        self.check(x, state, is_first, is_valid, last_action)
        last_action = self._fed(last_action, x)
        if phase is None:
            clocks = state.phase.unique().tolist()
            if len(clocks) > 1:
                return run_by_clock(self, clocks, x, state, is_first, is_valid, last_action)
            phase = int(clocks[0])
        return self._run(x, state, is_first, is_valid, last_action, phase, acting=False)

    @torch.no_grad()
    def act(
        self,
        x: Tensor,
        state: HopeState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, HopeState]:
        """See ``MemoryCore.act``: the matrices of ``state`` are changed in place on CPU."""
        if phase is None or (isinstance(x, Tensor) and torch.is_autocast_enabled(x.device.type)):
            return super().act(x, state, is_first, is_valid, last_action, phase)
        self.check(x, state, is_first, is_valid, last_action)
        last_action = self._fed(last_action, x)
        if hope_act is not None and hope_act.serves(self, x):
            stepped = hope_act.step(self, x, state, is_first, is_valid, last_action, phase)
            if stepped is not None:
                return stepped  # type: ignore[no-any-return]
        return self._run(x, state, is_first, is_valid, last_action, phase, acting=True)

    def _run(
        self,
        x: Tensor,
        state: HopeState,
        is_first: Tensor,
        is_valid: Tensor | None,
        last_action: Tensor | None,
        phase: int,
        acting: bool,
    ) -> tuple[Tensor, HopeState]:
        if x.is_cpu and all_sound((x,) if last_action is None else (x, last_action), state[:-1]):
            if is_valid is not None and bool(is_valid.all()):
                is_valid = None  # nothing to mask
            return self._run_finite(x, state, is_first, is_valid, last_action, phase, acting)

        run = partial(self._run_finite, phase=phase, acting=acting)
        return run_soundly(self, run, x, state, is_first, is_valid, last_action)

    def _run_finite(
        self,
        x: Tensor,
        state: HopeState,
        is_first: Tensor,
        is_valid: Tensor | None,
        last_action: Tensor | None,
        phase: int,
        acting: bool,
    ) -> tuple[Tensor, HopeState]:
        h = self.embed(x)
        memory_state = SelfModifyingState(state.delta, state.anchor)
        read, memory_state = self.memory(self.norm(h), memory_state, is_first, is_valid, phase, acting)
        level_state = ActTimeState(state.level_delta, state.level_gradient, state.level_key, state.level_signal)
        z, level_state = self.fast(h + read, x, level_state, is_first, is_valid, last_action, phase, acting)
        for level in self.slow:
            z = level(z)
        clock = (state.phase + x.shape[0]) % self.clock_period
        return self.norm_out(z), HopeState._make((*memory_state, *level_state, clock))

    def levels(self) -> list[LevelInfo]:
        """Fastest first: heads, act-time level, learner-time levels."""
        rows = self.memory.levels("core.memory") + self.fast.levels("core.fast")
        for index, level in enumerate(self.slow):
            assert isinstance(level, LearnerTimeLevel)
            rows += level.levels(f"core.slow.{index}")
        return rows

    def clock_marks(self) -> tuple[int, ...]:
        """Ends of the memory's chunks, writes of the act-time level."""
        return self.memory.chunk, self.fast.period

    def owners(self) -> HopeState:
        """See ``MemoryCore.owners``: heads go by their scope, all of the act-time level is its own."""
        index = {row.name: place for place, row in enumerate(self.state_levels())}
        kinds = [index.get(f"core.memory.{scope}", CLOCK) for scope in ("never", "episode")]
        heads = torch.tensor(kinds)[self.memory.clears.cpu().long()].view(-1, 1, 1)
        one = self.initial_state(1, device="cpu")
        memories = [heads.expand(leaf.shape[1:]) for leaf in one[:2]]
        level = [torch.full(leaf.shape[1:], index["core.fast"]) for leaf in one[2:-1]]
        return HopeState._make((*memories, *level, torch.tensor(CLOCK)))
