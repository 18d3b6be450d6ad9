"""Grids: multiples of the default, a factor of two apart, inside their bounds."""

from __future__ import annotations

import itertools

import pytest

from nl_agents.control.grid import make_factor, make_grid
from nl_agents.errors import ConfigError


def test_real_factor_has_seven_positions_around_its_default() -> None:
    factor = make_factor("lr", 3e-4)
    assert factor.values == tuple(3e-4 * 2.0**power for power in range(-3, 4))
    assert factor.value(0) == 3e-4 and factor.value(-3) == 3e-4 / 8 and factor.value(3) == 3e-4 * 8


@pytest.mark.parametrize(
    ("default", "values"),
    [(16, (2, 4, 8, 16, 32, 64, 128)), (5, (1, 2, 3, 5, 10, 20, 40)), (1, (1, 2, 4, 8)), (3, (1, 2, 3, 6, 12, 24))],
)
def test_integer_factor_is_rounded_and_holds_each_value_once(default: int, values: tuple[int, ...]) -> None:
    factor = make_factor("period", default)
    assert factor.values == values and all(isinstance(value, int) for value in factor.values)
    assert factor.value(0) == default


@pytest.mark.parametrize("default", [*range(1, 200), 0.3, 1.0, 7.7])
def test_neighbours_differ_by_at_most_a_factor_of_two(default: float) -> None:
    values = make_factor("x", default).values
    ratios = [float(b) / float(a) for a, b in itertools.pairwise(values)]
    assert all(1 < ratio <= 2 for ratio in ratios)


def test_bounds_cut_the_grid() -> None:
    factor = make_factor("period", 16, (8, 40))
    assert factor.values == (8, 16, 32) and list(factor.positions) == [-1, 0, 1]
    with pytest.raises(ValueError, match=r"position must lie in range\(-1, 2\), got 2"):
        factor.value(2)


def test_switch_has_two_positions() -> None:
    assert make_factor("slow.on", True).values == (True, False)


@pytest.mark.parametrize("default", [0, -1.0, float("nan"), float("inf")])
def test_a_default_without_multiples_is_refused(default: float) -> None:
    with pytest.raises(ConfigError, match="must be a finite number above 0"):
        make_factor("lr", default)


def test_a_default_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must lie within its bounds 1 … 2, got 3"):
        make_factor("lr", 3.0, (1, 2))


def test_bounds_of_unknown_factors_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown factors \['typo'\]"):
        make_grid({"lr": 1.0}, {"typo": (0, 1)})
