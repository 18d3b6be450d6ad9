"""Gated delta rule with fixed projections: the strongest linear-attention memory that does not modify itself.

Per head and stream, a matrix S of K rows and columns (Yang, Kautz & Hatamizadeh 2025, "Gated Delta Networks", Eq. 10):

    S_t = alpha_t S_t-1 - beta_t (alpha_t S_t-1 k_t - v_t) k_t^T,      o_t = S_t q_t.

Chunks of C steps are solved in parallel (the WY form). With g = cumsum(log alpha) inside the chunk,
D_tj = exp(g_t - g_j) for j <= t in one episode, else 0, and e_t = exp(g_t) before the chunk's first reset, 0 after it:

    (I + diag(beta) strict(D * K K^T)) [U, P] = diag(beta) [V, e * K],      W = U - P S_0^T,
    O = e * Q S_0^T + (D * Q K^T) W,                                         S_C = d_C S_0 + (f * W)^T K,

f_t = D_Ct and d_C = e_C. Only W and S_C run chunk after chunk; everything else is one batched product over all chunks.
The form is exact: it does not depend on C, on where sequences are cut, or on resets inside a chunk.

With unit keys the transition alpha (I - beta k k^T) has the eigenvalue alpha (1 - beta) along k. beta = L sigmoid(..)
with a largest step L of 2 lets it be negative, which parity needs (Grazzi et al. 2024, arXiv 2411.12537). It never
stretches what is there, but with L > 1 values may add up in step: rows are bounded by retention alone, to
L |v| / (1 - alpha).

What is not finite: a step with such features writes nothing and reads nan; a memory that holds such a number reads nan
until the reset that clears it; gradients stay finite (``sound``).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.base import MemoryCore
from nl_agents.memory.options import check_retention, whole
from nl_agents.memory.sound import mend_matrices, sort_out, spoil
from nl_agents.types import LevelInfo, Scope

HeadScope = Literal["episode", "never", "split"]


class GatedDeltaState(NamedTuple):
    """What one stream remembers. All zero = fresh.

    Attributes:
        memory: [B, H, K, K] S, rows are values, columns are keys.
    """

    memory: Tensor


class Inputs(NamedTuple):
    """What the rule consumes; N = B * H rows of work.

    Attributes:
        query: [N, T, K] unit length.
        key: [N, T, K] unit length.
        value: [N, T, K].
        strength: [N, T] beta in [0, 2]; 0 where nothing is written.
        log_retention: [N, T] log alpha <= 0; 0 where nothing is written.
        segment: [N, T] number of resets up to and including t (0 throughout for heads never cleared).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    strength: Tensor
    log_retention: Tensor
    segment: Tensor


