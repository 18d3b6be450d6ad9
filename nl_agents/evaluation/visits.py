"""Cuts a life into visits (stretches between two switches) and says which episode belongs to which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nl_agents.evaluation.lifetime import Floats, Ints, Lifetime


@dataclass(frozen=True)
class Visits:
    """The V visits of a life, and for each of its E episodes the visit it counts for.

    Attributes:
        begin: [V] scheduled step at which the visit begins.
        end: [V] scheduled step at which it ends (the life's last step for the last visit).
        task: [V] task index.
        number: [V] 1 for the first visit of its task, 2 for the second ...
        cut: [V] True where the life ended before the visit could (the last one).
        of_episode: [E] visit that the episode counts for, -1 for none (it straddles a switch).
    """

    begin: Ints
    end: Ints
    task: Ints
    number: Ints
    cut: NDArray[np.bool_]
    of_episode: Ints

    @property
    def length(self) -> Ints:
        """[V] env steps over all streams."""
        return self.end - self.begin

    @property
    def task_length(self) -> float:
        """Median length of the visits, env steps; the last, which the end of life cuts, only if it is the only one."""
        return float(np.median(self.length[:-1] if len(self.begin) > 1 else self.length))


def find_visits(life: Lifetime) -> Visits:
    """Finds the visits of a life and the visit each episode counts for.

    An episode counts for the visit in which it began, if it began after the switch had reached its stream, was on the
    visit's task to its end, and did not straddle the next switch. A switch takes effect at a vector step, so an episode
    that ended in the very vector step that reached the next switch still counts: it straddles when it ended more than
    ``num_envs - 1`` steps after the scheduled step, or after the switch had reached its stream.

    Args:
        life: the record. Where ``effective_log`` is empty the scheduled steps stand in for the effective ones.
    """
    names = {name: index for index, name in enumerate(life.task_names)}
    steps: list[int] = []
    tasks: list[int] = []
    for step, name in life.task_log:
        if (step < life.steps or step == 0) and (not tasks or tasks[-1] != names[name]):
            steps.append(step)
            tasks.append(names[name])
    begin, task = np.array(steps, np.int64), np.array(tasks, np.int64)
    end = np.append(begin[1:], max(life.steps, int(begin[-1])))
    number = np.array([np.sum(task[: index + 1] == task[index]) for index in range(len(task))], np.int64)
    cut = np.zeros(len(begin), bool)
    cut[-1] = True
    visits = Visits(begin, end, task, number, cut, np.empty(0, np.int64))
    return Visits(begin, end, task, number, cut, _visit_of_episode(life, visits))


def _visit_of_episode(life: Lifetime, visits: Visits) -> Ints:
    reached = _reached_streams(life, visits)  # [V, B]
    visit = np.searchsorted(visits.begin, life.begin, side="right") - 1
    logged = reached[visit, life.stream]
    began_after = life.begin >= np.where(np.isinf(logged), visits.begin[visit], logged)
    following = np.minimum(visit + 1, len(visits.begin) - 1)
    limit = np.minimum(reached[following, life.stream], visits.begin[following] + life.num_envs - 1)
    ended_before = (visit == following) | (life.step <= limit)
    same_task = life.task == visits.task[visit]
    return np.where(began_after & ended_before & same_task, visit, -1)


def _reached_streams(life: Lifetime, visits: Visits) -> Floats:
    """[V, B] clock at which the visit's switch reached the stream; infinite where nothing was logged."""
    table = np.full((len(visits.begin), life.num_envs), np.inf)
    if life.effective_log:
        names = {name: index for index, name in enumerate(life.task_names)}
        clock = np.array([row[0] for row in life.effective_log], np.int64)
        stream = np.array([row[1] for row in life.effective_log], np.int64)
        task = np.array([names.get(row[2], -1) for row in life.effective_log], np.int64)
        visit = np.searchsorted(visits.begin, clock, side="right") - 1
        fits = task == visits.task[visit]
        np.minimum.at(table, (visit[fits], stream[fits]), clock[fits])
    return table
