"""EnvPool's C++ envs as the tasks of a sequence: one pool a task, each stream in exactly one of them at a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from nl_agents.seeding import spawn
from nl_agents.tasks.backend import BoolArray, IntArray, Outcome


def envpool_is_installed() -> bool:
    """True if EnvPool can be imported; it is optional and has no wheel for some platforms."""
    return importlib.util.find_spec("envpool") is not None


class EnvPoolBackend:
    """B streams over EnvPool; a switch takes effect with a stream's next episode.

    While some streams still finish an episode of the old task and others run the new one, both pools are stepped, each
    only where it has streams; otherwise one pool is, in one call, and it begins the episodes of waiting streams in that
    same call. A stream that enters a pool begins with an explicit reset there, so nothing that an earlier visit left
    in the pool can return. Where an episode ends by itself on the very step of its time limit EnvPool reports
    ``truncated`` alone; MiniGrid reports both. EnvPool cannot give its state, so ``exact_state`` is False.

    Args:
        task_ids: EnvPool's id of each task.
        num_envs: streams B.
        observation_space: the Dict of Box and Discrete entries that is kept of what EnvPool shows.
        action_space: the action of one stream.
        episode_limit: longest episode over all tasks, in env steps; None if unknown.
    """

    exact_state = False
    switches_in_episode = False
    stream_at_work: int | None = None

    def __init__(
        self,
        task_ids: Sequence[str],
        num_envs: int,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        episode_limit: int | None = None,
    ) -> None:
        self.task_ids, self.num_envs = tuple(task_ids), num_envs
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.episode_limit = episode_limit
        batched = batch_space(observation_space, num_envs)
        assert isinstance(batched, spaces.Dict)
        self._seen = {key: np.zeros(space.shape or (), space.dtype) for key, space in batched.items()}
        self._pools: dict[int, Any] = {}
        self._streams = np.arange(num_envs)
        self._running = np.zeros(num_envs, dtype=np.int64)
        self._tasks: IntArray | None = None  # what the last reset was given
        self._begun: BoolArray | None = None  # streams that the pool began anew within the last step
        self._only: int | None = None  # the one pool that all streams are in, if there is one
        self._seed = 0

    def begin_life(self, seed: int) -> None:
        """Drops all pools: EnvPool fixes its seeds when a pool is made."""
        self.close()
        self._seed, self._begun = seed, None

    def set_tasks(self, tasks: IntArray) -> None:
        """EnvPool's envs cannot change their task in the middle of an episode."""
        raise NotImplementedError("EnvPool's envs switch with the next episode; use switch='next-reset'")

    def reset(self, streams: IntArray, tasks: IntArray) -> None:
        """Begins an episode of ``tasks[i]`` on each stream i, but for those the pool itself has just begun.

        ``tasks`` must not be written to afterwards: to move a stream, give another array.
        """
        begun, self._begun = self._begun, None
        if begun is not None:
            if tasks is self._tasks:
                return  # the same array as last time: nobody moved, and the pool has begun all that waited
            streams = streams[~begun[streams] | (tasks[streams] != self._running[streams])]
        self._tasks = tasks
        self._running[streams] = tasks[streams]
        first = int(self._running[0])
        self._only = first if (self._running == first).all() else None
        for task in np.unique(tasks[streams]).tolist():
            seen, info = self._pool(task).reset(streams[tasks[streams] == task].astype(np.int32))
            self._see(seen, info["env_id"])

    def step(self, actions: npt.NDArray[Any], waiting: BoolArray | None) -> Outcome:
        """Steps each pool that has running streams, once."""
        if self._only is not None:
            return self._step_one_pool(self._only, actions, waiting)
        reward = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        awake = np.ones(self.num_envs, np.bool_) if waiting is None else ~waiting
        for task in np.unique(self._running[awake]).tolist():
            streams = (awake & (self._running == task)).nonzero()[0].astype(np.int32)
            seen, *outcome, info = self._pool(task).step(actions[streams].astype(np.int32), streams)
            rows = info["env_id"]
            reward[rows], terminated[rows], truncated[rows] = outcome
            self._see(seen, rows)
        return reward, terminated, truncated

    def observations(self) -> dict[str, npt.NDArray[Any]]:
        """Returns what every stream saw last, by key; these arrays are never written to again."""
        return dict(self._seen)

    def get_state(self) -> dict[str, Any]:
        """EnvPool has no way to give its state."""
        raise NotImplementedError("EnvPool cannot give its state; use recreate(index)")

    def set_state(self, state: dict[str, Any]) -> None:
        """EnvPool has no way to take a state."""
        raise NotImplementedError("EnvPool cannot take a state; use recreate(index)")

    def close(self) -> None:
        """Closes and forgets every pool."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def _step_one_pool(self, task: int, actions: npt.NDArray[Any], waiting: BoolArray | None) -> Outcome:
        """Steps all streams in one call; those that wait are begun anew by the pool itself within it."""
        seen, reward, terminated, truncated, info = self._pool(task).step(actions.astype(np.int32))
        rows = info["env_id"]
        if not (rows == self._streams).all():  # synchronous pools answer in order; do not rest on it
            back = np.argsort(rows)
            seen = {key: seen[key][back] for key in self._seen}
            reward, terminated, truncated = reward[back], terminated[back], truncated[back]
        self._seen = {key: seen[key].astype(old.dtype, copy=False) for key, old in self._seen.items()}
        self._begun = waiting
        return reward.astype(np.float64), terminated, truncated

    def _see(self, seen: dict[str, npt.NDArray[Any]], streams: npt.NDArray[np.int32]) -> None:
        """Takes over some rows, in copies: the arrays before may be in the caller's hands."""
        self._seen = {key: old.copy() for key, old in self._seen.items()}
        for key, store in self._seen.items():
            store[streams] = seen[key]

    def _pool(self, task: int) -> Any:
        if task not in self._pools:
            import envpool

            name = self.task_ids[task]
            seed = spawn(self._seed, "envpool", name) % 2**31
            self._pools[task] = envpool.make_gymnasium(name, num_envs=self.num_envs, seed=seed, num_threads=1)
        return self._pools[task]