class GatedDeltaCore(MemoryCore):
    """Matrix memories written by the gated delta rule, keys and values by fixed projections.

        h_t = W_in x_t,  y_t = norm(h_t + W_out (norm(o_t) * silu(W_gate norm(h_t)))), o_t from the rule on norm(h_t).

    Differs from the paper: no short convolution (previous action and reward are inputs); retention is
    alpha = exp(-(2/tau) sigmoid(w x + b)) with a learnt time constant tau a head, log-spaced at first.

    Args:
        input_size: features of x.
        width: features of y and of the residual stream.
        scope: ``episode``, ``never``, or ``split``: the first half of the heads is cleared at episodes.
        heads: H; ``width`` is a multiple of it and K = width / H.
        chunk: C, steps solved in parallel; no effect on the result.
        retention: shortest and longest initial time constant of a kind of heads (env steps).
        step_limit: L, largest step size beta, in (0, 2].
    """

    state_type = GatedDeltaState
    solves = True
    clears: Tensor

    def __init__(
        self,
        input_size: int,
        width: int,
        *,
        scope: HeadScope = "never",
        heads: int = 8,
        chunk: int = 32,
        retention: tuple[float, float] = (10.0, 1e5),
        step_limit: float = 1.0,
    ) -> None:
        super().__init__(input_size, width)
        if scope not in ("episode", "never", "split"):
            raise ValueError(f"scope must be 'episode', 'never' or 'split', got {scope!r}")
        if width % whole("heads", heads):
            raise ValueError(f"width must be a multiple of heads >= 1, got width {width} and heads {heads}")
        chunk = whole("chunk", chunk, 1, "env steps")
        check_retention(retention)
        if not 0.0 < step_limit <= 2.0:
            raise ValueError(f"step_limit must lie in (0, 2]: steps beyond 2 grow without bound; got {step_limit}")
        self.heads, self.key_size, self.chunk, self.step_limit = heads, width // heads, chunk, float(step_limit)
        episode_heads = {"episode": heads, "never": 0, "split": heads // 2}[scope]
        self.register_buffer("clears", torch.arange(heads) < episode_heads, persistent=False)
        self.embed = nn.Linear(input_size, width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 4 * width + 2 * heads)
        self.norm_read = nn.LayerNorm(self.key_size)
        self.out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        low, high = (math.log10(tau) for tau in retention)
        spaced = [torch.logspace(low, high, count) for count in (episode_heads, heads - episode_heads) if count]
        self.log_tau = nn.Parameter(torch.cat(spaced).log())

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> GatedDeltaState:
        """Returns newborn memories for ``batch_size`` streams."""
        shape = (batch_size, self.heads, self.key_size, self.key_size)
        return GatedDeltaState(self.log_tau.new_zeros(shape, device=device or self.log_tau.device))

    def forward(
        self,
        x: Tensor,
        state: GatedDeltaState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, GatedDeltaState]:
        """See ``MemoryCore.forward``; ``last_action`` and ``phase`` are not used. Never synchronises with the host."""
        self.check(x, state, is_first, is_valid, last_action)
        x, resets, writes, spoilt = sort_out(x, is_first, is_valid)
        steps, batch, width = *x.shape[:2], self.width
        h = self.embed(x)
        mixed = self.mix(self.norm(h))  # [T, B, 4W + 2H]
        inputs = self._inputs(mixed, resets, writes)
        memory, broken = mend_matrices(state.memory)
        memory = memory.reshape(-1, self.key_size, self.key_size)
        read, memory = step(inputs, memory) if steps == 1 else chunks(inputs, memory, self.chunk)
        read = self.norm_read(read).view(batch, self.heads, steps, self.key_size).permute(2, 0, 1, 3)
        gate = F.silu(mixed[..., 3 * width : 4 * width])
        y = self.norm_out(h + self.out(read.reshape(steps, batch, width) * gate))
        still = broken.unsqueeze(-1) & (inputs.segment.view(batch, self.heads, steps) == 0)  # not cleared yet
        memory = memory.view_as(state.memory).masked_fill(still[..., -1:, None], torch.nan)
        return spoil(cast(Tensor, y), spoilt, still.any(1).T), GatedDeltaState(memory)

    def _inputs(self, mixed: Tensor, resets: Tensor, writes: Tensor) -> Inputs:
        """Cuts the projections into heads, applies gates and flags."""
        steps, batch, _ = mixed.shape
        heads, size, width = self.heads, self.key_size, self.width
        parts = mixed[..., : 3 * width].view(steps, batch, 3, heads, size).permute(2, 1, 3, 0, 4)
        query, key, value = parts.reshape(3, batch * heads, steps, size).unbind(0)
        gates = mixed[..., 4 * width :].view(steps, batch, 2, heads).permute(2, 1, 3, 0).sigmoid()  # [2, B, H, T]
        gates = gates * writes.T.unsqueeze(1)
        strength = gates[0] * self.step_limit
        log_retention = gates[1] * (-2.0 * torch.exp(-self.log_tau))[:, None]
        segment = resets.cumsum(0).T.unsqueeze(1) * self.clears[:, None]  # [B, H, T]
        flat = (part.reshape(batch * heads, steps) for part in (strength, log_retention, segment))
        return Inputs(F.normalize(query, dim=-1, eps=1e-6), F.normalize(key, dim=-1, eps=1e-6), value, *flat)

    def levels(self) -> list[LevelInfo]:
        """One row a kind of head."""
        cleared = int(self.clears.sum())
        kinds: tuple[tuple[Scope, int], ...] = (("episode", cleared), ("never", self.heads - cleared))
        return [
            LevelInfo(
                f"core.gated-delta.{scope}",
                f"{count} heads, {count * self.key_size**2} floats a stream",
                "encoded observation, action, reward",
                "L2 between S k and the projected value (delta rule)",
                1,
                "env step",
                scope,
            )
            for scope, count in kinds
            if count
        ]


def step(inputs: Inputs, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Runs one step; inputs of T = 1, memory [N, K, K] finite. Returns the read [N, 1, K] and the new memory."""
    query, key, value, strength, log_retention, segment = inputs
    keep = torch.where(segment == 0, log_retention.exp(), 0.0).unsqueeze(-1)  # [N, 1, 1]
    memory = memory * keep
    error = value - torch.bmm(key, memory.mT)  # [N, 1, K]
    memory = torch.baddbmm(memory, (strength.unsqueeze(-1) * error).mT, key)
    return torch.bmm(query, memory.mT), memory


def chunks(inputs: Inputs, memory: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Runs T steps in chunks (equations: module docstring).

    Args:
        inputs: [N, T, ...].
        memory: [N, K, K] before the first step, finite.
        chunk: C.

    Returns:
        read [N, T, K] and the memory after the last step. Gradients flow through all of it.
    """
    rows, steps, size = inputs.key.shape
    chunk = min(chunk, steps)
    count = -(-steps // chunk)
    query, key, value, strength, log_retention, segment = (_cut(part, count, chunk) for part in inputs)
    total = log_retention.cumsum(-1)  # [N, L, C] g, L chunks
    fresh = torch.cat((torch.zeros_like(segment[:, :1, 0]), segment[:, :-1, -1]), 1).unsqueeze(-1)  # at chunk start
    same = (segment.unsqueeze(-1) == segment.unsqueeze(-2)).tril()
    decay = (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(~same, -torch.inf).exp()  # [N, L, C, C] D
    before = torch.where(segment == fresh, total.exp(), 0.0).unsqueeze(-1)  # [N, L, C, 1] e
    beta = strength.unsqueeze(-1)
    lower = (decay * (key @ key.mT) * beta).tril(-1)
    right = torch.cat((value, before * key), -1) * beta
    plain, pull = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True).split(size, -1)
    keep, last = before[:, :, -1:], decay[:, :, -1].unsqueeze(-1)  # d_C, f
    starts, writes = [], []
    for index in range(count):
        starts.append(memory)
        write = torch.baddbmm(plain[:, index], pull[:, index], memory.mT, alpha=-1.0)
        memory = torch.baddbmm(memory * keep[:, index], (write * last[:, index]).mT, key[:, index])
        writes.append(write)
    start, written = torch.stack(starts, 1), torch.stack(writes, 1)
    read = before * (query @ start.mT) + (decay * (query @ key.mT)) @ written
    return read.reshape(rows, count * chunk, size)[:, :steps], memory


def _cut(part: Tensor, count: int, chunk: int) -> Tensor:
    """Cuts [N, T, ...] into [N, L, C, ...]; the last chunk is filled up with steps that change nothing."""
    missing = count * chunk - part.shape[1]
    if missing:
        is_segment = not part.is_floating_point()
        fill = (
            part[:, -1:].expand(-1, missing, *part.shape[2:])
            if is_segment
            else part.new_zeros(part.shape[0], missing, *part.shape[2:])
        )
        part = torch.cat((part, fill), 1)
    return part.reshape(part.shape[0], count, chunk, *part.shape[2:])
