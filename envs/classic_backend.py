"""What the native forms of small physics problems share: constants a stream, hashed start states, saving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from nl_agents.errors import UnknownNameError
from nl_agents.seeding import hash_uniform, spawn
from nl_agents.tasks.backend import BoolArray, FloatArray, IntArray, Outcome


class ClassicBackend:
    """B streams of one problem in one set of arrays; what sets its tasks apart are named constants.

    A start state is a hash of (stream's key, number of its episode), uniform in +-``start``.

    Args:
        name: of the problem, for seeds and errors.
        constants: the problem's own, by name.
        start: half-width [S] of the start state.
        num_envs: streams B.
        episode_limit: env steps after which an episode is truncated.

    Attributes:
        state: [S, B] float64.
        constant: name -> [B], in force now.
    """

    exact_state = True
    switches_in_episode = True
    stream_at_work: int | None = None
    single_observation_space: gym.Space[Any]
    single_action_space: gym.Space[Any]

    def __init__(
        self, name: str, constants: Mapping[str, float], start: list[float], num_envs: int, episode_limit: int
    ) -> None:
        self.name, self.num_envs = name, num_envs
        self.episode_limit: int | None = episode_limit
        self._limit, self._own, self._start = episode_limit, dict(constants), np.array(start)[:, None]
        self.state = np.zeros((len(start), num_envs))
        self.constant = {key: np.full(num_envs, value) for key, value in constants.items()}
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self.begin_life(0)

    def advance(self, actions: npt.NDArray[Any]) -> tuple[FloatArray, BoolArray]:
        """Moves ``state`` one step on; returns fresh reward [B] and terminated [B]."""
        raise NotImplementedError

    def observations(self) -> npt.NDArray[np.float32]:
        """Returns what each stream sees now, [B, features] float32."""
        raise NotImplementedError

    def begin_life(self, seed: int) -> None:
        """Gives every stream a key of its own and counts its episodes from 0."""
        self._keys = np.array([spawn(seed, self.name, stream) for stream in range(self.num_envs)], dtype=np.uint64)
        self._episodes = np.zeros(self.num_envs, dtype=np.uint64)

    def set_tasks(self, tasks: IntArray) -> None:
        """There is one task inside; its constants are set by name."""

    def reset(self, streams: IntArray, tasks: IntArray) -> None:
        """Begins an episode."""
        size = len(self.state)
        draw = self._episodes[streams] * np.uint64(size) + np.arange(1, size + 1, dtype=np.uint64)[:, None]
        self.state[:, streams] = (2 * hash_uniform(self._keys[streams], draw) - 1) * self._start
        self._episodes[streams] += np.uint64(1)
        self._steps[streams] = 0

    def step(self, actions: npt.NDArray[Any], waiting: BoolArray | None) -> Outcome:
        """Steps all; what waiting streams do is thrown away with their next episode."""
        reward, terminated = self.advance(actions)
        self._steps += 1
        truncated: BoolArray = self._steps >= self._limit
        if waiting is not None:
            reward[waiting], terminated[waiting], truncated[waiting] = 0.0, False, False
        return reward, terminated, truncated

    def watch_attributes(self, names: tuple[str, ...]) -> None:
        """Accepts the names of the constants."""
        for name in names:
            if name not in self._own:
                raise UnknownNameError(f"attribute of {self.name}", name, self._own)

    def default_attribute(self, name: str, streams: IntArray, tasks: IntArray) -> FloatArray:
        """Returns [N] the problem's own constant."""
        return np.full(len(streams), self._own[name])

    def set_attribute(self, name: str, streams: IntArray, tasks: IntArray, values: FloatArray) -> None:
        """Sets a constant on some streams; state and episode go on."""
        self.constant[name] = self.constant[name].copy()
        self.constant[name][streams] = values

    def set_all_attributes(self, values: Mapping[str, FloatArray]) -> None:
        """Sets constants of all streams."""
        self.constant.update({name: np.array(column) for name, column in values.items()})

    def get_state(self) -> dict[str, Any]:
        """Returns copies of all arrays."""
        arrays = {"state": self.state, "steps": self._steps, "keys": self._keys, "episodes": self._episodes}
        return {name: array.copy() for name, array in (arrays | self.constant).items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up copies of all arrays."""
        self.state, self._steps = np.array(state["state"], np.float64), np.array(state["steps"], np.int64)
        self._keys, self._episodes = np.array(state["keys"], np.uint64), np.array(state["episodes"], np.uint64)
        self.constant = {name: np.array(state[name], np.float64) for name in self._own}

    def close(self) -> None:
        """Holds nothing outside Python."""
