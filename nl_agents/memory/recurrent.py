"""LSTM and GRU behind the memory contract: the peers that every recurrent agent is compared with."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from nl_agents.memory.base import MemoryCore
from nl_agents.memory.segments import Stretches, segments, stretches
from nl_agents.memory.sound import all_sound, bounded
from nl_agents.types import LevelInfo, Scope


class LstmState(NamedTuple):
    """What one stream remembers. All zero = fresh.

    Attributes:
        hidden: [B, width] h, also the read-out.
        cell: [B, width] c.
    """

    hidden: Tensor
    cell: Tensor


class GruState(NamedTuple):
    """What one stream remembers. All zero = fresh.

    Attributes:
        hidden: [B, width] h, also the read-out.
    """

    hidden: Tensor


class FusedRecurrentCore(MemoryCore):
    """A one-layer recurrent network run by torch's fused kernel, whatever the resets and gaps (``segments``).

    Gradients flow through time inside a sequence, up to the state handed in, and never across a reset.

    What is not finite: a step with such features writes nothing and reads nan; a state that holds such a number reads
    nan until the reset that clears it; gradients stay finite. A sequence with any of that in it runs step by step.

    Args:
        input_size: features of x.
        width: features of the read-out and of the hidden state.
        scope: ``episode`` clears the state before every first step, ``never`` lets it outlive episodes.
    """

    rnn: nn.RNNBase
    few_cuts = 2  # stretches of at least that mean length are faster than one packed call (CPU, T = 128, B = 16)

    def __init__(self, input_size: int, width: int, *, scope: Scope = "episode") -> None:
        super().__init__(input_size, width)
        if scope not in ("episode", "never"):
            raise ValueError(f"scope must be 'episode' or 'never', got {scope!r}")
        self.scope = scope
        self.rnn = self._make()
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.orthogonal_(parameter)

    @abstractmethod
    def _make(self) -> nn.RNNBase:
        """Builds the fused network."""

    @abstractmethod
    def _fused(self, x: Tensor | PackedSequence, state: Any) -> tuple[Any, Any]:
        """Runs it: y and the last state, for ``x`` [T, B, D] or packed."""

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> Any:
        """Returns newborn memories for ``batch_size`` streams."""
        like = next(self.rnn.parameters())
        zeros = [like.new_zeros(batch_size, self.width, device=device or like.device) for _ in self.state_type._fields]
        return self.state_type(*zeros)

    def forward(
        self,
        x: Tensor,
        state: Any,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, Any]:
        """See ``MemoryCore.forward``; the read-out of an invalid step is 0.

        ``last_action`` and ``phase`` are not used. On an accelerator the host asks once whether all of a sequence is
        finite, and reads the flags where resets or gaps are possible; flags that lie on the host already cost nothing.
        """
        self.check(x, state, is_first, is_valid, last_action)
        resets = None if self.scope == "never" else is_first if is_valid is None else is_first & is_valid
        if x.shape[0] == 1:
            return self._step(x, state, resets, is_valid)
        if not all_sound((x,), state):
            return self._one_by_one(x, state, resets, is_valid)
        if is_valid is None and (resets is None or not bool(resets[1:].any())):
            return self._fused(x, state if resets is None else self._clear(state, resets[0]))
        plan = stretches(resets, is_valid, *x.shape[:2])
        if self.few_cuts * (len(plan.bounds) - 1) <= len(plan.live):
            return self._stretched(x, state, plan, is_valid)
        return self._packed(x, state, resets, is_valid)

    def _step(self, x: Tensor, state: Any, resets: Tensor | None, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """One step without any look at the flags by the host."""
        start = state if resets is None else self._clear(state, resets[0])
        if x.is_cpu and all_sound((x,), start):
            y, new = self._fused(x, start)
            if is_valid is None:
                return y, new
            valid = is_valid[0].unsqueeze(-1)
            kept = (torch.where(valid, after, before) for after, before in zip(new, start, strict=True))
            return torch.where(valid, y, 0.0), self.state_type(*kept)
        return self._wary_step(x, start, is_valid)

    def _wary_step(self, x: Tensor, start: Any, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """One step from ``start``, where anything may not be finite."""
        fine = x.isfinite().all(-1, keepdim=True)  # [1, B, 1]
        sound = torch.stack([leaf.isfinite().all(-1, keepdim=True) for leaf in start]).all(0)  # [B, 1]
        mended = self.state_type(*(leaf.masked_fill(~sound, 0.0) for leaf in start))
        valid = torch.ones_like(fine[0]) if is_valid is None else is_valid[0].to(x.device).unsqueeze(-1)
        y, new = self._fused(bounded(x).masked_fill(~(fine & valid), 0.0), mended)
        read, writes = fine[0] & sound, fine[0] & sound & valid  # what is not sound stays as it is
        kept = (torch.where(writes, after, before) for after, before in zip(new, start, strict=True))
        return torch.where(valid, torch.where(read, y, torch.nan), 0.0), self.state_type(*kept)

    def _one_by_one(self, x: Tensor, state: Any, resets: Tensor | None, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """A sequence with something in it that is not finite; as slow as it is rare."""
        reads = []
        for t in range(x.shape[0]):
            flags = (None if part is None else part[t : t + 1] for part in (resets, is_valid))
            y, state = self._step(x[t : t + 1], state, *flags)
            reads.append(y)
        return torch.cat(reads), state

    def _stretched(self, x: Tensor, state: Any, plan: Stretches, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """One fused call a stretch."""
        steps, batch, size = x.shape
        clear, live = plan.clear.to(x.device), plan.live.to(x.device)
        gather = None if plan.gather is None else plan.gather.to(x.device)
        if gather is not None and is_valid is not None:
            clean = x.masked_fill(~is_valid.to(x.device).unsqueeze(-1), 0.0)
            x = clean.reshape(steps * batch, size)[gather]
        reads = []
        for start, stop in pairwise(plan.bounds):
            if bool(plan.clear[start].any()):
                state = self._clear(state, clear[start])
            y, after = self._fused(x[start:stop], state)
            if not bool(plan.live[start].all()):
                mask = live[start].unsqueeze(-1)
                after = self.state_type(*(torch.where(mask, new, old) for new, old in zip(after, state, strict=True)))
            state = after
            reads.append(y)
        if gather is None:
            return torch.cat(reads), state
        blank = x.new_zeros(steps * batch, self.width)
        if not reads:
            return blank.view(steps, batch, self.width), state
        y = torch.cat(reads).masked_fill(~live.unsqueeze(-1), 0.0)  # rows past a stream's end fall on invalid steps
        return blank.index_copy(0, gather.flatten(), y.flatten(0, 1)).view(steps, batch, self.width), state

    def _packed(self, x: Tensor, state: Any, resets: Tensor | None, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """One fused call over all segments."""
        steps, batch, size = x.shape
        plan = segments(resets, is_valid, steps, batch, x.device)
        starts = self.state_type(*(leaf[plan.stream] for leaf in state))
        rows = x.reshape(steps * batch, size)[plan.gather]
        out, ends = self._fused(PackedSequence(rows, plan.batch_sizes), self._clear(starts, ~plan.carried))
        y = x.new_zeros(steps * batch, self.width).index_copy(0, plan.gather, out.data)
        final = (torch.cat((end, leaf))[self._final(plan.last, end)] for end, leaf in zip(ends, state, strict=True))
        return y.view(steps, batch, self.width), self.state_type(*final)

    @staticmethod
    def _final(last: Tensor, ends: Tensor) -> Tensor:
        """Row of each stream's last state in (ends, old states)."""
        count = ends.shape[0]
        own = torch.arange(last.shape[0], device=last.device) + count
        return torch.where(last < count, last, own)

    def _clear(self, state: Any, where: Tensor) -> Any:
        """Replaces the states marked in ``where`` [B] by fresh ones; neither value nor gradient passes."""
        mask = where.to(state[0].device).unsqueeze(-1)
        return self.state_type(*(leaf.masked_fill(mask, 0.0) for leaf in state))

    def levels(self) -> list[LevelInfo]:
        """One row: the recurrent state."""
        name = type(self).__name__.removesuffix("Core").lower()
        return [
            LevelInfo(
                f"core.{name}",
                f"{' and '.join(self.state_type._fields)}, {self.state_size} floats a stream",
                "encoded observation, action, reward",
                "none of its own: gates trained by the outer loss",
                1,
                "env step",
                self.scope,
            )
        ]


