"""The environments of the speed benchmark, as fast as each backend allows, with flat float32 observations.

Every world speaks both reset conventions, because the opponents do: ``step`` leaves an ended stream alone for one step
(the next call is its reset, a transition that must not be learned from), ``step_same`` resets it at once and hands the
final observation out beside the new one.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


class Outcome(NamedTuple):
    """What one step of B streams gave."""

    obs: Floats  # [B, D]
    rewards: Floats  # [B]
    terminated: Flags  # [B]
    truncated: Flags  # [B]


class World(Protocol):
    """B streams of one environment."""

    num_envs: int
    observation_size: int
    num_actions: int

    def reset(self) -> Floats:
        """Starts all streams; returns obs [B, D]."""

    def step(self, actions: npt.NDArray[np.int64]) -> Outcome:
        """Steps all streams; an ended stream is reset by the call after."""

    def step_same(self, actions: npt.NDArray[np.int64]) -> tuple[Outcome, Floats | None]:
        """Steps all streams and resets those that ended; also returns the observations before that reset."""


class CartPole:
    """Gymnasium's own vector CartPole-v1: all streams in a handful of NumPy calls."""

    observation_size = 4
    num_actions = 2

    def __init__(self, num_envs: int, seed: int) -> None:
        self.num_envs = num_envs
        made = gym.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode="vector_entry_point")
        self._env: Any = made.unwrapped
        self._seed: int | None = seed

    def reset(self) -> Floats:
        """Starts all streams; returns obs [B, 4]."""
        obs, _ = self._env.reset(seed=self._seed)
        self._seed = None
        return np.asarray(obs)

    def step(self, actions: npt.NDArray[np.int64]) -> Outcome:
        """One call of the vector environment."""
        return Outcome(*self._env.step(actions)[:4])

    def step_same(self, actions: npt.NDArray[np.int64]) -> tuple[Outcome, Floats | None]:
        """The vector environment resets a call late; this does the same draw at once."""
        outcome, env = self.step(actions), self._env
        ended = outcome.terminated | outcome.truncated
        count = int(ended.sum())
        if not count:
            return outcome, None
        final = outcome.obs
        env.state[:, ended] = env.np_random.uniform(low=env.low, high=env.high, size=(4, count))
        env.steps[ended] = 0
        env.prev_done[ended] = False
        return outcome._replace(obs=env.state.T.astype(np.float32)), final


class DoorKey:
    """MiniGrid-DoorKey-5x5 on EnvPool, one thread: image / 10 and a one-hot direction, 151 floats."""

    observation_size = 7 * 7 * 3 + 4
    num_actions = 7
    _directions = np.eye(4, dtype=np.float32)

    def __init__(self, num_envs: int, seed: int) -> None:
        import envpool

        self.num_envs = num_envs
        self._env = envpool.make_gymnasium("MiniGrid-DoorKey-5x5-v0", num_envs=num_envs, seed=seed, num_threads=1)

    def _flat(self, obs: dict[str, Any]) -> Floats:
        image, direction = obs["image"], obs["direction"]
        flat = np.empty((len(image), self.observation_size), np.float32)
        np.multiply(image.reshape(len(image), -1), np.float32(0.1), out=flat[:, :-4])
        flat[:, -4:] = self._directions[direction]
        return flat

    def reset(self) -> Floats:
        """Starts all streams; returns obs [B, 151]."""
        return self._flat(self._env.reset()[0])

    def step(self, actions: npt.NDArray[np.int64]) -> Outcome:
        """One call of the pool."""
        obs, rewards, terminated, truncated, _ = self._env.step(actions)
        return Outcome(self._flat(obs), rewards, terminated, truncated)

    def step_same(self, actions: npt.NDArray[np.int64]) -> tuple[Outcome, Floats | None]:
        """One call of the pool, and a second one for the streams that ended."""
        outcome = self.step(actions)
        ended = outcome.terminated | outcome.truncated
        if not ended.any():
            return outcome, None
        obs = outcome.obs.copy()
        obs[ended] = self._flat(self._env.reset(options={"reset_mask": ended})[0])
        return outcome._replace(obs=obs), outcome.obs


class _Flat(gym.ObservationWrapper):  # type: ignore[type-arg]
    """One Python MiniGrid with the same 151 floats."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0.0, 25.5, (DoorKey.observation_size,), np.float32)

    def observation(self, observation: dict[str, Any]) -> Floats:
        flat = np.zeros(DoorKey.observation_size, np.float32)
        np.multiply(observation["image"].ravel(), np.float32(0.1), out=flat[:-4])
        flat[observation["direction"] - 4] = 1.0
        return flat


class PythonDoorKey:
    """MiniGrid-DoorKey-5x5 as MiniGrid's own Python, in one process (more processes lose on few cores)."""

    observation_size = DoorKey.observation_size
    num_actions = DoorKey.num_actions

    def __init__(self, num_envs: int, seed: int) -> None:
        import minigrid  # noqa: F401  (registers the environments)

        self.num_envs = num_envs
        self._seed: int | None = seed
        self._env = gym.vector.SyncVectorEnv([lambda: _Flat(gym.make("MiniGrid-DoorKey-5x5-v0"))] * num_envs)

    def reset(self) -> Floats:
        """Starts all streams; returns obs [B, 151]."""
        obs, _ = self._env.reset(seed=self._seed)
        self._seed = None
        return np.asarray(obs)

    def step(self, actions: npt.NDArray[np.int64]) -> Outcome:
        """One Python call a stream."""
        obs, rewards, terminated, truncated, _ = self._env.step(actions)
        return Outcome(np.asarray(obs), rewards.astype(np.float32), terminated, truncated)

    def step_same(self, actions: npt.NDArray[np.int64]) -> tuple[Outcome, Floats | None]:
        """One Python call a stream, and a second one for the streams that ended."""
        outcome = self.step(actions)
        ended = outcome.terminated | outcome.truncated
        if not ended.any():
            return outcome, None
        obs, _ = self._env.reset(options={"reset_mask": ended})
        return outcome._replace(obs=np.asarray(obs)), outcome.obs


WORLDS = {"cartpole": CartPole, "doorkey": DoorKey, "doorkey-python": PythonDoorKey}
