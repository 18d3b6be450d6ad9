"""Reads a schedule's numbers as episodes instead of env steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nl_agents.tasks.schedules import Schedule


@dataclass(frozen=True)
class PerEpisode:
    """Any schedule on the clock of finished episodes: what it calls a step is an episode, summed over all streams.

    A switch comes due when that many episodes have ended; the task log says at which env step that was. The number of
    episodes between two switches does not depend on the number of streams, the env steps do, and so does the agent:
    whoever ends episodes sooner is switched sooner.

    Args:
        schedule: any schedule, its lengths in episodes: ``PerEpisode(Cyclic(every=500))``.
    """

    schedule: Schedule

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        """Yields ``(finished episodes, task index)`` as the schedule inside does."""
        return self.schedule.switches(seed, num_tasks)

    def shortest_block(self) -> float:
        """Returns ``inf``: how many env steps a block lasts is not known before it is lived."""
        return float("inf")
