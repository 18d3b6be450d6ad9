from __future__ import annotations

import math

import numpy as np
import pytest

from nl_agents.evaluation import Lifetime, find_visits, lifelong_metrics
from nl_agents.evaluation.recovery import Recoveries, recognition_step, recoveries
from tests.evaluation.lives import LEVELS, blocks, life_of, simulated_life

HALF = np.array([0.5, 0.5])


def recovered(life: Lifetime, threshold: np.ndarray = HALF) -> Recoveries:
    return recoveries(life, find_visits(life), threshold)


def test_recovery_by_hand() -> None:
    rows = [
        (100, 110, "b", 0.1, 0),
        (102, 112, "b", 0.3, 1),
        (110, 120, "b", 0.2, 0),  # from here on the next ones are 0.2 and 0.6: mean 0.4, not yet
        (112, 130, "b", 0.6, 1),
        (120, 140, "b", 0.6, 0),  # from 120: 0.6 and, after 112, stream 1 has 0.9
        (130, 150, "b", 0.9, 1),
    ]
    life = life_of(rows, [(0, "a"), (100, "b"), (200, "a")], steps=300, num_envs=2)
    found = recovered(life)
    # the set {0.6 on stream 1, 0.6 on stream 0} is that of every t with 110 < 100 + t <= 112
    assert found.steps[1] == 11.0
    assert found.first_return[1] == pytest.approx(0.2)
    assert found.observed.tolist() == [False, True, False]


def test_recovered_at_once_is_zero_even_if_the_first_episodes_begin_late() -> None:
    life = life_of([(130, 150, "b", 0.9, 0)], blocks(100, 3), steps=300, num_envs=1)
    assert recovered(life).steps[1] == 0.0


def test_never_is_the_block_length_and_counted_as_censored() -> None:
    life = life_of([(100, 150, "b", 0.1, 0), (150, 160, "b", 0.2, 0)], blocks(100, 3), steps=300, num_envs=1)
    found = recovered(life)
    assert found.steps[1] == 100.0
    assert found.censored.tolist() == [False, True, False]
    assert lifelong_metrics(life, LEVELS)["recovery_censored"] == 1.0


def test_the_visit_that_the_end_of_life_cuts_is_not_called_censored() -> None:
    life = life_of([(100, 150, "b", 0.1, 0)], blocks(100, 2), steps=200, num_envs=1)
    found = recovered(life)
    assert math.isnan(found.steps[1])
    assert not found.censored[1]


def test_a_lucky_stream_alone_is_no_recovery() -> None:
    rows = [(100, 110, "b", 0.1, 0), (100, 110, "b", 0.1, 1), (100, 110, "b", 0.1, 2), (110, 120, "b", 1.0, 0)]
    life = life_of(rows, blocks(100, 3), steps=300, num_envs=3)
    assert recovered(life).censored[1]


def slow_recovery(life: Lifetime, threshold: float) -> list[float]:
    """The judge: tries every step after the switch in turn."""
    visits = find_visits(life)
    found = []
    for visit in range(len(visits.begin)):
        rows = np.flatnonzero(visits.of_episode == visit)
        length = int(visits.length[visit])
        answer = float("nan") if visits.cut[visit] else float(length)
        for step in range(length + 1):
            begun = rows[life.begin[rows] >= visits.begin[visit] + step]
            first = [
                life.returns[min(mine, key=lambda row: life.begin[row])]
                for stream in range(life.num_envs)
                if len(mine := begun[life.stream[begun] == stream])
            ]
            if 2 * len(first) >= life.num_envs and np.mean(first) >= threshold:
                answer = float(step)
                break
        found.append(answer)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_recovery_equals_the_slow_judge(seed: int) -> None:
    life = simulated_life(seed, block=1600, count=5, num_envs=4)
    for level in (0.3, 0.6, 2.0):
        expected = slow_recovery(life, level)
        np.testing.assert_array_equal(recovered(life, np.array([level, level])).steps, expected)


def recognition(first_returns: list[float]) -> float:
    life = life_of([], blocks(100, len(first_returns)), steps=100 * len(first_returns), num_envs=1)
    return recognition_step(find_visits(life), np.array(first_returns), HALF)


def test_recognition_needs_three_good_revisits_of_every_task() -> None:
    #                  a    b    a    b    a    b    a    b    a    b
    assert recognition([0.0, 0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]) == 0.0
    assert recognition([0.0, 0.0, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]) == 300.0
    assert recognition([0.0, 0.0, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]) == 400.0
    assert math.isnan(recognition([0.0, 0.0, 0.9, 0.9, 0.9, 0.9]))
    assert math.isnan(recognition([0.0, 0.0, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9]))


def test_a_revisit_that_was_not_observed_is_passed_over() -> None:
    assert recognition([0.0, 0.0, 0.9, 0.9, math.nan, 0.9, 0.9, 0.9, 0.9]) == 0.0


def test_ratio_of_later_to_first_recovery() -> None:
    rows = [(step, step + 10, "ab"[step // 100 % 2], 0.0, 0) for step in range(0, 50, 10)]
    rows += [(step, step + 10, "a", 1.0, 0) for step in range(50, 100, 10)]
    rows += [(100, 200, "b", 0.0, 0)]
    rows += [(200, 210, "a", 0.0, 0), (210, 290, "a", 1.0, 0), (300, 310, "b", 0.0, 0)]
    life = life_of(rows, blocks(100, 5), steps=500, num_envs=1)
    figures = lifelong_metrics(life, LEVELS)
    # a: first 41 (the last bad episode began at 40), later 1; b: never, never
    assert figures["recovery_first"] == pytest.approx((41 + 100) / 2)
    assert figures["recovery_later"] == pytest.approx((1 + 100) / 2)
    assert figures["recovery_ratio"] == pytest.approx(101 / 141)
    assert figures["recovery_censored"] == pytest.approx(2 / 4)
