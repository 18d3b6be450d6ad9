"""Shifts of what an action does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from nl_agents.seeding import generator
from nl_agents.tasks.drifts import Drift
from nl_agents.tasks.shifts import ActionShift, Moment, Rows, Time, along, check_time


@dataclass(frozen=True)
class ActionPermutation(ActionShift):
    """Discrete actions change places.

    Args:
        order: action i does what ``order[i]`` did; None draws an order once, never the one there was.
    """

    order: Sequence[int] | None = None

    def bind(self, space: gym.Space[Any], seed: int) -> Rows:
        """Returns the look-up."""
        if not isinstance(space, spaces.Discrete):
            raise TypeError(f"ActionPermutation expected Discrete actions, got {space}; ActionSign turns a Box")
        size = int(space.n)
        if self.order is None:
            random = generator(seed, "actions")
            order = random.permutation(size)
            while size > 1 and (order == np.arange(size)).all():
                order = random.permutation(size)
        else:
            order = np.asarray(self.order)
        if sorted(order.tolist()) != list(range(size)):
            raise ValueError(f"ActionPermutation(order=...) expected 0 to {size - 1} each once, got {self.order}")
        return lambda actions, moment: order[actions - space.start] + space.start


@dataclass(frozen=True)
class ActionGain(ActionShift):
    """Continuous actions do more or less than they say; what leaves the action space is cut to it.

    Args:
        gain: factor; negative turns the action; a drift moves with time.
        time: what the drift calls time.
    """

    gain: float | Drift
    time: Time = "life"

    def __post_init__(self) -> None:
        check_time(self.time)

    def bind(self, space: gym.Space[Any], seed: int) -> Rows:
        """Returns ``clip(gain(t) * action)``."""
        if not isinstance(space, spaces.Box):
            raise TypeError(
                f"{type(self).__name__} expected Box actions, got {space}; ActionPermutation takes Discrete"
            )
        path = along(self.gain, seed)

        def scale(actions: Any, moment: Moment) -> Any:
            gain = path(moment.times(self.time)).reshape(-1, *(1 for _ in space.shape))
            return np.clip(actions * gain, space.low, space.high).astype(space.dtype)

        return scale


@dataclass(frozen=True)
class ActionSign(ActionGain):
    """Continuous actions do the opposite of what they say."""

    gain: float | Drift = -1.0
