"""A tiny env whose every observation says where it comes from: for tests of plumbing, ours and yours."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces


class CountingEnv(gym.Env[npt.NDArray[np.float32], Any]):
    """Observes ``[episode index, step index, stream seed]``; nothing in it is random.

    Episodes and steps count from 0; the stream seed is the seed of the first reset modulo 1024, exact in float32. An
    episode ends after ``lengths[episode mod len(lengths)]`` steps, terminated or, if ``truncate``, truncated. The
    reward of a step is ``reward + step index / 1000``, so a transition can be told from its reward alone.

    Args:
        lengths: episode lengths in env steps, cycled; each >= 1.
        reward: added to every reward, to tell tasks apart.
        truncate: whether episodes end truncated instead of terminated.
        crash_at: raise RuntimeError at this step of the env's life, counted from 1; None: never.
        nan_at: give a NaN observation and reward at this step of the env's life, counted from 1; None: never.
    """

    def __init__(
        self,
        lengths: tuple[int, ...] = (3, 5, 2),
        reward: float = 0.0,
        truncate: bool = False,
        crash_at: int | None = None,
        nan_at: int | None = None,
    ) -> None:
        self.lengths, self.reward, self.truncate = lengths, reward, truncate
        self.crash_at, self.nan_at = crash_at, nan_at
        self.observation_space = spaces.Box(0.0, 2.0**24, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._episode, self._step, self._life, self._seed = -1, 0, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begins the next episode; a seed sets the stream seed and begins with episode 0 again."""
        super().reset(seed=seed)
        if seed is not None:
            self._episode, self._life, self._seed = -1, 0, seed % 1024
        self._episode, self._step = self._episode + 1, 0
        return self._observation(), {"secret": self.reward}

    def step(self, action: Any) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Counts one further; the action changes nothing."""
        self._step, self._life = self._step + 1, self._life + 1
        if self._life == self.crash_at:
            raise RuntimeError("the counting env was told to crash")
        seen, reward = self._observation(), self.reward + self._step / 1000
        if self._life == self.nan_at:
            seen, reward = np.full_like(seen, np.nan), float("nan")
        ended = self._step >= self.lengths[self._episode % len(self.lengths)]
        return seen, reward, ended and not self.truncate, ended and self.truncate, {"secret": self.reward}

    def get_state(self) -> dict[str, int]:
        """Returns the four counters."""
        return {"episode": self._episode, "step": self._step, "life": self._life, "seed": self._seed}

    def set_state(self, state: dict[str, int]) -> None:
        """Takes up the four counters."""
        self._episode, self._step = state["episode"], state["step"]
        self._life, self._seed = state["life"], state["seed"]

    def _observation(self) -> npt.NDArray[np.float32]:
        return np.array([self._episode, self._step, self._seed], dtype=np.float32)
