"""Drifts that chance moves, pure in (seed, time) like the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nl_agents.seeding import generator, hash_uniform, spawn
from nl_agents.tasks.backend import FloatArray
from nl_agents.tasks.drifts import Drift, Grown, Path, check_positive


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
        check_positive(self, sd=self.sd, every=self.every)
        if not np.isfinite(self.sd):
            raise ValueError(f"RandomWalk(sd=...) expected a finite number, got {self.sd}")
        if not self.low <= self.start <= self.high or self.low == self.high:
            raise ValueError(f"RandomWalk expected low <= start <= high and low < high, got {self}")

    def path(self, seed: int) -> Path:
        """Returns the walk of this seed."""

        def move(value: float, normal: float) -> float:
            return _reflected(value + self.sd * normal, self.low, self.high)

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
        check_positive(self, sd=self.sd, relaxation=self.relaxation, every=self.every)

    def path(self, seed: int) -> Path:
        """Returns the walk of this seed."""
        keep = float(np.exp(-self.every / self.relaxation))
        kick = self.sd * float(np.sqrt(1 - keep * keep))
        return _Knots(self.mean, self.every, lambda x, normal: self.mean + keep * (x - self.mean) + kick * normal, seed)


@dataclass(frozen=True)
class Steps(Drift):
    """A value that jumps: drawn uniformly anew at times ``n * every``, the abrupt twin of a drift of the same range.

    Args:
        low: lowest value.
        high: highest value.
        every: time between two jumps, > 0.
    """

    low: float
    high: float
    every: float

    def __post_init__(self) -> None:
        check_positive(self, every=self.every)

    def path(self, seed: int) -> Path:
        """Returns the stairs of this seed: a hash of the number of the stair."""
        key = np.array(spawn(seed, "steps"), dtype=np.uint64)

        def stairs(times: FloatArray) -> FloatArray:
            uniform = hash_uniform(key, np.floor(np.asarray(times) / self.every).astype(np.uint64) + np.uint64(1))
            return self.low + (self.high - self.low) * uniform

        return stairs


@dataclass(frozen=True)
class RandomLevel(Drift):
    """One value for a whole life, drawn uniformly (or log-uniformly) once a curriculum and task.

    Args:
        low: lowest value; with ``log`` > 0.
        high: highest value, > low.
        log: whether the logarithm is uniform.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"RandomLevel expected low < high, and low > 0 with log=True, got {self}")

    def path(self, seed: int) -> Path:
        """Returns the value of this seed at all times."""
        share = float(generator(seed, "level").random())
        value = self.low + (self.high - self.low) * share
        if self.log:
            value = float(self.low * (self.high / self.low) ** share)
        return lambda times: np.full(np.shape(times), value)


def _reflected(value: float, low: float, high: float) -> float:
    """Folds a number back at the bounds until it lies between them."""
    if low <= value <= high:
        return value
    once = 2 * low - value if value < low else 2 * high - value
    if low <= once <= high:
        return once
    away = (value - low) % (2 * (high - low))  # the way there and back; both bounds are finite here
    return low + min(away, 2 * (high - low) - away)


class _Knots:
    """A chain of values at multiples of ``every``, drawn as far as anyone has asked, joined by straight lines."""

    def __init__(self, start: float, every: float, move: Callable[[float, float], float], seed: int) -> None:
        self._values, self._every, self._move = Grown(start), every, move
        self._random = generator(seed, "drift")

    def __call__(self, times: FloatArray) -> FloatArray:
        position = np.asarray(times, dtype=np.float64) / self._every
        below = np.floor(position).astype(np.int64)
        missing = int(below.max(initial=0)) + 2 - len(self._values)
        if missing > 0:
            for normal in self._random.standard_normal(missing):  # one by one or all at once, the draws are the same
                self._values.append(self._move(self._values.last, float(normal)))
        left, right = self._values[below], self._values[below + 1]
        joined: FloatArray = left + (right - left) * (position - below)
        return joined
