"""Schedules: pure in the seed, named errors for gaps and empty blocks."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest

from nl_agents.tasks import Blocks, Constant, Cyclic, GeometricHidden, Schedule


def first(schedule: Schedule, count: int, seed: int = 0, num_tasks: int = 2) -> list[tuple[int, int]]:
    return list(islice(schedule.switches(seed, num_tasks), count))


def test_written_schedules_say_what_was_written() -> None:
    assert first(Constant(1), 9) == [(0, 1)]
    assert first(Cyclic(10), 4, num_tasks=3) == [(0, 0), (10, 1), (20, 2), (30, 0)]
    assert first(Cyclic(10), 4, num_tasks=1) == [(0, 0)]
    assert first(Blocks([(0, 5), (1, 7)], cycles=2), 9) == [(0, 0), (5, 1), (12, 0), (17, 1)]
    assert first(Blocks([(0, 5), (1, 7)]), 5) == [(0, 0), (5, 1), (12, 0), (17, 1), (24, 0)]


def test_neighbouring_blocks_of_one_task_are_one_block() -> None:
    assert first(Blocks([(0, 5), (0, 5), (1, 2), (0, 3)], cycles=2), 9) == [(0, 0), (10, 1), (12, 0), (25, 1), (27, 0)]
    assert first(Blocks([(1, 5), (1, 2)]), 9) == [(0, 1)]


def test_geometric_is_pure_in_the_seed_and_memoryless() -> None:
    schedule = GeometricHidden(100)
    assert first(schedule, 50, seed=3) == first(schedule, 50, seed=3) != first(schedule, 50, seed=4)
    assert first(GeometricHidden(100, seed=9), 50, seed=3) == first(GeometricHidden(100, seed=9), 50, seed=4)
    lengths = np.diff([step for step, _ in first(schedule, 4001)])
    assert lengths.min() >= 1
    assert abs(lengths.mean() - 100) < 5  # standard error 1.6
    assert abs(lengths.std() - 100) < 10  # a geometric length scatters as much as its mean


def test_geometric_never_stays_and_visits_all() -> None:
    tasks = [task for _, task in first(GeometricHidden(10), 400, num_tasks=4)]
    assert all(a != b for a, b in pairwise(tasks))
    assert set(tasks) == {0, 1, 2, 3}
    assert first(GeometricHidden(10), 9, num_tasks=1) == [(0, 0)]


def test_shortest_block() -> None:
    assert Constant().shortest_block() == float("inf")
    assert Cyclic(7).shortest_block() == 7
    assert GeometricHidden(30).shortest_block() == 30
    assert Blocks([(0, 5), (1, 3)]).shortest_block() == 3


@pytest.mark.parametrize("build", [lambda: Cyclic(0), lambda: GeometricHidden(0), lambda: Blocks([(0, 5), (1, 0)])])
def test_a_task_without_time_is_refused(build: object) -> None:
    with pytest.raises(ValueError, match="at least 1 env step"):
        build()  # type: ignore[operator]


def test_a_length_must_be_an_int() -> None:
    with pytest.raises(ValueError, match=r"an int\), got 2.5"):
        Cyclic(2.5)  # type: ignore[arg-type]


def test_other_errors() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Blocks([])
    with pytest.raises(ValueError, match="cycles"):
        Blocks([(0, 1)], cycles=0)
    with pytest.raises(ValueError, match="names task 2, but the sequence has tasks 0 to 1"):
        first(Blocks([(2, 5)]), 1)
    with pytest.raises(ValueError, match="names task 5"):
        first(Constant(5), 1)
