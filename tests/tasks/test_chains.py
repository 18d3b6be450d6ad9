"""Schedules with a memory: a Markov chain over tasks, a curriculum with reviews; and schedules counted in episodes."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest

from nl_agents.tasks import Curriculum, Cyclic, Markov, PerEpisode, Schedule, Spans, Task, TaskSequence
from nl_agents.tasks.python_backend import PythonBackend
from nl_agents.tasks.testing import CountingEnv


def first(schedule: Schedule, count: int, seed: int = 0, num_tasks: int = 3) -> list[tuple[int, int]]:
    return list(islice(schedule.switches(seed, num_tasks), count))


def test_markov_follows_its_rows() -> None:
    chain = Markov([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.2, 0.8]], every=10)
    found = first(chain, 4000)
    assert [step for step, _ in found] == [10 * visit for visit in range(4000)] and found[0] == (0, 0)
    pairs = list(pairwise(task for _, task in found))
    assert {after for before, after in pairs if before == 0} == {1}
    stays = [after == 2 for before, after in pairs if before == 2]
    assert np.mean(stays) == pytest.approx(0.8, abs=0.04)
    assert found == first(chain, 4000) != first(chain, 4000, seed=1)
    assert first(Markov(chain.transitions, 10, seed=5), 99, seed=1) == first(Markov(chain.transitions, 10, seed=5), 99)


def test_a_curriculum_brings_the_tasks_in_their_order() -> None:
    assert first(Curriculum(10), 9) == [(0, 0), (10, 1), (20, 2)]
    tasks = [task for _, task in first(Curriculum(10, review=0.5), 200, num_tasks=5)]
    assert [tasks.index(task) for task in range(5)] == sorted(tasks.index(task) for task in range(5))
    assert all(a != b for a, b in pairwise(tasks)) and set(tasks[-50:]) == set(range(5))


def test_spans_leave_no_gap() -> None:
    assert first(Spans([(2, 0, 10), (0, 10, 15), (1, 15, 90)]), 9) == [(0, 2), (10, 0), (15, 1)]
    with pytest.raises(ValueError, match="span 1 of Spans begins at 12 and leaves a gap from 10"):
        Spans([(0, 0, 10), (1, 12, 20)])
    with pytest.raises(ValueError, match="begins at 8 and overlaps what is planned up to 10"):
        Spans([(0, 0, 10), (1, 8, 20)])
    with pytest.raises(ValueError, match="at least 1 env step"):
        Spans([(0, 0, 10), (1, 10, 10)])


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="sum to 1 in every row"):
        Markov([[0.5, 0.6], [0.5, 0.5]], every=10)
    with pytest.raises(ValueError, match="Markov has 2 rows, but the sequence has 3 tasks"):
        first(Markov([[0.5, 0.5], [0.5, 0.5]], every=10), 2)
    with pytest.raises(ValueError, match="at least 1 env step"):
        Curriculum(0)
    with pytest.raises(ValueError, match=r"chance in \[0, 1\)"):
        Curriculum(10, review=1.0)


def counting(num_envs: int) -> TaskSequence:
    tasks = [Task("low", CountingEnv), Task("high", CountingEnv, {"reward": 10.0})]
    return TaskSequence(PythonBackend(tasks, num_envs), ["low", "high"], PerEpisode(Cyclic(6)), autoreset="same-step")


@pytest.mark.parametrize("num_envs", [1, 2, 3])
def test_episodes_can_be_the_clock(num_envs: int) -> None:
    sequence, ended, at = counting(num_envs), 0, [0]
    sequence.reset(seed=0)
    for _ in range(60):
        _, _, terminated, _, _ = sequence.step(np.zeros(num_envs, int))
        before, ended = ended, ended + int(terminated.sum())
        if before // 6 < ended // 6:
            at.append(sequence.clock)
    assert len(at) > 3 and sequence.task_log == [(step, ("low", "high")[i % 2]) for i, step in enumerate(at)]


def test_a_life_counted_in_episodes_is_resumed() -> None:
    old, new = counting(2), counting(2)
    old.reset(seed=0)
    for _ in range(31):
        old.step([0, 0])
    new.set_state(old.get_state())
    for _ in range(31):
        one, other = old.step([0, 1]), new.step([0, 1])
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert old.task_log == new.task_log and len(old.task_log) > 4
