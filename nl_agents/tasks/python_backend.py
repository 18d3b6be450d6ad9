"""Any gymnasium envs as the tasks of a sequence: one env per stream and task, built when first needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from nl_agents.seeding import spawn
from nl_agents.tasks.backend import BoolArray, FloatArray, IntArray, Outcome
from nl_agents.tasks.env_attributes import get_attribute, require_attribute, set_attribute
from nl_agents.tasks.env_state import get_env_state, keeps_state, set_env_state
from nl_agents.tasks.task import Task


class PythonBackend:
    """B streams over plain Python envs; a switch takes effect with a stream's next episode.

    Args:
        tasks: every one with a ``make``; their spaces must be equal.
        num_envs: streams B.
    """

    switches_in_episode = False

    def __init__(self, tasks: Sequence[Task], num_envs: int) -> None:
        self.tasks, self.num_envs = tuple(tasks), num_envs
        self.stream_at_work: int | None = None
        self._envs: dict[tuple[int, int], gym.Env[Any, Any]] = {}
        probes = [self._build(task) for task in self.tasks]
        check_equal_spaces([(task.name, env) for task, env in zip(self.tasks, probes, strict=True)])
        self._envs.update({(0, index): env for index, env in enumerate(probes)})
        self.single_observation_space = probes[0].observation_space
        self.single_action_space = probes[0].action_space
        self.exact_state = all(keeps_state(env) for env in probes)
        limits = [_episode_limit(env) for env in probes]
        self.episode_limit = None if None in limits else max(limit for limit in limits if limit is not None)
        self._batch_actions = batch_space(self.single_action_space, num_envs)
        self._batch_observations = batch_space(self.single_observation_space, num_envs)
        self._running: list[int] = [0] * num_envs
        self._begun: set[tuple[int, int]] = set()
        self._latest: list[Any] = [None] * num_envs
        self._seed = 0
        self._watched: tuple[str, ...] = ()
        self._own: dict[tuple[int, int, str], float] = {}  # watched attributes as the env was built with

    def begin_life(self, seed: int) -> None:
        """Throws away every env that has run; each new one is seeded from (seed, task, stream) at its first reset."""
        if self._begun:
            self.close()
        self._begun, self._seed = set(), seed

    def set_tasks(self, tasks: IntArray) -> None:
        """Python envs cannot change their task in the middle of an episode."""
        raise NotImplementedError("Python envs switch with the next episode; use switch='next-reset'")

    def reset(self, streams: IntArray, tasks: IntArray) -> None:
        """Begins an episode of ``tasks[i]`` on each stream i, in an env that keeps its own randomness."""
        for stream in streams.tolist():
            self.stream_at_work = stream
            key = stream, int(tasks[stream])
            env = self._env(key)
            fresh = key not in self._begun
            seed = spawn(self._seed, self.tasks[key[1]].name, stream) % 2**32 if fresh else None
            self._latest[stream], _ = env.reset(seed=seed)
            self._begun.add(key)
            self._running[stream] = key[1]
        self.stream_at_work = None

    def step(self, actions: npt.NDArray[Any], waiting: BoolArray | None) -> Outcome:
        """Steps the streams one after another."""
        reward = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        discrete = isinstance(self.single_action_space, gym.spaces.Discrete)
        rows = actions.tolist() if discrete else list(iterate(self._batch_actions, actions))
        for stream in range(self.num_envs):
            if waiting is None or not waiting[stream]:
                self.stream_at_work = stream
                env = self._envs[stream, self._running[stream]]
                self._latest[stream], reward[stream], terminated[stream], truncated[stream], _ = env.step(rows[stream])
        self.stream_at_work = None
        return reward, terminated, truncated

    def observations(self) -> Any:
        """Returns what every stream saw last, batched."""
        space = self.single_observation_space
        return concatenate(space, self._latest, cast(Any, create_empty_array(space, self.num_envs)))

    def get_state(self) -> dict[str, Any]:
        """Returns every env that has run in this life, what each stream runs, and what it saw last."""
        envs = [[*key, get_env_state(self._envs[key])] for key in sorted(self._begun)]
        seen = None if any(latest is None for latest in self._latest) else self.observations()
        return {"seed": self._seed, "running": list(self._running), "envs": envs, "seen": seen}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up a state of ``get_state``; envs that have not run yet stay unbuilt."""
        self.begin_life(int(state["seed"]))
        self._running = [int(task) for task in state["running"]]
        for stream, task, saved in state["envs"]:
            set_env_state(self._env((stream, task)), saved)
            self._begun.add((stream, task))
        if state["seen"] is not None:
            self._latest = list(iterate(self._batch_observations, state["seen"]))

    def watch_attributes(self, names: tuple[str, ...]) -> None:
        """Reads these numbers of every env when it is built; UnknownNameError where one lacks them."""
        for task in range(len(self.tasks)):
            for name in names:
                require_attribute(self.tasks[task].name, self._env((0, task)), name)
        self._watched = names
        for key, env in self._envs.items():
            self._note(key, env)

    def default_attribute(self, name: str, streams: IntArray, tasks: IntArray) -> FloatArray:
        """Returns [N] what each env had when it was built."""
        keys = list(zip(streams.tolist(), tasks.tolist(), strict=True))
        for key in keys:
            self._env(key)
        return np.array([self._own[*key, name] for key in keys])

    def set_attribute(self, name: str, streams: IntArray, tasks: IntArray, values: FloatArray) -> None:
        """Sets one number in each env, one after another."""
        for stream, task, value in zip(streams.tolist(), tasks.tolist(), values.tolist(), strict=True):
            set_attribute(self._env((stream, task)), name, value)

    def close(self) -> None:
        """Closes every env."""
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def _env(self, key: tuple[int, int]) -> gym.Env[Any, Any]:
        if key not in self._envs:
            self._envs[key] = self._build(self.tasks[key[1]])
            self._note(key, self._envs[key])
        return self._envs[key]

    def _note(self, key: tuple[int, int], env: gym.Env[Any, Any]) -> None:
        self._own.update({(*key, name): get_attribute(env, name) for name in self._watched})

    def _build(self, task: Task) -> gym.Env[Any, Any]:
        if task.make is None:
            raise ValueError(f"task {task.name!r} has no make; give Task({task.name!r}, make) an env builder")
        env = task.make(**task.params)
        if not isinstance(env, gym.Env):
            raise TypeError(f"make of task {task.name!r} must return a gymnasium.Env, got {type(env).__name__}")
        return env


def check_equal_spaces(envs: list[tuple[str, gym.Env[Any, Any]]]) -> None:
    """Raises ValueError naming the first task whose spaces differ from the first task's."""
    (first_name, first), *others = envs
    for name, env in others:
        for what in ("observation_space", "action_space"):
            one, other = getattr(first, what), getattr(env, what)
            if one != other:
                raise ValueError(
                    f"all tasks of a sequence must have equal spaces: task {first_name!r} has {what} {one}, task "
                    f"{name!r} has {other}; wrap one of them until they agree, or give nl_agents.tasks.padded(tasks)"
                )


def _episode_limit(env: gym.Env[Any, Any]) -> int | None:
    """Returns the longest possible episode where the env's spec or its ``max_steps`` says it."""
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return env.spec.max_episode_steps
    limit = getattr(env.unwrapped, "max_steps", None)
    return limit if isinstance(limit, int) else None
