"""Your own envs as tasks: built when needed, seeded once, refused when their spaces differ."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, TransformReward

from nl_agents.tasks import Blocks, Constant, Task, TaskSequence
from nl_agents.tasks.python_backend import PythonBackend
from nl_agents.tasks.testing import CountingEnv


def test_envs_are_built_only_for_the_tasks_that_come_up() -> None:
    built = []

    def make(name: str) -> gym.Env:
        built.append(name)
        return CountingEnv()

    backend = PythonBackend([Task(name, make, {"name": name}) for name in "ab"], 4)
    assert built == ["a", "b"]  # one each, to compare their spaces
    sequence = TaskSequence(backend, "ab", Blocks([(0, 12), (1, 1000)]))
    sequence.reset()
    assert sorted(built) == ["a"] * 4 + ["b"]
    for _ in range(6):
        sequence.step(np.zeros(4, int))
    assert sorted(built) == ["a"] * 4 + ["b"] * 4


def test_a_task_that_returns_goes_on_with_its_own_randomness() -> None:
    sequence = TaskSequence(
        PythonBackend([Task(name, CountingEnv, {"lengths": (2,)}) for name in "ab"], 1),
        "ab",
        Blocks([(0, 4), (1, 4)], cycles=2),
    )
    seen, _ = sequence.reset(seed=1)
    begins = [seen[0].tolist()]
    while sequence.clock < 16:
        seen, *_ = sequence.step([0])
        if seen[0, 1] == 0:
            begins.append(seen[0].tolist())
    assert [begin[0] for begin in begins] == [0, 1, 0, 1, 2, 3, 2, 3]  # episodes are counted on per env
    assert len({begin[2] for begin in begins}) == 2  # one seed an env, given once


def test_every_kind_of_space_is_batched() -> None:
    class Rich(gym.Env):
        observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3)})
        action_space = spaces.Dict({"turn": spaces.Box(-1, 1, (1,)), "push": spaces.Discrete(2)})

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return {"a": np.zeros(2, np.float32), "b": 0}, {}

        def step(self, action):
            return {"a": np.repeat(action["turn"], 2), "b": int(action["push"])}, 0.5, False, True, {}

    backend = PythonBackend([Task("rich", Rich)], 3)
    assert not backend.exact_state
    backend.begin_life(0)
    backend.reset(np.arange(3), np.zeros(3, int))
    actions = {"turn": np.full((3, 1), 0.25, np.float32), "push": np.array([1, 0, 1])}
    reward, terminated, truncated = backend.step(actions, np.array([False, True, False]))
    assert reward.tolist() == [0.5, 0, 0.5]
    assert truncated.tolist() == [True, False, True] and not terminated.any()
    assert backend.observations()["a"].tolist() == [[0.25, 0.25], [0, 0], [0.25, 0.25]]
    assert backend.observations()["b"].tolist() == [1, 0, 1]


def test_exact_state_follows_from_the_envs() -> None:
    def exact(make) -> bool:
        return PythonBackend([Task("a", make)], 1).exact_state

    assert exact(CountingEnv)
    assert not exact(lambda: TransformReward(CountingEnv(), float))  # a wrapper that might keep anything
    assert not exact(lambda: gym.make("CartPole-v1"))


def test_spaces_must_agree_and_the_error_names_both_tasks() -> None:
    tasks = [Task("plain", CountingEnv), Task("odd", lambda: FlattenObservation(gym.make("FrozenLake-v1")))]
    with pytest.raises(ValueError, match=r"'plain' has observation_space Box.* 'odd' has Box.*until they agree"):
        PythonBackend(tasks, 2)

    def three_actions() -> gym.Env:
        env = CountingEnv()
        env.action_space = spaces.Discrete(3)
        return env

    with pytest.raises(ValueError, match=r"'plain' has action_space Discrete\(2\), task 'three' has Discrete\(3\)"):
        PythonBackend([Task("plain", CountingEnv), Task("three", three_actions)], 2)


def test_a_task_must_be_able_to_build_an_env() -> None:
    with pytest.raises(ValueError, match="'ghost' has no make"):
        PythonBackend([Task("ghost")], 1)
    with pytest.raises(TypeError, match=r"make of task 'wrong' must return a gymnasium\.Env, got int"):
        PythonBackend([Task("wrong", lambda: 3)], 1)


def test_in_episode_switches_are_impossible() -> None:
    with pytest.raises(NotImplementedError, match="next-reset"):
        PythonBackend([Task("a", CountingEnv)], 1).set_tasks(np.zeros(1, int))


def test_closing_a_sequence_closes_its_envs() -> None:
    closed = []

    class Closing(CountingEnv):
        def close(self) -> None:
            closed.append(self)

    sequence = TaskSequence(PythonBackend([Task("a", Closing)], 3), "a", Constant())
    sequence.reset()
    sequence.close()
    assert len(closed) == 3
