"""Axes as people read them: whole numbers only, steps with their unit."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from nl_agents.evaluation.style import short, whole_numbers


@pytest.mark.parametrize(("low", "high", "ticks"), [(0.3, 1.7, {1.0}), (0.3, 3.7, {1.0, 2.0, 3.0})])
def test_visits_are_whole(low: float, high: float, ticks: set[float]) -> None:
    figure, axes = plt.subplots()
    axes.set_xlim(low, high)
    whole_numbers(axes)
    assert {float(tick) for tick in axes.get_xticks() if low <= tick <= high} == ticks
    plt.close(figure)


def test_steps_are_short() -> None:
    assert [short(value) for value in (1_500_000, 25_000, 0.5)] == ["1.5M", "25k", "0.5"]
