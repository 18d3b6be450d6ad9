"""Memories as Stable-Baselines3's recurrent policies hold them: a core of ours, or torch's LSTM run over segments.

sb3-contrib knows one kind of memory, ``nn.LSTM``: a module with ``input_size``, ``hidden_size`` and ``num_layers``
whose state is two tensors (h, c) of [layers, B, hidden]. A *cell* is such a module that also runs whole sequences:

    y, state = cell.run(x, state, is_first, is_valid, phase)        time first, as in ``MemoryCore``

Its state is a NamedTuple of tensors, batch first. ``to_host`` and ``from_host`` translate between the two forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from nl_agents.errors import ConfigError
from nl_agents.memory import make_core as core_named
from nl_agents.memory.base import MemoryCore
from nl_agents.memory.form import compiled, load_compiled
from nl_agents.memory.segments import segments
from nl_agents.memory.views import KeptViews
from nl_agents.sb3.alignment import run_aligned
from nl_agents.sb3.hooks import has_hooks
from nl_agents.sb3.lstm_scan import LstmScan
from nl_agents.types import LevelInfo

lstm_lanes = load_compiled("nl_agents.sb3.lstm_lanes") if compiled is not None else None
quick_act = load_compiled("nl_agents.sb3.quick_act") if compiled is not None else None

CoreMaker = Callable[..., MemoryCore]
HostState = tuple[Tensor, Tensor]
"""sb3-contrib's (h, c), each [layers, B, hidden]."""


def make_core(core: str | CoreMaker, input_size: int, width: int, options: Mapping[str, Any]) -> MemoryCore:
    """A core by its name, or by a callable ``core(input_size=, width=, **options)``.

    Raises:
        ConfigError: neither.
    """
    if isinstance(core, str):
        return core_named(core, input_size=input_size, width=width, **options)
    if not callable(core):
        raise ConfigError(
            f"core must be a name (nl-agents list cores) or a callable core(input_size=, width=), got {core!r}"
        )
    return core(input_size=input_size, width=width, **options)


