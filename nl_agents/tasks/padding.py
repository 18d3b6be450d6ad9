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
    action a mod n does; of an action vector, surplus numbers do nothing.

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
        inner = self.env.action_space
        if isinstance(inner, spaces.Discrete):
            assert isinstance(self.action_space, spaces.Discrete)
            action = int(inner.start) + (int(action) - int(self.action_space.start)) % int(inner.n)
        else:
            assert inner.shape is not None
            action = np.asarray(action)[: inner.shape[0]]
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
    length: int
    actions: int

    def __call__(self, **params: Any) -> gym.Env[Any, Any]:
        env = self.make(**params)
        return Padded(env, _longer(env.observation_space, self.length), _larger(env.action_space, self.actions))


def padded(tasks: Sequence[Task]) -> list[Task]:
    """Returns the tasks with spaces as large as the largest among them.

    Observations lose their bounds, which would tell the task; what a task shows of zeros may still tell it. Integer
    observations become float32.

    Args:
        tasks: each with a ``make``.

    Raises:
        ValueError: a task without a ``make``, one that observes no Box, actions that are not all Discrete or all Box.
    """
    lengths, actions, kinds = [], [], set()
    for task in tasks:
        if task.make is None:
            raise ValueError(f"padded() wraps envs, and task {task.name!r} has no make: give Task({task.name!r}, make)")
        env = task.make(**task.params)
        if not isinstance(env.observation_space, spaces.Box):
            raise ValueError(
                f"padded() lengthens vectors, and task {task.name!r} observes {env.observation_space}: flatten it with "
                "gymnasium.wrappers.FlattenObservation"
            )
        lengths.append(int(np.prod(env.observation_space.shape, dtype=int)))
        kinds.add(type(env.action_space).__name__)
        actions.append(_actions(env.action_space))
        env.close()
    if len(kinds) > 1:
        raise ValueError(
            f"padded() expected actions that are all Discrete or all Box, got {' and '.join(sorted(kinds))}"
        )
    length, count = max(lengths), max(actions)
    return [replace(task, make=_MakePadded(task.make, length, count)) for task in tasks if task.make is not None]


def _actions(space: spaces.Space[Any]) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return int(space.shape[0])
    raise ValueError(f"padded() expected Discrete actions or a Box of one axis, got {space}")


def _longer(space: Any, length: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (length,), space.dtype if space.dtype.kind == "f" else np.float32)


def _larger(space: Any, count: int) -> spaces.Space[Any]:
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(count, start=int(space.start))
    low, high = np.full(count, space.low.min(), space.dtype), np.full(count, space.high.max(), space.dtype)
    return spaces.Box(low, high, dtype=space.dtype.type)