class LstmCore(FusedRecurrentCore):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, o = sigmoid(W x_t + U h_t-1 + b),  g = tanh(...),  c_t = f c_t-1 + i g,  y_t = h_t = o tanh(c_t).
    """

    state_type = LstmState

    def _make(self) -> nn.LSTM:
        return nn.LSTM(self.input_size, self.width)

    def _fused(self, x: Tensor | PackedSequence, state: LstmState) -> tuple[Any, LstmState]:
        y, (hidden, cell) = self.rnn(x, (state.hidden.unsqueeze(0), state.cell.unsqueeze(0)))
        return y, LstmState(hidden.squeeze(0), cell.squeeze(0))


class GruCore(FusedRecurrentCore):
    """Gated recurrent unit (Cho et al. 2014, reset gate after the product, as cuDNN has it).

    r, z = sigmoid(W x_t + U h_t-1 + b),  n = tanh(W_n x_t + b_n + r (U_n h_t-1 + b'_n)),  h_t = (1 - z) n + z h_t-1.
    """

    state_type = GruState

    def _make(self) -> nn.GRU:
        return nn.GRU(self.input_size, self.width)

    def _fused(self, x: Tensor | PackedSequence, state: GruState) -> tuple[Any, GruState]:
        y, hidden = self.rnn(x, state.hidden.unsqueeze(0))
        return y, GruState(hidden.squeeze(0))