class Cell(Protocol):
    """What a policy asks of its memory."""

    input_size: int
    hidden_size: int
    num_layers: int
    clock_period: int

    def initial(self, batch_size: int, device: torch.device | str | None = None) -> Any:
        """Newborn memories."""

    def run(
        self, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None = None, phase: int | None = None
    ) -> tuple[Tensor, Any]:
        """Read-out [T, B, width] and the memory after the last step."""

    def read(self, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """``run`` where nobody needs the memory after more than one step."""

    def act(
        self, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None = None, phase: int | None = None
    ) -> tuple[Tensor, Any]:
        """The same without gradients; ``state`` is given away."""

    def pack(self, state: Any) -> Tensor:
        """One vector a stream [B, S]."""

    def unpack(self, vector: Tensor) -> Any:
        """Inverse of ``pack``."""

    def to_host(self, state: Any) -> HostState:
        """The state as sb3-contrib stores it."""

    def from_host(self, state: HostState, dtype: torch.dtype) -> Any:
        """Inverse of ``to_host``."""

    def levels(self) -> list[LevelInfo]:
        """What in it learns on a time scale of its own."""


class CoreCell(nn.Module):
    """A memory core of ours in the place of an LSTM.

    Its packed state [B, S] is cut in two halves: h the first ceil(S / 2) numbers, c the rest (one zero is added where S
    is odd). All-zero halves are a newborn memory, which is what sb3-contrib starts from. For the cores ``lstm`` and
    ``gru`` this is what one expects: h and c of the LSTM are h and c.

    Args:
        core: the core; its clock, where it has one, lies in the state and goes on over episodes.
    """

    num_layers = 1

    def __init__(self, core: MemoryCore) -> None:
        super().__init__()
        self.core = core
        self.input_size, self.clock_period = core.input_size, core.clock_period
        self.state_size = core.state_size
        self.hidden_size = max(1, (self.state_size + 1) // 2)

    def initial(self, batch_size: int, device: torch.device | str | None = None) -> Any:
        """Newborn memories."""
        return self.core.initial_state(batch_size, device)

    def run(
        self, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None = None, phase: int | None = None
    ) -> tuple[Tensor, Any]:
        """See ``MemoryCore.forward``."""
        read, after = self.core(x, state, is_first, is_valid, None, phase)
        return read, after

    def read(self, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """Read-outs of sequences whose clocks may differ (``alignment``); then ``state`` comes back as it was."""
        if x.shape[0] > 1 and min(self.core.clock_marks()) > 1:
            return run_aligned(self.core, x, state, is_first, is_valid), state
        return self.run(x, state, is_first, is_valid)

    def act(
        self, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None = None, phase: int | None = None
    ) -> tuple[Tensor, Any]:
        """See ``MemoryCore.act``."""
        return self.core.act(x, state, is_first, is_valid, None, phase)

    def pack(self, state: Any) -> Tensor:
        """One vector a stream [B, S]."""
        return self.core.pack(state)

    def unpack(self, vector: Tensor) -> Any:
        """Inverse of ``pack``."""
        return self.core.unpack(vector)

    def to_host(self, state: Any) -> HostState:
        """Cuts the packed state in two."""
        vector = self.core.pack(state)
        padded = nn.functional.pad(vector, (0, 2 * self.hidden_size - self.state_size))
        hidden, cell = padded.unsqueeze(0).chunk(2, dim=2)
        return hidden.contiguous(), cell.contiguous()

    def from_host(self, state: HostState, dtype: torch.dtype) -> Any:
        """Joins the halves; always a copy, so the state may be given away."""
        vector = torch.cat((state[0][0], state[1][0]), dim=1)[:, : self.state_size]
        return self.core.unpack(vector.to(dtype))

    def levels(self) -> list[LevelInfo]:
        """The core's rows."""
        return self.core.levels()


class LstmState(NamedTuple):
    """Of a stack of LSTM layers, batch first."""

    hidden: Tensor  # [B, layers, H]
    cell: Tensor  # [B, layers, H]


class FusedLstm(nn.LSTM):
    """``nn.LSTM`` with its parameters, names and initial values, run over a block [T, B] by one call.

    On a CPU a compiled kernel takes resets as they come, on two cores where that is allowed (``lstm_lanes``). Where
    nothing compiled can be had torch's kernel is called once a stretch between two of few resets, and many are left to
    ``lstm_scan``. On an accelerator, and where there are gaps, resets and gaps
    cut the block into segments that do not depend on each other; sorted and packed they go through torch's kernel
    together (``memory.segments``).
    """

    clock_period = 1
    views: KeptViews[Any]  # of the parameters, for who acts

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.views = KeptViews()

    @classmethod
    def take_over(cls, lstm: nn.LSTM) -> None:
        """Turns an LSTM that a host has built into one of these, parameters and all."""
        lstm.__class__ = cls
        lstm.views = KeptViews()

    def initial(self, batch_size: int, device: torch.device | str | None = None) -> LstmState:
        """Newborn memories."""
        like = next(self.parameters())
        zero = like.new_zeros(batch_size, self.num_layers, self.hidden_size, device=device or like.device)
        return LstmState(zero, zero.clone())

    def run(
        self,
        x: Tensor,
        state: LstmState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, LstmState]:
        """Read-out [T, B, H] (0 at invalid steps) and the memory after the last valid step; ``phase`` is not used."""
        steps, batch, size = x.shape
        if is_valid is None:
            plain, cuts = self._is_plain(x), [] if steps == 1 else self._cuts(is_first)
            few = len(cuts) <= (steps / 6 + 3 if x.is_cpu else 0)  # measured: T = 16 .. 128, B = 4 .. 32
            if lstm_lanes is not None and plain and lstm_lanes.serves(x) and (cuts or lstm_lanes.fits(steps, batch)):
                return self._scan(x, state, is_first, lstm_lanes.LstmLanes)
            if few:
                return self._stretched(x, state, is_first, [0, *cuts, steps])
            if plain:
                return self._scan(x, state, is_first, LstmScan)
        plan = segments(is_first, is_valid, steps, batch, x.device)
        if not plan.gather.numel():
            return x.new_zeros(steps, batch, self.hidden_size), state
        starts = LstmState(*(leaf[plan.stream] for leaf in state))
        rows = PackedSequence(x.reshape(steps * batch, size)[plan.gather], plan.batch_sizes)
        out, ends = self(rows, self._begin(starts, ~plan.carried))
        blank = x.new_zeros(steps * batch, self.hidden_size)
        y = blank.index_copy(0, plan.gather, out.data).view(steps, batch, self.hidden_size)
        own = torch.arange(batch, device=x.device) + len(plan.stream)  # where a stream has no valid step
        index = torch.where(plan.last < len(plan.stream), plan.last, own)
        leaves = (torch.cat((end.transpose(0, 1), leaf))[index] for end, leaf in zip(ends, state, strict=True))
        return y, LstmState(*leaves)

    @staticmethod
    def _cuts(is_first: Tensor) -> list[int]:
        """Steps but the first at which some stream begins an episode."""
        cuts: list[int] = (torch.nonzero(is_first[1:].any(dim=1)).squeeze(1) + 1).tolist()
        return cuts

    def _stretched(self, x: Tensor, state: LstmState, is_first: Tensor, bounds: list[int]) -> tuple[Tensor, LstmState]:
        """One call of torch's kernel between two rows with resets."""
        reads = []
        for start, stop in pairwise(bounds):
            y, last = self(x[start:stop], self._begin(state, is_first[start]))
            state = LstmState(*(leaf.transpose(0, 1) for leaf in last))
            reads.append(y)
        return torch.cat(reads) if len(reads) > 1 else reads[0], state

    def _is_plain(self, x: Tensor) -> bool:
        """Whether it can go layer by layer: on a CPU, without projection, dropout, second direction or hooks."""
        special = self.proj_size or self.bidirectional or (self.dropout and self.training)
        return x.is_cpu and not special and not has_hooks(self)

    def _scan(self, x: Tensor, state: LstmState, is_first: Tensor, layer_of: Any) -> tuple[Tensor, LstmState]:
        """Layer by layer, each by ``LstmLanes`` or ``LstmScan``."""
        ends = []
        for layer in range(self.num_layers):
            enter, weight = getattr(self, f"weight_ih_l{layer}"), getattr(self, f"weight_hh_l{layer}")
            bias = getattr(self, f"bias_ih_l{layer}") + getattr(self, f"bias_hh_l{layer}") if self.bias else None
            x, *end = layer_of.apply(x, enter, weight, bias, state.hidden[:, layer], state.cell[:, layer], is_first)
            ends.append(end)
        hidden, cell = (torch.stack(parts, dim=1) for parts in zip(*ends, strict=True))
        return x, LstmState(hidden, cell)

    def read(self, x: Tensor, state: LstmState, is_first: Tensor, is_valid: Tensor | None) -> tuple[Tensor, LstmState]:
        """``run``."""
        return self.run(x, state, is_first, is_valid)

    @torch.no_grad()
    def act(
        self,
        x: Tensor,
        state: LstmState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, LstmState]:
        """``run`` without gradients; one step on a CPU is a compiled call that changes the state where it lies."""
        if quick_act is not None and quick_act.serves_step(self, x, state, is_valid):
            after: tuple[Tensor, LstmState] = quick_act.step(self, x, state, is_first)
            return after
        return self.run(x, state, is_first, is_valid, phase)

    @staticmethod
    def _begin(state: LstmState, clear: Tensor) -> HostState:
        """The state [layers, S, H] with fresh rows where ``clear`` [S]."""
        hidden, cell = (leaf.masked_fill(clear.view(-1, 1, 1), 0.0).transpose(0, 1).contiguous() for leaf in state)
        return hidden, cell

    def pack(self, state: LstmState) -> Tensor:
        """One vector a stream [B, S]."""
        return torch.cat([leaf.flatten(1) for leaf in state], dim=1)

    def unpack(self, vector: Tensor) -> LstmState:
        """Inverse of ``pack``."""
        shape = (vector.shape[0], self.num_layers, self.hidden_size)
        hidden, cell = vector.chunk(2, dim=1)
        return LstmState(hidden.reshape(shape), cell.reshape(shape))

    def to_host(self, state: LstmState) -> HostState:
        """Layers first."""
        hidden, cell = (leaf.transpose(0, 1).contiguous() for leaf in state)
        return hidden, cell

    def from_host(self, state: HostState, dtype: torch.dtype) -> LstmState:
        """Batch first."""
        return LstmState(*(leaf.transpose(0, 1).to(dtype) for leaf in state))

    def levels(self) -> list[LevelInfo]:
        """One row: h and c."""
        stored = f"hidden and cell, {2 * self.num_layers * self.hidden_size} floats a stream"
        source, objective = "encoded observation", "none: trained by the outer loss"
        return [LevelInfo("core.lstm", stored, source, objective, 1, "env step", "episode")]
