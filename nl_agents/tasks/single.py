"""One stream of a sequence as a plain ``gymnasium.Env``, for libraries that build their own vectors."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.error import ResetNeeded
from gymnasium.vector.utils import iterate

from nl_agents.tasks.sequence import TaskSequence


class SequenceEnv(gym.Env[Any, Any]):
    """A sequence of one stream with the single-env interface; its clock is its own.

    ``reset(seed=s)`` starts a new life, ``reset()`` the next episode of the running one. Libraries that put several
    of these side by side get several clocks; ``nl_agents.envs.to_sb3`` and ``gymnasium.make_vec`` share one.

    Args:
        sequence: must have ``num_envs == 1``.
    """

    def __init__(self, sequence: TaskSequence) -> None:
        if sequence.num_envs != 1:
            raise ValueError(f"SequenceEnv shows one stream, got a sequence of {sequence.num_envs}; build num_envs=1")
        self.sequence = sequence
        self.observation_space = sequence.single_observation_space
        self.action_space = sequence.single_action_space
        self._must_reset = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; with a seed, a new life. ``options`` must be empty."""
        super().reset(seed=seed)
        seen, info = self.sequence.reset(seed=seed, options=options)
        self._must_reset = False
        return self._first(seen), {key: rows[0] for key, rows in info.items()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Steps the one stream.

        Raises:
            ResetNeeded: the episode has ended, or none has begun.
        """
        if self._must_reset:
            raise ResetNeeded("the episode has ended or none has begun: call reset() before step()")
        seen, reward, terminated, truncated, info = self.sequence.step([action])
        self._must_reset = bool(terminated[0] or truncated[0])
        told = {key: rows[0] for key, rows in info.items()}
        return self._first(seen), float(reward[0]), bool(terminated[0]), bool(truncated[0]), told

    def close(self) -> None:
        """Closes the sequence."""
        self.sequence.close()

    @property
    def task_log(self) -> list[tuple[int, str]]:
        """The sequence's log of scheduled switches: ground truth, for evaluation only."""
        return self.sequence.task_log

    def _first(self, seen: Any) -> Any:
        return next(iter(iterate(self.sequence.observation_space, seen)))
