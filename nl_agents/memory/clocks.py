"""Streams whose step clocks differ: those of equal clock run together, each group with its own chunk boundaries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nl_agents.memory.base import MemoryCore


def run_by_clock(
    core: MemoryCore,
    clocks: list[int],
    x: Tensor,
    state: Any,
    is_first: Tensor,
    is_valid: Tensor | None,
    last_action: Tensor | None,
) -> tuple[Tensor, Any]:
    """Runs each group of streams with ``phase`` = its clock and puts them back in order.

    Args:
        core: a core whose state has a leaf ``phase`` [B].
        clocks: the distinct values of that leaf.
        x: [T, B, D], and all others as in ``MemoryCore.forward``.
        state: memory before the first step, batch first.
        is_first: [T, B].
        is_valid: [T, B] or None.
        last_action: [T, B, A] or None.

    Returns:
        read-out [T, B, width] and the memory after the last step, streams in the order given.
    """
    groups = [torch.nonzero(state.phase == clock).squeeze(1) for clock in clocks]
    results = [
        core(
            x[:, group],
            type(state)(*(leaf[group] for leaf in state)),
            is_first[:, group],
            None if is_valid is None else is_valid[:, group],
            None if last_action is None else last_action[:, group],
            clock,
        )
        for clock, group in zip(clocks, groups, strict=True)
    ]
    order = torch.cat(groups).argsort()
    y = torch.cat([result[0] for result in results], dim=1)[:, order]
    leaves = zip(*(result[1] for result in results), strict=True)
    return y, type(state)(*(torch.cat(leaf)[order] for leaf in leaves))
