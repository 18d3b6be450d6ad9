"""What changes: the kinds of shift a task may carry, and those of reward and dynamics.

A shift is a value: it says what changes and keeps nothing. ``bind`` gives the function that a life applies, with what
is drawn at random drawn from the life's curriculum, so a task looks the same whenever it comes back.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from nl_agents.tasks.backend import FloatArray, IntArray
from nl_agents.tasks.drifts import Drift, Path, as_drift

Time = Literal["life", "episodes", "within-episode"]


@dataclass(frozen=True)
class Moment:
    """Where N streams stand when a shift is applied to them.

    Attributes:
        clock: env steps over all streams.
        episodes: number [N] of each stream's episode, from 0.
        steps: env steps [N] into it.
        keys: key [N] of each stream's own randomness.
        ages: what a drift over ``episodes`` calls time [N]: their number, or one that stands still for evaluation.
    """

    clock: int
    episodes: IntArray
    steps: IntArray
    keys: npt.NDArray[np.uint64]
    ages: IntArray

    def of(self, rows: IntArray) -> Moment:
        """Returns the moment of some of the streams."""
        return Moment(self.clock, self.episodes[rows], self.steps[rows], self.keys[rows], self.ages[rows])

    def times(self, time: Time) -> FloatArray:
        """Returns ``life``: the clock, for all [1]; ``episodes``: ages [N]; ``within-episode``: steps into it [N]."""
        if time == "life":
            return np.array([float(self.clock)])
        return (self.ages if time == "episodes" else self.steps).astype(np.float64)


Rows = Callable[[Any, Moment], Any]  # N rows of observations, actions or rewards, and where they stand -> N rows


class Shift:
    """Something that sets a task apart. One of the four kinds below."""


class ObservationShift(Shift, ABC):
    """Changes what is seen."""

    @abstractmethod
    def space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """Returns the space of what is seen after the shift; TypeError where it cannot shift this space."""

    @abstractmethod
    def bind(self, space: gym.Space[Any], seed: int) -> Rows:
        """Returns the function on rows of ``space`` that the life of this curriculum seed applies."""


class ActionShift(Shift, ABC):
    """Changes what an action does; the action space stays."""

    @abstractmethod
    def bind(self, space: gym.Space[Any], seed: int) -> Rows:
        """Returns the function on rows of ``space``; TypeError where it cannot shift this space."""


class RewardShift(Shift, ABC):
    """Changes what is rewarded."""

    @abstractmethod
    def bind(self, seed: int) -> Rows:
        """Returns the function on rewards [N]."""


@dataclass(frozen=True)
class RewardScale(RewardShift):
    """Multiplies the reward.

    Args:
        scale: by what; a drift moves with time.
        time: what the drift calls time.
    """

    scale: float | Drift
    time: Time = "life"

    def __post_init__(self) -> None:
        check_time(self.time)

    def bind(self, seed: int) -> Rows:
        """Returns ``reward * scale(t)``."""
        path = along(self.scale, seed)
        return lambda reward, moment: reward * path(moment.times(self.time))


@dataclass(frozen=True)
class RewardSign(RewardShift):
    """What was good is bad: the reward's sign turns."""

    def bind(self, seed: int) -> Rows:
        """Returns ``-reward``, without a negative zero."""
        return lambda reward, moment: 0.0 - reward


@dataclass(frozen=True)
class Attribute(Shift):
    """Sets a named number of the env: a constant of its physics, its goal, its noise.

    Args:
        name: of the vector backend's constants or, for Python envs, of ``env.unwrapped``; dotted where it lies deeper,
            with numbers for entries of arrays: ``"gravity"``, ``"model.opt.gravity.2"``.
        value: what it becomes; a drift moves with time.
        relative: whether ``value`` multiplies what is there: the env's own, or what an earlier shift has set.
        time: what the drift calls time.
        every: the drift is looked at whenever so much of its time has gone by, int >= 1, and stands still in between.
    """

    name: str
    value: float | Drift
    relative: bool = False
    time: Time = "life"
    every: int = 1

    def __post_init__(self) -> None:
        check_time(self.time)
        if self.every < 1:
            raise ValueError(f"Attribute(every=...) expected an integer >= 1, got {self.every}")

    def stands_until(self, clock: int) -> int:
        """The clock of the life at which the value may change next, as far as that is known beforehand."""
        if not isinstance(self.value, Drift):
            return sys.maxsize
        return (clock // self.every + 1) * self.every if self.time == "life" else clock

    def bind(self, seed: int) -> Rows:
        """Returns the function from the env's own values [N] to those in force."""
        path = along(self.value, seed)

        def set_to(own: FloatArray, moment: Moment) -> FloatArray:
            times = moment.times(self.time)
            values = path(times if self.every == 1 else np.floor(times / self.every) * self.every)
            return own * values if self.relative else np.broadcast_to(values, own.shape)

        return set_to


def along(value: float | Drift, seed: int) -> Path:
    """Returns the path of a number or a drift."""
    return as_drift(value).path(seed)


def check_time(time: str) -> None:
    """Raises ValueError unless ``time`` names a clock."""
    if time not in get_args(Time):
        raise ValueError(f"time must be one of {', '.join(map(repr, get_args(Time)))}, got {time!r}")
