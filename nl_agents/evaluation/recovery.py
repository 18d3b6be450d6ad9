"""Recovery after a switch, and the step from which returning tasks are recognised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nl_agents.evaluation.lifetime import Floats, Ints, Lifetime
from nl_agents.evaluation.visits import Visits

REVISITS_IN_A_ROW = 3


@dataclass(frozen=True)
class Recoveries:
    """How fast each of V visits got back to the expert's level.

    Attributes:
        steps: [V] env steps after the switch; the visit's length where it never did; NaN where not observed.
        censored: [V] True where it never did.
        first_return: [V] mean return of the first-begun episodes, one per stream; NaN where not observed.
    """

    steps: Floats
    censored: NDArray[np.bool_]
    first_return: Floats

    @property
    def observed(self) -> NDArray[np.bool_]:
        """[V] True where enough streams finished an episode to tell."""
        return np.isfinite(self.steps)


def recoveries(life: Lifetime, visits: Visits, threshold: Floats) -> Recoveries:
    """Recovery time of every visit: tau(0.8) of the design notes.

    tau = the smallest t >= 0 such that the first episodes begun at or after (switch + t), one per stream, have a mean
    return >= threshold. A mean needs at least half of the streams. A visit in which fewer than half finished an episode
    is not observed; neither is one that the end of life cut before it recovered.

    Args:
        life: the record.
        visits: its visits.
        threshold: [tasks] return that counts as recovered.
    """
    total = len(visits.begin)
    steps, censored = np.full(total, np.nan), np.zeros(total, bool)
    first_return = np.full(total, np.nan)
    kept = np.flatnonzero(visits.of_episode >= 0)
    order = kept[np.lexsort((life.stream[kept], life.begin[kept], visits.of_episode[kept]))]
    bounds = np.searchsorted(visits.of_episode[order], np.arange(total + 1))
    for visit in range(total):
        rows = order[bounds[visit] : bounds[visit + 1]]
        mean, enough = _mean_of_next(life.stream[rows], life.returns[rows], life.num_envs)
        if not len(rows) or not enough[0]:
            continue
        first_return[visit] = mean[0]
        began = life.begin[rows] - visits.begin[visit]
        group = np.searchsorted(began, began, side="left")  # episodes begun at one step belong together
        good = np.flatnonzero(enough[group] & (mean[group] >= threshold[visits.task[visit]]))
        if len(good):
            position = group[good[0]]
            steps[visit] = 0.0 if position == 0 else began[position - 1] + 1
        elif not visits.cut[visit]:
            steps[visit], censored[visit] = visits.length[visit], True
    return Recoveries(steps, censored, first_return)


def _mean_of_next(stream: Ints, returns: Floats, num_envs: int) -> tuple[Floats, NDArray[np.bool_]]:
    """For each of n episodes in order of begin: the mean over streams of the next episode from there on.

    Walking back from the end, an episode replaces the one its stream had before, so that the sum over streams changes
    by the difference: one reversed cumulative sum. Returns the means [n] and whether half of the streams have one [n].
    """
    order = np.lexsort((np.arange(len(stream)), stream))
    replaced = np.zeros(len(stream))
    fresh = np.ones(len(stream))
    same = np.flatnonzero(stream[order][1:] == stream[order][:-1])
    replaced[order[same]] = returns[order[same + 1]]
    fresh[order[same]] = 0
    total = np.cumsum((returns - replaced)[::-1])[::-1]
    count = np.cumsum(fresh[::-1])[::-1]
    return total / np.maximum(count, 1), count * 2 >= num_envs


def recognition_step(visits: Visits, first_return: Floats, threshold: Floats) -> float:
    """The step from which the agent recognises returning tasks; NaN if it never does.

    The smallest s at which a visit begins such that, for every task, the next three revisits that begin at or after s
    each have first-begun episodes (mean over streams) >= threshold. Revisits not observed are passed over.

    Args:
        visits: the visits of the life.
        first_return: [V] mean return of the first-begun episodes.
        threshold: [tasks].
    """
    revisit = (visits.number > 1) & np.isfinite(first_return)
    good = first_return >= threshold[visits.task]
    tasks = np.unique(visits.task)
    for start in visits.begin:
        picked = [np.flatnonzero(revisit & (visits.task == task) & (visits.begin >= start)) for task in tasks]
        if any(len(rows) < REVISITS_IN_A_ROW for rows in picked):
            return float("nan")
        if all(good[rows[:REVISITS_IN_A_ROW]].all() for rows in picked):
            return float(start)
    return float("nan")
