"""What is not finite in a Continuum Memory System: kept out of its products, shown until a reset clears it (``sound``).

The levels of one stream feed each other, so where one of them is ruined nothing that the stream reads means anything,
and no level of it may learn from what it sees.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.last_valid import newest_valid
from nl_agents.memory.sound import mend


class Ruin(NamedTuple):
    """What follows from a memory that is not finite. T steps, B streams, L act-time levels.

    Attributes:
        levels: [B, L] bool, ruined levels that no reset has cleared by the end.
        steps: [T, B] bool, steps at which a level of the stream is ruined.
        learns: [T, B] bool, written steps from which levels may learn.
    """

    levels: Tensor
    steps: Tensor
    learns: Tensor


def find_ruin(state: Any, clears: Tensor, resets: Tensor, writes: Tensor) -> tuple[Any, Ruin]:
    """Takes out of a ``ContinuumState`` what is not finite, and says what follows from it.

    Args:
        state: memory before the first step.
        clears: [L] bool, which levels a reset clears.
        resets: [T, B] bool.
        writes: [T, B] bool.
    """
    (delta, no_delta), (gradient, no_gradient), (start, no_start) = (mend(leaf) for leaf in state[:3])
    (inputs, no_inputs), (signal, no_signal) = (mend(leaf) for leaf in state[3:5])
    levels = (no_delta | no_gradient).any(-1)  # [B, L]
    if start.shape[1]:
        levels = levels | F.pad(no_start.any(-1), (0, levels.shape[1] - start.shape[1]))
    begun = resets.cumsum(0).unsqueeze(-1) > 0  # [T, B, 1]
    waiting = levels & ~(begun & clears)  # [T, B, L]
    unseen = no_inputs.flatten(1).any(-1) | no_signal.any(-1)  # [B] the last step is not known: nothing to compare with
    unseen = unseen & (writes.cumsum(0) == writes)
    steps = waiting.any(-1)
    mended = state._replace(
        level_delta=delta, level_gradient=gradient, level_start=start, level_input=inputs, signal=signal
    )
    return mended, Ruin(waiting[-1], steps, writes & ~steps & ~unseen)


def show_ruin(leaves: list[Tensor], levels: Tensor) -> list[Tensor]:
    """Puts nan back into the level leaves (delta, gradient, start) of ruined levels [B, L] that were not cleared."""
    ends = levels.unsqueeze(-1)
    return [leaf.masked_fill(ends[:, : leaf.shape[1]], torch.nan) for leaf in leaves]


class LastSteps(NamedTuple):
    """Where each step finds the last one. T steps, B streams.

    Attributes:
        newest: [T + 1, B], see ``newest_valid``.
        same: [T, B] bool, the last written step belongs to the step's own episode.
        lost: [B] bool, a spoilt step has begun an episode of which nothing has been written yet.
    """

    newest: Tensor
    same: Tensor
    lost: Tensor


def last_steps(writes: Tensor, resets: Tensor) -> LastSteps:
    """Looks over steps that write nothing; ``resets`` holds those of spoilt first steps too."""
    newest = newest_valid(writes)
    episode = resets.cumsum(0)
    found = torch.cat((torch.zeros_like(episode[:1]), episode)).gather(0, newest)
    return LastSteps(newest, found[:-1] == episode, found[-1] != episode[-1])
