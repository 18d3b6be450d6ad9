"""Sequences that begin anywhere, run together although their memories' step clocks differ.

RecurrentPPO cuts sequences at episode starts, so each has a clock of its own, and a core whose writes follow a clock
would run them one by one. But a sequence may be given invalid steps in front: between two marks of the clock they
change nothing. So each sequence starts at the last mark before its own clock; those of the same mark run together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nl_agents.memory.base import MemoryCore


def run_aligned(core: MemoryCore, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None) -> Tensor:
    """Runs sequences of different clocks in as few groups as the core's marks allow.

    Equal to ``core(x, state, is_first, is_valid)[0]``; the memory after the last step is not kept.

    Args:
        core: a core with ``clock_period`` > 1 whose state has a leaf ``phase`` [B].
        x: [T, B, D].
        state: before the first step, batch first.
        is_first: [T, B] bool.
        is_valid: [T, B] bool, None: all.

    Returns:
        read-out [T, B, width]; where a step is invalid whatever the core says there.
    """
    clock = state.phase.long()
    mark = torch.stack([clock - clock % period for period in core.clock_marks()]).amax(0)  # [B]
    lead = clock - mark  # [B] invalid steps in front
    reads = x.new_empty(x.shape[0], x.shape[1], core.width)
    for start in mark.unique().tolist():
        group = torch.nonzero(mark == start).squeeze(1)
        given = type(state)(*(leaf[group] for leaf in state))._replace(phase=torch.full_like(state.phase[group], start))
        valid = None if is_valid is None else is_valid[:, group]
        part = _run_behind(core, x[:, group], given, is_first[:, group], valid, lead[group], int(start))
        reads = reads.index_copy(1, group, part)
    return reads


def _run_behind(
    core: MemoryCore, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None, lead: Tensor, phase: int
) -> Tensor:
    """Runs each sequence behind ``lead`` [B] invalid steps."""
    steps, batch, _ = x.shape
    longest = int(lead.max())
    if longest == 0:
        read: Tensor = core(x, state, is_first, is_valid, None, phase)[0]
        return read
    rows = steps + longest
    place = torch.arange(steps, device=x.device).unsqueeze(1) + lead  # [T, B] where each step goes
    stream = torch.arange(batch, device=x.device).expand(steps, batch)
    behind = x.new_zeros(rows, batch, x.shape[2]).index_put((place, stream), x)
    first, valid = (torch.zeros(rows, batch, dtype=torch.bool, device=x.device) for _ in range(2))
    first[place, stream] = is_first
    valid[place, stream] = torch.ones_like(is_first) if is_valid is None else is_valid
    y = core(behind, state, first, valid, None, phase)[0]
    aligned: Tensor = y[place, stream]
    return aligned
