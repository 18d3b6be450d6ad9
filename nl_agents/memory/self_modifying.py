"""Self-modifying linear memory: keys, values, step sizes and retention come from memories that write themselves."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.delta_scan import SelfModifyingScan, pieces
from nl_agents.memory.form import compiled
from nl_agents.memory.options import check_retention, whole
from nl_agents.types import LevelInfo


class SelfModifyingState(NamedTuple):
    """What one stream remembers. All zero = fresh.

    Attributes:
        delta: [B, H, K, R] the stream's own deviation from the meta-learned matrices (the running memory), key-major.
        anchor: [B, H, K, R] the deviation at the start of the current chunk, which the projections use.
    """

    delta: Tensor
    anchor: Tensor


class SelfModifyingMemory(nn.Module):
    """H heads of self-modifying linear memory (Nested Learning, Eqs. 83-93), read before write.

    The equations, and where they differ from the paper, stand in ``delta_scan``. The read-out of all heads is
    normalised, gated and mixed: y = W_out(norm(M_mem q) * silu(W_gate x)).

    Heads are split into those cleared at every episode and those never cleared; within each kind the retention time
    constants tau (env steps; alpha = exp(-1/tau) for an undecided gate) start log-spaced and are learnt around that.

    With ``projection_retention`` tau_p, what a stream has written into key, value, step and retention fades towards the
    meta-learned matrices while mem does not: at the end of every chunk of C steps (after a valid step) these rows of
    Delta and anchor are multiplied by exp(-C / tau_p). Without it, targets that the memory makes for itself drift as
    long as it writes, and facts are lost because they are no longer addressed as they were written
    (docs/lab_notes.md). Ours, not the paper's, whose retention is one for all. Chunks are then run one by one.

    Gradients flow through every write of the sequence, to the meta-learned matrices, to the gates and to the state that
    was handed in; the caller detaches states where it truncates.
    """

    def __init__(
        self,
        width: int,
        heads: int = 8,
        key_size: int = 16,
        chunk: int = 32,
        never_heads: int | None = None,
        retention: tuple[float, float] = (10.0, 1e5),
        step_limit: float = 1.0,
        projection_retention: float | None = None,
    ) -> None:
        super().__init__()
        heads, key_size = whole("heads", heads), whole("key_size", key_size)
        never_heads = heads - heads // 2 if never_heads is None else never_heads
        if not 0 <= whole("never_heads", never_heads, 0) <= heads:
            raise ValueError(f"never_heads must lie in 0 .. heads = {heads}, got {never_heads}")
        check_retention(retention)
        if not 0.0 < step_limit <= 2.0:
            raise ValueError(f"step_limit must lie in (0, 2]: steps beyond 2 grow without bound; got {step_limit}")
        if projection_retention is not None and not projection_retention > 0.0:
            raise ValueError(
                f"projection_retention must be a time constant > 0 in env steps, or None, got {projection_retention}"
            )
        self.heads, self.key_size, self.step_limit = heads, key_size, float(step_limit)
        self.chunk = whole("chunk", chunk, 1, "env steps")
        self.fade = 1.0 if projection_retention is None else math.exp(-chunk / projection_retention)
        self.never_heads, self.rows = never_heads, 3 * key_size + 2
        self.mix = nn.Linear(width, 3 * heads * key_size)
        self.out = nn.Linear(heads * key_size, width)
        self.memory_0 = nn.Parameter(torch.randn(heads, self.rows, key_size) / math.sqrt(key_size) * 0.5)
        self.gate_bias = nn.Parameter(torch.tensor([0.0, 0.0]).repeat(heads, 1))
        spaced = [
            torch.logspace(math.log10(retention[0]), math.log10(retention[1]), count) if count else torch.empty(0)
            for count in (heads - never_heads, never_heads)
        ]
        self.log_tau = nn.Parameter(torch.cat(spaced).log())
        self.register_buffer("clears", (torch.arange(heads) < heads - never_heads), persistent=False)
        eye, none = torch.eye(key_size), torch.zeros(2, key_size)
        self.register_buffer("residual", torch.cat((eye, eye, none, eye)), persistent=False)
        nn.init.orthogonal_(self.out.weight, 0.5)
        nn.init.zeros_(self.out.bias)

    clears: Tensor
    residual: Tensor

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> SelfModifyingState:
        """Returns newborn memories for ``batch_size`` streams."""
        shape = (batch_size, self.heads, self.key_size, self.rows)
        zero = self.memory_0.new_zeros(shape, device=device or self.memory_0.device)
        return SelfModifyingState(zero, zero.clone())

    def forward(
        self,
        x: Tensor,
        state: SelfModifyingState,
        is_first: Tensor,
        is_valid: Tensor | None,
        phase: int,
        acting: bool = False,
    ) -> tuple[Tensor, SelfModifyingState]:
        """Maps x [T, B, width] to the read-out [T, B, width]; ``phase`` is the step clock at the first step.

        ``acting`` gives the state away and asks for no gradients (``MemoryCore.act``).
        """
        if self.fade == 1.0:
            return self._run(x, state, is_first, is_valid, phase, acting)
        reads = []
        for piece in pieces(len(x), self.chunk, phase):
            part = slice(piece.start, piece.stop)
            valid = None if is_valid is None else is_valid[part]
            read, state = self._run(x[part], state, is_first[part], valid, phase + piece.start, acting)
            reads.append(read)
            if piece.closes:
                state = self._faded(state, None if valid is None else valid[-1])
        return torch.cat(reads), state

    def _faded(self, state: SelfModifyingState, is_valid: Tensor | None) -> SelfModifyingState:
        """The projections' share of the memories, a chunk older; streams whose chunk ends invalid [B] stay."""
        share = self.gate_bias.new_full((1, 1), self.fade)
        if is_valid is not None:
            share = torch.where(is_valid.unsqueeze(1), share, 1.0)
        mem = share.new_ones(len(share), self.key_size)
        share = torch.cat((share.expand(-1, self.rows - self.key_size), mem), 1)[:, None, None]  # [B or 1, 1, 1, R]
        return SelfModifyingState(state.delta * share, state.anchor * share)

    def _run(
        self,
        x: Tensor,
        state: SelfModifyingState,
        is_first: Tensor,
        is_valid: Tensor | None,
        phase: int,
        acting: bool,
    ) -> tuple[Tensor, SelfModifyingState]:
        """One call of the scan."""
        steps, batch, _ = x.shape
        mixed = self.mix(x).view(steps, batch, 3, self.heads, self.key_size)
        if compiled is not None and x.device.type == "cpu":
            valid = torch.ones_like(is_first) if is_valid is None else is_valid
            flags = (self.clears, is_first, valid)
            weights = (self.memory_0, self.residual, self.gate_bias, self.log_tau)
            if acting:
                gate = mixed[:, :, 2].contiguous()
                read, *memories = compiled.act_memory(
                    mixed, weights, *state, flags, (self.chunk, phase), self.step_limit
                )
            else:
                read, gate, *memories = compiled.CompiledMemory.apply(
                    mixed, *weights, *state, *flags, self.chunk, phase, self.step_limit
                )
            state = SelfModifyingState(*memories)
        else:
            gate = mixed[:, :, 2]
            read, state = self._scan(mixed, state, is_first, is_valid, phase)
        read = F.layer_norm(read, (self.key_size,)) * F.silu(gate)
        return self.out(read.reshape(steps, batch, -1)), state

    def _scan(
        self, mixed: Tensor, state: SelfModifyingState, is_first: Tensor, is_valid: Tensor | None, phase: int
    ) -> tuple[Tensor, SelfModifyingState]:
        """The portable form: chunks by batched products. mixed [T, B, 3, H, K] -> read-out [T, B, H, K]."""
        steps, batch, _, heads, width = mixed.shape
        count = heads * batch
        c, q = F.normalize(mixed[:, :, :2], dim=-1, eps=1e-6).permute(2, 3, 1, 0, 4).reshape(2, count, steps, width)
        valid = mixed.new_ones(count, steps, 1)
        if is_valid is not None:
            valid = is_valid.T.to(mixed.dtype).repeat(heads, 1).unsqueeze(-1)
        base = self.memory_0 + self.residual  # [H, R, K]
        dynamic, delta, anchor = SelfModifyingScan.apply(  # type: ignore[no-untyped-call]
            c,
            q,
            base,
            self.gate_bias,
            2.0 * torch.exp(-self.log_tau),
            state.delta.permute(1, 0, 3, 2).reshape(count, self.rows, width),
            state.anchor.permute(1, 0, 3, 2).reshape(count, self.rows, width),
            valid,
            self._segments(is_first, is_valid),
            pieces(steps, self.chunk, phase),
            self.step_limit,
        )
        static = torch.bmm(q.reshape(heads, -1, width), base[:, 2 * width + 2 :].mT)
        read = (dynamic.reshape(heads, -1, width) + static).view(heads, batch, steps, width).permute(2, 1, 0, 3)
        after = (memory.reshape(heads, batch, self.rows, width).permute(1, 0, 3, 2) for memory in (delta, anchor))
        return read, SelfModifyingState(*after)

    def _segments(self, is_first: Tensor, is_valid: Tensor | None) -> Tensor:
        """Episode number within the sequence for every head and stream [H * B, T]; constant for heads never cleared."""
        resets = is_first if is_valid is None else is_first & is_valid
        episode = resets.cumsum(0).T.to(self.memory_0.dtype)  # [B, T]
        return (self.clears[:, None, None] * episode).reshape(-1, is_first.shape[0])

    def levels(self, prefix: str) -> list[LevelInfo]:
        """One row for each kind of head."""
        rows = []
        for scope, count in (("episode", self.heads - self.never_heads), ("never", self.never_heads)):
            if count:
                size = 2 * count * self.rows * self.key_size  # delta and anchor
                rows.append(
                    LevelInfo(
                        f"{prefix}.{scope}",
                        f"{count} heads, {size} floats a stream",
                        "encoded observation, action, reward",
                        "L2 to self-generated values (delta rule)",
                        1,
                        "env step",
                        scope,  # type: ignore[arg-type]
                    )
                )
        return rows
