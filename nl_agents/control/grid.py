"""Where a factor may stand: absolute positions around its default, a factor of two apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nl_agents.errors import ConfigError

Value = int | float | bool
"""What a factor can be set to: an integer (periods), a real number (rates, ratios) or a switch."""

REACH = 3
"""Doublings a factor may move away from its default: 1/8 … 8."""


@dataclass(frozen=True)
class Factor:
    """One thing the controller may set.

    Attributes:
        name: dotted name, for example ``level.slow.period``.
        values: allowed values; neighbours differ by at most a factor of two. Ascending, but for a switch.
        home: index of the default.
    """

    name: str
    values: tuple[Value, ...]
    home: int

    @property
    def positions(self) -> range:
        """Positions relative to the default: 0 is the default, -1 its lower neighbour."""
        return range(-self.home, len(self.values) - self.home)

    def value(self, position: int) -> Value:
        """Returns the value at a position; raises ValueError outside the grid."""
        if position not in self.positions:
            raise ValueError(f"{self.name}: position must lie in {self.positions}, got {position}")
        return self.values[position + self.home]


def make_factor(name: str, default: Value, bounds: tuple[float, float] | None = None) -> Factor:
    """Lays the grid of a factor: its default times 1/8, 1/4, 1/2, 1, 2, 4, 8, as far as the bounds allow.

    An ``int`` default makes an integer factor: values are rounded up (so that neighbours stay within a factor of two),
    at least 1, each once. A ``bool`` default makes a switch with two positions.

    Args:
        name: dotted name.
        default: the value at position 0.
        bounds: lowest and highest value allowed; None leaves 1/8 … 8 times the default.

    Raises:
        ConfigError: a default that is not finite and above 0, or that lies outside its bounds.
    """
    if isinstance(default, bool):
        return Factor(name, (default, not default), 0)
    if not math.isfinite(default) or default <= 0:
        raise ConfigError(
            f"{name}: the default must be a finite number above 0, got {default}; its grid is made of multiples of it"
        )
    low, high = bounds if bounds is not None else (-math.inf, math.inf)
    if not low <= default <= high:
        raise ConfigError(f"{name}: the default must lie within its bounds {low} … {high}, got {default}; widen them")
    multiples = [default * 2.0**power for power in range(-REACH, REACH + 1)]
    if isinstance(default, int):
        rounded = sorted({max(1, math.ceil(multiple)) for multiple in multiples})
        values: tuple[Value, ...] = tuple(value for value in rounded if low <= value <= high)
    else:
        values = tuple(value for value in multiples if low <= value <= high)
    return Factor(name, values, values.index(default))


def make_grid(
    space: Mapping[str, Value], bounds: Mapping[str, tuple[float, float] | None] | None = None
) -> dict[str, Factor]:
    """Lays the grid of every factor of a space.

    Raises:
        ConfigError: bounds for a factor that the space does not have.
    """
    bounds = {} if bounds is None else bounds
    strangers = sorted(set(bounds) - set(space))
    if strangers:
        raise ConfigError(f"bounds name unknown factors {strangers}: known are {sorted(space)}; remove or rename them")
    return {name: make_factor(name, default, bounds.get(name)) for name, default in space.items()}
