"""Tasks of different sizes in common spaces: observations filled up with zeros, surplus actions that repeat others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from nl_agents.tasks.task import Task


class Padded(gym.Wrapper[Any, Any, Any, Any]):
    """One env in larger spaces.

    What is seen is laid out in a row and followed by zeros. Of discrete actions, action a of the larger set does what
    action a mod n does; of an action vector, surplus numbers do nothing, and where the bounds differ the others are
    brought linearly from those of the larger space to the env's own.

    Args:
        env: observes a Box; acts in a Discrete, or in a Box of one axis.
        observation_space: a Box of one axis, as long or longer.
        action_space: of the same kind as the env's, as large or larger.
    """

    def __init__(self, env: gym.Env[Any, Any], observation_space: spaces.Box, action_space: spaces.Space[Any]) -> None:
        super().__init__(env)
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        seen, info = self.env.reset(seed=seed, options=options)
        return self._filled(seen), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Does what the action means in the env."""
        inner, outer = self.env.action_space, self.action_space
        if isinstance(inner, spaces.Discrete):
            assert isinstance(outer, spaces.Discrete)
            action = int(inner.start) + (int(action) - int(outer.start)) % int(inner.n)
        else:
            assert isinstance(inner, spaces.Box) and isinstance(outer, spaces.Box)
            count = inner.shape[0]
            action, low, high = np.asarray(action)[:count], outer.low[:count], outer.high[:count]
            if (low != inner.low).any() or (high != inner.high).any():
                action = inner.low + (action - low) / (high - low) * (inner.high - inner.low)
            action = action.astype(inner.dtype)
        seen, reward, terminated, truncated, info = self.env.step(action)
        return self._filled(seen), reward, terminated, truncated, info

    def _filled(self, seen: Any) -> Any:
        row = np.zeros(self.observation_space.shape or (), self.observation_space.dtype)
        row[: np.size(seen)] = np.ravel(seen)
        return row


@dataclass(frozen=True)
class _MakePadded:
    """Builds a task's env and pads it."""

    make: Callable[..., gym.Env[Any, Any]]
    observation_space: spaces.Box
    action_space: spaces.Space[Any]

    def __call__(self, **params: Any) -> gym.Env[Any, Any]:
        return Padded(self.make(**params), self.observation_space, self.action_space)


def padded(tasks: Sequence[Task]) -> list[Task]:
    """Returns the tasks with one pair of spaces, as large as the largest among them.

    Observations lose their bounds, which would tell the task; what a task shows of zeros may still tell it. They are
    float32, or float64 where an env's are; integers become float32. Discrete actions count from 0. Action vectors keep
    their bounds where all numbers of all tasks have the same ones; else all go from -1 to 1 and are brought to each
    env's own (as by gymnasium's ``RescaleAction``).

    Args:
        tasks: each with a ``make``.

    Raises:
        ValueError: a task without a ``make``, one that observes no Box, actions that are not all Discrete or all Box,
            action vectors of different bounds of which some are infinite.
    """
    seen, acted = [], []
    for task in tasks:
        if task.make is None:
            raise ValueError(f"padded() wraps envs, and task {task.name!r} has no make: give Task({task.name!r}, make)")
        env = task.make(**task.params)
        if not isinstance(env.observation_space, spaces.Box):
            raise ValueError(
                f"padded() lengthens vectors, and task {task.name!r} observes {env.observation_space}: flatten it with "
                "gymnasium.wrappers.FlattenObservation"
            )
        seen.append(env.observation_space)
        acted.append(env.action_space)
        env.close()
    kinds = {type(space).__name__ for space in acted}
    if len(kinds) > 1:
        raise ValueError(
            f"padded() expected actions that are all Discrete or all Box, got {' and '.join(sorted(kinds))}"
        )
    observation_space, action_space = _common_observation(seen), _common_action(acted)
    return [
        replace(task, make=_MakePadded(task.make, observation_space, action_space))
        for task in tasks
        if task.make is not None
    ]


def _common_observation(found: Sequence[spaces.Box]) -> spaces.Box:
    length = max(int(np.prod(space.shape, dtype=int)) for space in found)
    kind = np.result_type(*(space.dtype if space.dtype.kind == "f" else np.float32 for space in found))
    return spaces.Box(-np.inf, np.inf, (length,), kind.type)


def _common_action(found: Sequence[spaces.Space[Any]]) -> spaces.Space[Any]:
    discrete = [space for space in found if isinstance(space, spaces.Discrete)]
    if discrete:
        return spaces.Discrete(max(int(space.n) for space in discrete))
    boxes = [space for space in found if isinstance(space, spaces.Box) and len(space.shape) == 1]
    if len(boxes) < len(found):
        other = next(space for space in found if space not in boxes)
        raise ValueError(f"padded() expected Discrete actions or a Box of one axis, got {other}")
    lows, highs = (np.concatenate([getattr(box, end) for box in boxes]) for end in ("low", "high"))
    count, kind = max(box.shape[0] for box in boxes), np.result_type(*(box.dtype for box in boxes))
    if (lows == lows[0]).all() and (highs == highs[0]).all():
        return spaces.Box(float(lows[0]), float(highs[0]), (count,), kind.type)
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise ValueError(
            f"padded() brings actions of different bounds to -1 .. 1, and some of these have none: {boxes}; bound them "
            "with gymnasium.wrappers.RescaleAction or ClipAction first"
        )
    return spaces.Box(-1.0, 1.0, (count,), kind.type)
