"""Decision epochs: long enough, and judged without their wash-out."""

from __future__ import annotations

import pytest

from nl_agents.control.epochs import EpochRule, settled, settled_mean, standard_error


def test_an_epoch_outlasts_the_slowest_period_five_times_and_twenty_episodes() -> None:
    rule = EpochRule()
    assert rule.least_updates([1, 64, 16]) == 320
    assert not rule.is_over(319, 100, [64]) and not rule.is_over(1000, 19, [64]) and rule.is_over(320, 20, [64])
    assert EpochRule(min_updates=400).least_updates([64]) == 400
    assert rule.least_updates([]) == 5


def test_the_first_quarter_is_washed_out() -> None:
    assert settled([100.0, 1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    assert settled_mean([100.0, 1.0, 2.0, 3.0]) == 2.0
    assert settled_mean([5.0, 7.0]) == 6.0, "too few to leave any out"
    with pytest.raises(ValueError, match="at least one return, got none"):
        settled_mean([])


def test_standard_error() -> None:
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert standard_error([1.0]) == 0.0
