"""Drifts: closed forms, statistics of the random ones, purity in (seed, time)."""

from __future__ import annotations

import numpy as np
import pytest

from nl_agents.tasks import Drift, Linear, OrnsteinUhlenbeck, RandomWalk, Sigmoid, Sine, Steps
from nl_agents.tasks.drifts import Fixed

RANDOM = [
    RandomWalk(1.0, 0.1, every=10, low=0.5, high=1.5),
    OrnsteinUhlenbeck(2.0, 0.5, relaxation=100, every=10),
    Steps(1.0, 3.0, every=50),
]


def at(drift: Drift, *times: float, seed: int = 0) -> list[float]:
    return drift.path(seed)(np.array(times, dtype=float)).tolist()


def test_closed_forms() -> None:
    assert at(Fixed(3), 0, 9) == [3, 3]
    assert at(Linear(1, 3, steps=10), 0, 5, 10, 99) == [1, 2, 3, 3]
    assert at(Sine(1, 2, period=40), 0, 10, 30) == pytest.approx([1, 3, -1])
    assert at(Sine(0, 1, period=40, phase=0.25), 0) == pytest.approx([1])
    assert at(Sigmoid(0, 1, middle=50, width=5), -1e9, 50, 60, 1e9) == pytest.approx([0, 0.5, 1 / (1 + np.exp(-2)), 1])


def test_drifts_add_and_multiply() -> None:
    drift = 2 * Linear(0, 1, steps=10) + Fixed(1) * 3
    assert at(drift, 0, 10) == [3, 5]
    assert at(drift.clipped(3.5, 4), 0, 5, 10) == [3.5, 4, 4]
    same = OrnsteinUhlenbeck(0, 1, relaxation=10, every=1)
    twice = at(same + same, 50)[0]
    assert twice != pytest.approx(2 * at(same, 50)[0])  # independent, not the same path twice


def test_drifts_subtract() -> None:
    assert at(5 - Linear(0, 1, steps=10), 0, 10) == [5, 4]
    assert at(Linear(0, 1, steps=10) - Fixed(2), 10) == at(-Linear(0, 1, steps=10), 10) == [-1]


def test_a_walk_of_huge_moves_is_folded_back_at_once() -> None:
    """Moves of a million times the room between the bounds; reflection by reflection each would take a second."""
    values = RandomWalk(0.5, 1e9, every=1, low=0.0, high=1.0).path(3)(np.arange(3000.0))
    assert values.min() >= 0 and values.max() <= 1 and np.std(values) == pytest.approx(12**-0.5, rel=0.05)
    with pytest.raises(ValueError, match="finite"):
        RandomWalk(0.5, np.inf, every=1, low=0.0, high=1.0)


@pytest.mark.parametrize("drift", [*RANDOM, RANDOM[0] * RANDOM[1]])
def test_random_drifts_are_pure_in_seed_and_time(drift: Drift) -> None:
    times = np.arange(0.0, 5000.0, 7.0)
    one, other = drift.path(3), drift.path(3)
    at_once = one(times)
    np.testing.assert_array_equal(at_once, [other(time[None])[0] for time in times])  # asked for piece by piece
    np.testing.assert_array_equal(at_once[::-1], one(times[::-1]))
    assert not np.array_equal(at_once, drift.path(4)(times))


def test_the_walk_is_reflected_and_ou_has_its_spread() -> None:
    walk = RANDOM[0].path(1)(np.arange(20_000.0))
    assert walk.min() >= 0.5 and walk.max() <= 1.5 and walk.max() - walk.min() > 0.5
    ou = RANDOM[1].path(1)(np.arange(0, 400_000.0, 10))
    assert abs(ou.mean() - 2.0) < 0.05 and abs(ou.std() - 0.5) < 0.05
    assert np.corrcoef(ou[:-10], ou[10:])[0, 1] == pytest.approx(np.exp(-1), abs=0.06)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"Sine\(period=...\) expected a number > 0, got 0"):
        Sine(0, 1, period=0)
    with pytest.raises(ValueError, match=r"Linear\(steps"):
        Linear(0, 1, steps=-1)
    with pytest.raises(ValueError, match="low <= start <= high"):
        RandomWalk(3.0, 0.1, every=1, high=2.0)
