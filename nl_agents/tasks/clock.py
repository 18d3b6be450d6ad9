"""The one clock of a life: counts valid env steps over all streams and knows which task is scheduled."""

from __future__ import annotations

import sys

from nl_agents.errors import StateMismatchError
from nl_agents.tasks.per_episode import PerEpisode
from nl_agents.tasks.schedules import Schedule

_NEVER = sys.maxsize


class TaskClock:
    """Follows a schedule from step 0.

    Args:
        schedule: when which task is in force; ``PerEpisode`` reads finished episodes instead of steps.
        seed: the life's schedule seed.
        task_names: one name per task index, for the log.

    Attributes:
        now: valid env steps over all streams so far.
        episodes: episodes ended over all streams so far.
        scheduled: index of the task that the schedule has in force at ``now``.
        log: ``(scheduled step, task name)`` of every switch that came due; ``PerEpisode``: the step at which it did.
    """

    def __init__(self, schedule: Schedule, seed: int, task_names: list[str]) -> None:
        self.now = 0
        self.episodes = 0
        self.scheduled = -1
        self.log: list[tuple[int, str]] = []
        self.by_episode = isinstance(schedule, PerEpisode)
        self._names = task_names
        self._upcoming = schedule.switches(seed, len(task_names))
        self._next_step, self._next_task = next(self._upcoming)
        if self._next_step != 0:
            raise ValueError(f"a schedule must begin at step 0, this one begins at {self._next_step}: close the gap")
        self._take_due()

    def advance(self, steps: int, episodes: int = 0) -> bool:
        """Counts ``steps`` and ended ``episodes`` more; returns True if switches came due."""
        self.now += steps
        self.episodes += episodes
        if (self.episodes if self.by_episode else self.now) < self._next_step:
            return False
        self._take_due()
        return True

    def rewind_to(self, now: int, log: list[tuple[int, str]], episodes: int = 0) -> None:
        """Takes a new clock forward to a saved moment.

        Raises:
            StateMismatchError: the schedule does not lead to the saved log.
        """
        self.advance(now - self.now, episodes - self.episodes)
        if self.by_episode and [name for _, name in self.log] == [name for _, name in log]:
            self.log = list(log)  # at which env steps the episodes ended, the schedule cannot know
        if self.log != log:
            raise StateMismatchError(
                f"the saved task log ends {log[-2:]}, this schedule gives {self.log[-2:]}; give the same schedule and "
                "seed as when the state was saved"
            )

    def _take_due(self) -> None:
        while (self.episodes if self.by_episode else self.now) >= self._next_step:
            if not 0 <= self._next_task < len(self._names):
                raise ValueError(f"the schedule names task {self._next_task} of {len(self._names)} tasks from 0")
            if self._next_task != self.scheduled:
                self.scheduled = self._next_task
                self.log.append((self.now if self.by_episode else self._next_step, self._names[self.scheduled]))
            before = self._next_step
            step, self._next_task = next(self._upcoming, (_NEVER, self.scheduled))
            self._next_step = int(step)
            if self._next_step <= before:
                raise ValueError(
                    f"switches must come at rising steps, got {self._next_step} after {before}: every task needs at "
                    "least one env step"
                )
