"""What is not finite in a Hope core: kept out of its products, shown until a reset clears it (``sound``).

A stream with a ruined memory reads nan and writes nothing until the reset that clears what is ruined; one whose ruined
memory nothing clears does so for good. A step with features that are not finite reads nan and writes nothing; if it
begins an episode, the episode's memories are cleared all the same. A stream whose last step is not known (its key or
signal is not finite, which is also how such a clearing is remembered) goes on as if an episode began.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nl_agents.memory.sound import mend, sort_out, spoil

if TYPE_CHECKING:
    from nl_agents.memory.hope import HopeCore, HopeState

Run = Callable[[Tensor, Any, Tensor, Tensor, Tensor | None], tuple[Tensor, Any]]


def run_soundly(
    core: HopeCore,
    run: Run,
    x: Tensor,
    state: HopeState,
    is_first: Tensor,
    is_valid: Tensor | None,
    last_action: Tensor | None,
) -> tuple[Tensor, HopeState]:
    """Hands ``run`` (the core on x, state, is_first, is_valid, last_action) finite numbers only, and shows the others.

    Returns:
        Read-outs and memory of ``run``, with nan where this module says so.
    """
    told = x if last_action is None else torch.cat((x, last_action), dim=-1)
    steps = sort_out(told, is_first, is_valid, keeps_idle=True)  # as they are where all is finite
    resets, begun = steps.resets, steps.resets.cumsum(0) > 0  # [T, B]
    leaves, broken = zip(*(mend(leaf) for leaf in state[:-1]), strict=True)
    heads = (broken[0] | broken[1]).flatten(2).any(-1)  # [B, H]
    level = (broken[2] | broken[3]).flatten(1).any(-1)  # [B]
    unseen = (broken[4] | broken[5]).any(-1)  # [B] the last step is not known: nothing to learn from at the next one
    fades, ends = core.fast.scope == "episode", begun[-1]
    lasting = (heads & ~core.memory.clears).any(-1) | (level if not fades else torch.zeros_like(level))
    passing = (heads & core.memory.clears).any(-1) | (level if fades else torch.zeros_like(level))
    ruined = lasting | (passing & ~begun)  # [T, B]
    writes = steps.writes & ~ruined
    owed = resets & ~writes  # resets of steps that write nothing: the next step that does makes up for them
    count = owed.cumsum(0)
    paid = torch.where(writes, count, 0).cummax(0).values  # of those that began before the last writing step
    before = torch.cat((torch.zeros_like(paid[:1]), paid[:-1]))
    is_first = writes & (resets | (count > before) | (unseen & (writes.cumsum(0) == 1)))
    cut = (x.shape[-1], 0 if last_action is None else last_action.shape[-1])
    given, action = steps.x.split(cut, dim=-1)
    make: Any = core.state_type
    y, after = run(given, make(*leaves, state[-1]), is_first, writes, None if last_action is None else action)
    unpaid = count[-1] > paid[-1]  # [B] cleared by a step that wrote nothing, and not written since
    unseen = unpaid | (unseen & ~writes.any(0))
    drop = core.memory.clears & unpaid.unsqueeze(-1)  # [B, H]
    stays = heads & ~(core.memory.clears & ends.unsqueeze(-1))
    for_level = (unpaid & fades, level & ~(ends & fades))
    marks = [(mask.view(*mask.shape, 1, 1), nan.view(*nan.shape, 1, 1)) for mask, nan in ((drop, stays), for_level)]
    never = torch.zeros_like(unseen)
    masks = [marks[0], marks[0], marks[1], marks[1], *[(never.unsqueeze(-1), unseen.unsqueeze(-1))] * 2]
    shown = [
        leaf.masked_fill(zero, 0.0).masked_fill(nan, torch.nan)
        for leaf, (zero, nan) in zip(after[:-1], masks, strict=True)
    ]
    return spoil(y, steps.spoilt, ruined), make(*shown, after[-1])
