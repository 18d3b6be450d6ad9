"""The last K steps as one observation: how algorithms without memory are given one.

PPO, A2C, DQN, SAC and TD3 mix transitions of all times; none of them carries a state. A window of the last K steps in
each observation needs none: ``HopeWindowExtractor`` runs a core over it from a newborn memory. Gradients are exact, the
cost is K steps of the core for each observation, and a replay buffer stores K rows where it stored one (twice, with the
next observation).

A row of the window [K, F] is

    observation (flattened) | last action (flattened) | last reward | is_first | is_valid

oldest first; ``is_valid`` is 0 for rows before the window's beginning.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from nl_agents.sb3.checks import check_whole

FLAGS = 2
"""Columns at the end of a row: is_first, is_valid."""
Rows = NDArray[np.float32]


def history_env(env: str | gym.Env[Any, Any] | VecEnv, steps: int, *, across_episodes: bool = False) -> Any:
    """Shows an environment's last ``steps`` steps, with the actions and rewards between them.

    Args:
        env: name of a gymnasium environment, an environment, or an SB3 ``VecEnv``.
        steps: K >= 1.
        across_episodes: whether the window goes on over episode starts (``is_first`` marks them, and the core clears
            its ``episode`` levels there) instead of beginning anew.

    Returns:
        A ``HistoryWrapper``, or for a ``VecEnv`` a ``VecHistory``.

    Raises:
        ValueError: steps < 1, or a space that gymnasium cannot flatten.
    """
    if isinstance(env, VecEnv):
        return VecHistory(env, steps, across_episodes)
    return HistoryWrapper(gym.make(env) if isinstance(env, str) else env, steps, across_episodes)


class Window:
    """The last K rows of one stream."""

    def __init__(self, observation: gym.Space[Any], action: gym.Space[Any], steps: int, across_episodes: bool) -> None:
        check_whole("steps", steps, 1, "how many an observation shows")
        for name, space in (("observation", observation), ("action", action)):
            if not space.is_np_flattenable:
                raise ValueError(f"the {name} space {space} cannot be flattened; history_env needs Box, Discrete, Dict")
        self.observation, self.action, self.across_episodes = observation, action, across_episodes
        self.sizes = (spaces.flatdim(observation), spaces.flatdim(action))
        self.rows = np.zeros((steps, sum(self.sizes) + 1 + FLAGS), np.float32)
        self.scale = _scale(observation)

    @property
    def space(self) -> spaces.Box:
        """Of the whole window."""
        return spaces.Box(-np.inf, np.inf, self.rows.shape, np.float32)

    def begin(self, seen: Any) -> Rows:
        """An episode begins."""
        if not self.across_episodes:
            self.rows[:] = 0
        return self._append(seen, None, 0.0, True)

    def follow(self, seen: Any, action: Any, reward: float) -> Rows:
        """A step was taken."""
        return self._append(seen, action, reward, False)

    def _append(self, seen: Any, action: Any, reward: float, is_first: bool) -> Rows:
        self.rows[:-1] = self.rows[1:].copy()
        row, (size, actions) = self.rows[-1], self.sizes
        row[:] = 0
        row[:size] = np.asarray(spaces.flatten(self.observation, seen), np.float32) / self.scale
        if action is not None:
            row[size : size + actions] = np.asarray(spaces.flatten(self.action, action), np.float32)
        row[size + actions] = reward
        row[-2:] = is_first, True
        return self.rows.copy()


def _scale(space: gym.Space[Any]) -> Rows:
    """What each number of a flattened observation is divided by: 255 where it is a byte, alone or inside of a Dict."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        within = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return np.concatenate([_scale(part) for part in within])
    is_bytes = isinstance(space, spaces.Box) and space.dtype == np.uint8
    return np.full(spaces.flatdim(space), 255.0 if is_bytes else 1.0, np.float32)


class HistoryWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """``history_env`` around one environment."""

    def __init__(self, env: gym.Env[Any, Any], steps: int, across_episodes: bool = False) -> None:
        super().__init__(env)
        self.window = Window(env.observation_space, env.action_space, steps, across_episodes)
        self.observation_space = self.window.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Rows, dict[str, Any]]:
        """Begins an episode."""
        seen, info = self.env.reset(seed=seed, options=options)
        return self.window.begin(seen), info

    def step(self, action: Any) -> tuple[Rows, float, bool, bool, dict[str, Any]]:
        """Takes a step."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        return self.window.follow(seen, action, float(reward)), float(reward), terminated, truncated, info


class VecHistory(VecEnvWrapper):
    """``history_env`` around all streams of an SB3 ``VecEnv``; the terminal observation is a window too."""

    def __init__(self, venv: VecEnv, steps: int, across_episodes: bool = False) -> None:
        windows = [
            Window(venv.observation_space, venv.action_space, steps, across_episodes) for _ in range(venv.num_envs)
        ]
        super().__init__(venv, observation_space=windows[0].space)
        self.windows, self._actions = windows, np.zeros(0)

    def reset(self) -> Rows:
        """Begins episodes."""
        seen = self.venv.reset()
        return np.stack([window.begin(_row(seen, stream)) for stream, window in enumerate(self.windows)])

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keeps the actions: they belong to the next rows."""
        self._actions = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Takes a step in every stream."""
        seen, rewards, ended, infos = self.venv.step_wait()
        shown = []
        for stream, window in enumerate(self.windows):
            own, action, reward = _row(seen, stream), self._actions[stream], float(rewards[stream])
            if not ended[stream]:
                shown.append(window.follow(own, action, reward))
                continue
            info = infos[stream]
            info["terminal_observation"] = window.follow(info["terminal_observation"], action, reward)
            shown.append(window.begin(own))
        return np.stack(shown), rewards, ended, infos


def _row(seen: Any, stream: int) -> Any:
    return {key: leaf[stream] for key, leaf in seen.items()} if isinstance(seen, dict) else seen[stream]
