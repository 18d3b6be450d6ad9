"""Gradual change: numbers that move with time, pure in (seed, time), so that nothing of them needs saving.

Time is what the one who uses a drift says it is: env steps over all streams, a stream's episodes, steps within one.
Drifts add and multiply: ``Sine(9.8, 2.0, period=200_000) * Linear(1.0, 1.5, steps=500_000)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nl_agents.seeding import generator, spawn
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
        _check_positive(self, steps=self.steps)

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
        _check_positive(self, width=self.width)

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
        _check_positive(self, period=self.period)

    def path(self, seed: int) -> Path:
        """Returns the swing."""
        return lambda times: self.mean + self.amplitude * np.sin(2 * np.pi * (times / self.period + self.phase))


@dataclass(frozen=True)
class RandomWalk(Drift):
    """``x_{n+1} = x_n + sd * normal`` at times ``n * every``, reflected at ``low`` and ``high``, straight in between.

    Args:
        start: value at time 0, within the bounds.
        sd: standard deviation of one move, > 0.
        every: time between two moves, > 0.
        low: lowest value.
        high: highest value.
    """

    start: float
    sd: float
    every: float
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        _check_positive(self, sd=self.sd, every=self.every)
        if not self.low <= self.start <= self.high or self.low == self.high:
            raise ValueError(f"RandomWalk expected low <= start <= high and low < high, got {self}")

    def path(self, seed: int) -> Path:
        """Returns the walk of this seed."""

        def move(value: float, normal: float) -> float:
            value += self.sd * normal
            while not self.low <= value <= self.high:
                value = 2 * self.low - value if value < self.low else 2 * self.high - value
            return value

        return _Knots(self.start, self.every, move, seed)


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Drift):
    """A walk that is drawn back: ``dx = (mean - x) dt / relaxation + ...``, stationary with spread ``sd``.

    Taken exactly at times ``n * every``: x_{n+1} = mean + r (x_n - mean) + sd sqrt(1 - r²) normal with
    r = exp(-every / relaxation); straight in between. Begins at ``mean``.

    Args:
        mean: where it is drawn to.
        sd: standard deviation in the long run, > 0.
        relaxation: time in which a distance shrinks to 1 / e, > 0.
        every: time between two draws, > 0.
    """

    mean: float
    sd: float
    relaxation: float
    every: float

    def __post_init__(self) -> None:
        _check_positive(self, sd=self.sd, relaxation=self.relaxation, every=self.every)

    def path(self, seed: int) -> Path:
        """Returns the walk of this seed."""
        keep = float(np.exp(-self.every / self.relaxation))
        kick = self.sd * float(np.sqrt(1 - keep * keep))
        return _Knots(self.mean, self.every, lambda x, normal: self.mean + keep * (x - self.mean) + kick * normal, seed)


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


class _Knots:
    """A chain of values at multiples of ``every``, drawn as far as anyone has asked, joined by straight lines."""

    def __init__(self, start: float, every: float, move: Callable[[float, float], float], seed: int) -> None:
        self._values, self._every, self._move = np.array([start]), every, move
        self._random = generator(seed, "drift")

    def __call__(self, times: FloatArray) -> FloatArray:
        position = np.asarray(times, dtype=np.float64) / self._every
        below = np.floor(position).astype(np.int64)
        missing = int(below.max(initial=0)) + 2 - len(self._values)
        if missing > 0:
            new = [float(self._values[-1])]
            for normal in self._random.standard_normal(missing):  # one by one or all at once, the draws are the same
                new.append(self._move(new[-1], float(normal)))
            self._values = np.concatenate([self._values, new[1:]])
        left, right = self._values[below], self._values[below + 1]
        joined: FloatArray = left + (right - left) * (position - below)
        return joined


def _check_positive(drift: Drift, **numbers: float) -> None:
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{type(drift).__name__}({name}=...) expected a number > 0, got {number}")
