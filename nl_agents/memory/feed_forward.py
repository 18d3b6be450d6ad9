"""The core that remembers nothing: the floor of every comparison, and as fast as a network gets."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.base import MemoryCore, NoState
from nl_agents.memory.options import whole
from nl_agents.memory.sound import all_sound, bounded, spoil
from nl_agents.types import LevelInfo


class FeedForwardCore(MemoryCore):
    """Residual multi-layer perceptron: h_0 = W_in x_t,  h_l+1 = h_l + W_l' silu(W_l norm(h_l)),  y_t = norm(h_L).

    Args:
        input_size: features of x.
        width: features of y and of the residual stream.
        depth: residual blocks, >= 0.
        expansion: hidden width of a block / width.
    """

    state_type = NoState

    def __init__(self, input_size: int, width: int, *, depth: int = 1, expansion: float = 1.0) -> None:
        super().__init__(input_size, width)
        depth = whole("depth", depth, 0, "blocks")
        self.embed = nn.Linear(input_size, width)
        self.blocks = nn.ModuleList(_Block(width, max(1, int(expansion * width))) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> NoState:
        """Returns the empty state of ``batch_size`` streams."""
        weight = self.embed.weight
        return NoState(weight.new_zeros(batch_size, 0, device=device or weight.device))

    def forward(
        self,
        x: Tensor,
        state: NoState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, NoState]:
        """See ``MemoryCore.forward``; only ``x`` matters; where it is not finite the read-out is nan."""
        self.check(x, state, is_first, is_valid, last_action)
        broken = None if x.is_cpu and all_sound((x,)) else ~x.isfinite().all(-1)
        h = self.embed(x if broken is None else bounded(x).masked_fill(broken.unsqueeze(-1), 0.0))
        for block in self.blocks:
            h = block(h)
        y = cast(Tensor, self.norm_out(h))
        return y if broken is None else spoil(y, broken), state

    def levels(self) -> list[LevelInfo]:
        """Nothing here learns on a time scale of its own."""
        return []


class _Block(nn.Module):
    """h + W' silu(W norm(h))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.lift = nn.Linear(width, hidden)
        self.drop = nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        return cast(Tensor, h + self.drop(F.silu(self.lift(self.norm(h)))))
