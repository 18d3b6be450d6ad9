"""The class behind ``to_sb3``: importing this module imports Stable-Baselines3, and with it torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv


class SequenceVecEnv(VecEnv):
    """The SB3 view of one vector env."""

    def __init__(self, vector_env: VectorEnv[Any, Any, Any], flatten: bool) -> None:
        self.vector_env, self.flatten = vector_env, flatten
        self.render_mode = None
        inner = vector_env.single_observation_space
        super().__init__(vector_env.num_envs, flat_space(inner) if flatten else inner, vector_env.single_action_space)
        self._actions: Any = None
        self.latest_reward, self.latest_ended = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)  # of all streams

    def reset(self) -> Any:
        """Begins episodes; the first call after ``seed(s)`` starts the life of seed s."""
        seen, told = self.vector_env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = _rows(told, self.num_envs)
        return self._shown(seen)

    def step_async(self, actions: Any) -> None:
        """Keeps the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Steps all streams; returns SB3's four: observations, rewards, ends, one info dict a stream."""
        seen, reward, terminated, truncated, told = self.vector_env.step(self._actions)
        self.latest_reward, self.latest_ended = reward, terminated | truncated
        infos = _rows(told, self.num_envs)
        for stream, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(truncated[stream] and not terminated[stream])
            if "final_obs" in info:
                info["terminal_observation"] = self._shown_row(info.pop("final_obs"))
        return self._shown(seen), reward.astype(np.float32), self.latest_ended, infos

    def close(self) -> None:
        """Closes the vector env."""
        self.vector_env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Returns the vector env's own attribute once a stream: all streams share one env."""
        return [getattr(self._owner(attr_name), attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets the attribute of the one shared env."""
        setattr(self._owner(attr_name), attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the one shared env once and returns its result once a stream."""
        result = getattr(self._owner(method_name), method_name)(*args, **kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Single-env wrappers are never around a stream of a sequence."""
        return [False for _ in self._get_indices(indices)]

    def _shown(self, seen: Any) -> Any:
        return flatten_batch(self.vector_env.single_observation_space, seen) if self.flatten else seen

    def _shown_row(self, row: Any) -> Any:
        if not self.flatten:
            return row
        batch = {key: np.asarray(entry)[None] for key, entry in row.items()} if isinstance(row, dict) else row[None]
        return self._shown(batch)[0]

    def _owner(self, name: str) -> Any:
        return self.vector_env if hasattr(self.vector_env, name) else self.vector_env.unwrapped


def flatten_batch(space: spaces.Space[Any], batch: Any) -> npt.NDArray[np.float32]:
    """Lays a batch of observations out as [B, features] float32: Dict entries in their order, Discrete one-hot.

    Raises:
        ValueError: a space that is neither Box, Discrete nor a Dict of these.
    """
    if isinstance(space, spaces.Dict):
        return np.concatenate([flatten_batch(entry, batch[key]) for key, entry in space.items()], axis=1)
    if isinstance(space, spaces.Discrete):
        return np.asarray(batch[:, None] - space.start == np.arange(space.n), dtype=np.float32)
    if isinstance(space, spaces.Box):
        return batch.reshape(len(batch), -1).astype(np.float32)  # type: ignore[no-any-return]
    raise ValueError(f"only Box, Discrete and Dict of these can be flattened, got {space}")


def flat_space(space: spaces.Space[Any]) -> spaces.Box:
    """Returns the space of one row of ``flatten_batch``."""
    if isinstance(space, spaces.Dict):
        parts = [flat_space(entry) for entry in space.values()]
        low, high = (np.concatenate(bounds) for bounds in zip(*((part.low, part.high) for part in parts), strict=True))
        return spaces.Box(low, high, dtype=np.float32)
    if isinstance(space, spaces.Box):
        return spaces.Box(space.low.ravel().astype(np.float32), space.high.ravel().astype(np.float32), dtype=np.float32)
    if isinstance(space, spaces.Discrete):
        return spaces.Box(0.0, 1.0, (int(space.n),), np.float32)
    raise ValueError(f"only Box, Discrete and Dict of these can be flattened, got {space}")


def _rows(told: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Splits a batched info into one dict a stream, leaving out what a stream's ``_key`` mask says it lacks."""
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for key, column in told.items():
        if key.startswith("_") or not isinstance(column, np.ndarray):
            continue
        for stream in np.flatnonzero(told.get(f"_{key}", np.ones(num_envs, np.bool_))):
            rows[stream][key] = column[stream]
    return rows
