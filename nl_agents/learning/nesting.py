"""Nested levels in learner time: a slower level's boundary re-initialises the next faster ones (Eq. 72)."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from nl_agents.errors import ConfigError
from nl_agents.learning.levels import ParameterLevel


class Restarts:
    """Keeps the initial weights of every level but the slowest, and moves them (Nested Learning, Eq. 72).

    Levels of equal period are one level in the paper's sense. Whenever the next slower period C_s has passed, after the
    level's own step:

        start <- start + epsilon (theta - start),    theta <- start

    one first-order step towards the argmin over the C_s updates just made: Reptile (Nichol et al. 2018), or, seen from
    the optimizer, Lookahead (Zhang et al. 2019). epsilon = 1 re-initialises nothing, epsilon = 0 goes back to the
    trained weights at every boundary. Re-initialised are the weights; the optimizer's memory of the level and the
    start that it holds for the next faster one go on (the paper leaves both open). The learner-time twin of
    ``FastBlock.restart``, with the weights of all streams in place of one stream's.

    Args:
        levels: the levels, with their weights at the beginning.
        share: epsilon, 0 .. 1.

    Raises:
        ConfigError: a share outside 0 .. 1, fewer than two periods, or periods that do not divide each other.
    """

    def __init__(self, levels: list[ParameterLevel], share: float) -> None:
        periods = sorted({level.period for level in levels})
        if not 0.0 <= share <= 1.0:
            raise ConfigError(f"nested must be a share between 0 and 1, got {share}")
        if len(periods) < 2:
            raise ConfigError(f"nested levels need two periods or more (learner updates), got {periods}")
        for fast, slow in itertools.pairwise(periods):
            if slow % fast:
                raise ConfigError(
                    f"nested periods must divide each other: {slow} learner updates is no multiple of {fast}; "
                    f"take for example {fast * max(2, round(slow / fast))}"
                )
        self.share = share
        above = dict(itertools.pairwise(periods))
        self._pairs = [
            (level, [other for other in levels if other.period == above[level.period]])
            for level in levels
            if level.period in above
        ]
        self._starts = [[weight.detach().clone() for weight in level.parameters] for level, _ in self._pairs]

    @torch.no_grad()
    def update(self, due: set[str]) -> None:
        """Re-initialises the levels whose next slower one is among ``due``, the names of those that stepped now."""
        for (level, outer), starts in zip(self._pairs, self._starts, strict=True):
            if any(other.name in due for other in outer):
                for weight, start in zip(level.parameters, starts, strict=True):
                    start.lerp_(weight, self.share)
                    weight.copy_(start)

    def state_dict(self) -> dict[str, Any]:
        """Level -> its initial weights."""
        return {level.name: list(own) for (level, _), own in zip(self._pairs, self._starts, strict=True)}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Takes up what ``state_dict`` gave."""
        self._starts = [[value.clone() for value in state[level.name]] for level, _ in self._pairs]
