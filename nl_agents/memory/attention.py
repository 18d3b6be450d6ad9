"""Windowed causal self-attention: the transformer peer, with a bounded memory of keys and values.

A step attends to itself and to the ``window`` steps before it (Vaswani et al. 2017, Eq. 1, with a learnt bias a head
and distance as in Raffel et al. 2020, "T5", section 2.1, but without buckets):

    o_t = sum_j softmax_j(q_t . k_j / sqrt(K) + bias[t - j]) v_j,      0 <= t - j <= window, j in the memory's episode.

Keys and values are shared by all heads of a group (Ainslie et al. 2023; one group is Shazeer's multi-query attention),
so that the same state reaches further back. Steps that write nothing have no place in the window: distances count
written steps. Before the products they are moved behind all others, which leaves a plain band; it is cut into blocks of
queries, each against the keys of its block and the ``window`` before it. No loop over T, and no T x T matrix.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.base import MemoryCore
from nl_agents.memory.options import whole
from nl_agents.memory.sound import sort_out, spoil
from nl_agents.types import LevelInfo, Scope


class AttentionState(NamedTuple):
    """What one stream remembers. All zero = fresh.

    Attributes:
        key: [B, window, G, K] the last keys, newest last.
        value: [B, window, G, K] their values.
        length: [B] int64, how many of the slots are filled (the last ones).
    """

    key: Tensor
    value: Tensor
    length: Tensor


class AttentionCore(MemoryCore):
    """Attention to itself and to a window of steps before, keys and values kept as memory.

        h_t = W_in x_t,  y_t = norm(h_t + W_out (o_t * silu(W_gate norm(h_t)))), o_t from attention on norm(h_t).

    Differs from a transformer layer: a gate in place of the second, feed-forward half, so that it differs from the
    other peers in its memory only; one layer. The bias starts as -distance * 2^(-8 h / H) for head h (Press et al.
    2022, "ALiBi") and is learnt entry by entry.

    Gradients flow to all keys and values inside the sequence and to those handed in; the caller detaches states where
    it truncates. The memory is bounded: keys and values are linear in a normalised input.

    Args:
        input_size: features of x.
        width: features of y and of the residual stream.
        scope: ``episode`` empties the window before every first step, ``never`` lets it reach over episodes.
        heads: H; ``width`` is a multiple of it and K = width / H.
        groups: G, groups of heads with keys and values of their own; ``heads`` is a multiple of it.
        window: steps before the current one that are remembered.
    """

    state_type = AttentionState

    def __init__(
        self,
        input_size: int,
        width: int,
        *,
        scope: Scope = "episode",
        heads: int = 8,
        groups: int = 1,
        window: int = 128,
    ) -> None:
        super().__init__(input_size, width)
        if scope not in ("episode", "never"):
            raise ValueError(f"scope must be 'episode' or 'never', got {scope!r}")
        if width % whole("heads", heads):
            raise ValueError(f"width must be a multiple of heads >= 1, got width {width} and heads {heads}")
        if heads % whole("groups", groups):
            raise ValueError(f"heads must be a multiple of groups >= 1, got heads {heads} and groups {groups}")
        self.scope, self.heads, self.groups = scope, heads, groups
        self.window = whole("window", window, 1, "env steps")
        self.key_size = width // heads
        self.embed = nn.Linear(input_size, width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 2 * width + 2 * groups * self.key_size)
        self.out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
        self.bias = nn.Parameter(-slopes[:, None] * torch.arange(window + 1))

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AttentionState:
        """Returns newborn memories for ``batch_size`` streams."""
        device = device or self.bias.device
        empty = self.bias.new_zeros(batch_size, self.window, self.groups, self.key_size, device=device)
        return AttentionState(empty, empty.clone(), torch.zeros(batch_size, dtype=torch.int64, device=device))

    def forward(
        self,
        x: Tensor,
        state: AttentionState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, AttentionState]:
        """See ``MemoryCore.forward``; ``last_action`` and ``phase`` are not used. Never synchronises with the host."""
        self.check(x, state, is_first, is_valid, last_action)
        x, resets, writes, spoilt = sort_out(x, is_first, is_valid)
        h = self.embed(x)
        query, gate, pair = self.mix(self.norm(h)).split((self.width,) * 2 + (2 * self.groups * self.key_size,), -1)
        order = (~writes).to(torch.uint8).argsort(dim=0, stable=True)  # [T, B] written steps first, in time
        episode = resets.cumsum(0) if self.scope == "episode" else torch.zeros_like(order)  # [T, B]
        query, pair = (part.gather(0, order.unsqueeze(-1).expand_as(part)) for part in (query, pair))
        memory = torch.cat((state.key.flatten(2), state.value.flatten(2)), -1)  # [B, window, 2GK]
        slot = torch.arange(self.window, device=x.device)
        filled = slot >= self.window - state.length.unsqueeze(1)  # [B, window]
        known = torch.cat((memory, pair.transpose(0, 1)), 1)  # [B, window + T, 2GK]
        born = torch.cat((filled.long() - 1, episode.gather(0, order).T), 1)  # the episode of each, -1 in empty slots
        read, touched = self._attend(query.transpose(0, 1), known, born)
        back = order.argsort(dim=0)  # where each step went
        read = read.transpose(0, 1).gather(0, back.unsqueeze(-1).expand(-1, -1, self.width))
        read = read.masked_fill(~writes.unsqueeze(-1), 0.0)  # who has no place in the window reads nothing
        y = self.norm_out(h + self.out(read * F.silu(gate)))
        y = spoil(cast(Tensor, y), spoilt, touched.T.gather(0, back) & writes)
        return y, self._last(known, born, writes.sum(0), episode[-1])

    def _attend(self, query: Tensor, known: Tensor, born: Tensor) -> tuple[Tensor, Tensor]:
        """Attends block by block.

        Args:
            query: [B, T, W].
            known: [B, window + T, 2GK] keys and values, those of query t at window + t.
            born: [B, window + T] episode of each, -1 where there is nothing.

        Returns:
            read-out [B, T, W], and [B, T] whether anything that was attended to is not finite.
        """
        batch, steps, _ = query.shape
        size = min(steps, self.window)  # Q, queries of a block
        span = self.window + size  # S
        missing = -steps % size
        count = (steps + missing) // size  # L blocks
        query, known = F.pad(query, (0, 0, 0, missing)), F.pad(known, (0, 0, 0, missing))
        born = torch.cat((born, born[:, -1:].expand(-1, missing)), 1)
        broken = ~known.sum(-1).isfinite()  # one look at each row: a sum keeps what is not finite
        key, value = (
            known.masked_fill(broken.unsqueeze(-1), 0.0)
            .unfold(1, span, size)  # [B, L, 2GK, S]
            .reshape(batch, count, 2, self.groups, self.key_size, span)
            .unbind(2)
        )
        rows = query.view(batch, count, size, self.groups, -1, self.key_size).permute(0, 1, 3, 4, 2, 5)
        shape = rows.shape[:-1]  # [B, L, G, H / G, Q]
        score = (rows.reshape(*shape[:3], -1, self.key_size) @ key).view(*shape, span) / math.sqrt(self.key_size)
        places = torch.arange(span, device=query.device)
        distance = self.window + places[:size, None] - places  # [Q, S]
        band = (distance >= 0) & (distance <= self.window)
        same = born[:, self.window :].reshape(batch, count, size, 1) == born.unfold(1, span, size).unsqueeze(2)
        seen = band & same  # [B, L, Q, S]
        bias = self.bias[:, distance.clamp(0, self.window)].view(self.groups, -1, size, span)
        score = (score + bias).masked_fill(~seen[:, :, None, None], -torch.inf)
        share = score.softmax(-1).view(*shape[:3], -1, span)
        read = (share @ value.mT).view(*shape, self.key_size).permute(0, 1, 4, 2, 3, 5)
        touched = (seen & broken.unfold(1, span, size).unsqueeze(2)).any(-1)
        return read.reshape(batch, -1, self.width)[:, :steps], touched.view(batch, -1)[:, :steps]

    def _last(self, known: Tensor, born: Tensor, written: Tensor, episode: Tensor) -> AttentionState:
        """The window after the sequence: the last ``window`` written steps, without those of an earlier episode."""
        slots = written.unsqueeze(1) + torch.arange(self.window, device=known.device)  # [B, window]
        keep = born.gather(1, slots) == episode.unsqueeze(1)
        kept = known.gather(1, slots.unsqueeze(-1).expand(-1, -1, known.shape[2]))
        kept = kept.masked_fill(~keep.unsqueeze(-1), 0.0).unflatten(-1, (2, self.groups, self.key_size))
        return AttentionState(kept[:, :, 0], kept[:, :, 1], keep.sum(1))

    def matrices(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """See ``MemoryCore.matrices``: the window, a step a row."""
        window = (self.window, self.groups * self.key_size)
        return {"key": (window,), "value": (window,)}

    def levels(self) -> list[LevelInfo]:
        """One row: the window."""
        floats = 2 * self.window * self.groups * self.key_size
        return [
            LevelInfo(
                "core.attention",
                f"keys and values of {self.window} steps, {floats} floats a stream",
                "encoded observation, action, reward",
                "none of its own: queries, keys and values trained by the outer loss",
                1,
                "env step",
                self.scope,
            )
        ]
