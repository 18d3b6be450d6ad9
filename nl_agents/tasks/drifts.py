"""Gradual change: numbers that move with time, pure in (seed, time), so that nothing of them needs saving.

Time is what the one who uses a drift says it is: env steps over all streams, a stream's episodes, steps within one.
Drifts add, subtract and multiply: ``Sine(9.8, 2.0, period=200_000) * Linear(1.0, 1.5, steps=500_000)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nl_agents.seeding import spawn
from nl_agents.tasks.backend import FloatArray

Path = Callable[[FloatArray], FloatArray]


class Drift(ABC):
    """A value that depends on time."""

    @abstractmethod
    def path(self, seed: int) -> Path:
        """Returns the function from times [...], >= 0, to values [...] that this life has.

        Args:
            seed: of the life's curriculum, int >= 0; only random drifts look at it.
        """

    def __add__(self, other: Drift | float) -> Drift:
        return Sum(self, as_drift(other))

    def __mul__(self, other: Drift | float) -> Drift:
        return Product(self, as_drift(other))

    def __neg__(self) -> Drift:
        return Product(self, Fixed(-1.0))

    def __sub__(self, other: Drift | float) -> Drift:
        return self + -as_drift(other)

    def __rsub__(self, other: Drift | float) -> Drift:
        return as_drift(other) + -self

    def clipped(self, low: float, high: float) -> Drift:
        """Returns the same drift, cut to ``low`` and ``high``."""
        return Clipped(self, low, high)

    __radd__, __rmul__ = __add__, __mul__


def as_drift(value: Drift | float) -> Drift:
    """Returns ``value``, a number as the drift that never moves."""
    return value if isinstance(value, Drift) else Fixed(float(value))


@dataclass(frozen=True)
class Fixed(Drift):
    """One value for ever."""

    value: float

    def path(self, seed: int) -> Path:
        """Returns ``value`` at all times."""
        return lambda times: np.full(np.shape(times), self.value)


@dataclass(frozen=True)
class Linear(Drift):
    """``start + (end - start) min(t / steps, 1)``.

    Args:
        start: value at time 0.
        end: value from time ``steps`` on.
        steps: length of the way, > 0.
    """

    start: float
    end: float
    steps: float

    def __post_init__(self) -> None:
        check_positive(self, steps=self.steps)

    def path(self, seed: int) -> Path:
        """Returns the straight line and what stays after it."""
        return lambda times: self.start + (self.end - self.start) * np.minimum(times / self.steps, 1.0)


@dataclass(frozen=True)
class Sigmoid(Drift):
    """``start + (end - start) / (1 + exp(-(t - middle) / width))``.

    Args:
        start: value long before ``middle``.
        end: value long after it.
        middle: time at which half the way is gone.
        width: time scale, > 0: from 12 % to 88 % of the way it takes 4 of these.
    """

    start: float
    end: float
    middle: float
    width: float

    def __post_init__(self) -> None:
        check_positive(self, width=self.width)

    def path(self, seed: int) -> Path:
        """Returns the S-curve, written with tanh, which does not overflow."""
        half = (self.end - self.start) / 2
        return lambda times: self.start + half * (1 + np.tanh((times - self.middle) / (2 * self.width)))


@dataclass(frozen=True)
class Sine(Drift):
    """``mean + amplitude sin(2 pi (t / period + phase))``.

    Args:
        mean: middle of the swing.
        amplitude: largest distance from it.
        period: time of one swing, > 0.
        phase: fraction of a period at time 0.
    """

    mean: float
    amplitude: float
    period: float
    phase: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, period=self.period)

    def path(self, seed: int) -> Path:
        """Returns the swing."""
        return lambda times: self.mean + self.amplitude * np.sin(2 * np.pi * (times / self.period + self.phase))


@dataclass(frozen=True)
class Sum(Drift):
    """Two drifts added; random ones among them are independent."""

    one: Drift
    other: Drift

    def path(self, seed: int) -> Path:
        """Returns the sum of both paths."""
        one, other = self.one.path(spawn(seed, "one")), self.other.path(spawn(seed, "other"))
        return lambda times: one(times) + other(times)


@dataclass(frozen=True)
class Product(Drift):
    """Two drifts multiplied; random ones among them are independent."""

    one: Drift
    other: Drift

    def path(self, seed: int) -> Path:
        """Returns the product of both paths."""
        one, other = self.one.path(spawn(seed, "one")), self.other.path(spawn(seed, "other"))
        return lambda times: one(times) * other(times)


@dataclass(frozen=True)
class Clipped(Drift):
    """A drift cut to bounds."""

    drift: Drift
    low: float
    high: float

    def path(self, seed: int) -> Path:
        """Returns the path between the bounds."""
        inside = self.drift.path(seed)
        return lambda times: np.clip(inside(times), self.low, self.high)


class Grown:
    """Numbers of a path that is made as far as anyone has asked: appended one by one, read many at once."""

    def __init__(self, first: float) -> None:
        self._values, self._count = np.full(64, float(first)), 1

    def __len__(self) -> int:
        return self._count

    @property
    def last(self) -> float:
        """The latest number."""
        return float(self._values[self._count - 1])

    def append(self, value: float) -> None:
        """Adds a number behind the others."""
        if self._count == len(self._values):
            self._values = np.concatenate([self._values, np.empty_like(self._values)])
        self._values[self._count] = value
        self._count += 1

    def __getitem__(self, places: Any) -> FloatArray:
        """Returns the numbers at these places, each below ``len``."""
        found: FloatArray = self._values[places]
        return found


def check_positive(drift: Drift, **numbers: float) -> None:
    """Raises ValueError naming the argument that is not a number > 0."""
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{type(drift).__name__}({name}=...) expected a number > 0, got {number}")
