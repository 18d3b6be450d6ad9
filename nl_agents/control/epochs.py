"""How long a decision runs before it is judged, and which of its episodes judge it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WASH_OUT = 0.25
"""Share of an epoch, at its start, that still shows the settings before it and is left out."""


@dataclass(frozen=True)
class EpochRule:
    """When a decision epoch may end: long enough for the slowest level to act, and for the noise to average out.

    Attributes:
        slow_periods: an epoch lasts at least this many periods of the slowest affected level.
        episodes: and holds at least this many finished episodes.
        min_updates: and lasts at least this many learner updates.
    """

    slow_periods: int = 5
    episodes: int = 20
    min_updates: int = 1

    def least_updates(self, periods: Iterable[int]) -> int:
        """Returns the least learner updates of an epoch, given the periods that the controller may affect.

        Args:
            periods: periods in force, in learner updates.
        """
        return max(self.min_updates, self.slow_periods * max(periods, default=1))

    def is_over(self, updates: int, episodes: int, periods: Iterable[int]) -> bool:
        """Tells whether an epoch of so many updates and finished episodes may end now."""
        return updates >= self.least_updates(periods) and episodes >= self.episodes


def settled(returns: Sequence[float]) -> Sequence[float]:
    """Returns the returns of an epoch, in the order the episodes ended, without the first quarter (rounded down)."""
    return returns[math.floor(WASH_OUT * len(returns)) :]


def settled_mean(returns: Sequence[float]) -> float:
    """Returns the mean return of the last three quarters of an epoch.

    Raises:
        ValueError: no returns.
    """
    kept = settled(returns)
    if not kept:
        raise ValueError("expected at least one return, got none; end the epoch only when episodes have ended in it")
    return math.fsum(kept) / len(kept)


def standard_error(returns: Sequence[float]) -> float:
    """Returns the standard error of the mean of some returns; 0 with fewer than two."""
    return statistics.stdev(returns) / math.sqrt(len(returns)) if len(returns) > 1 else 0.0
