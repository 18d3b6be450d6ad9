"""The door to the sequences: names, your own tasks, errors."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TransformObservation

from nl_agents import envs
from nl_agents.errors import UnknownNameError
from nl_agents.tasks import Cyclic, SequenceEnv, Task


def make_left() -> gym.Env:
    return gym.make("CartPole-v1")


def make_right() -> gym.Env:
    env = gym.make("CartPole-v1")
    return TransformObservation(env, lambda seen: -seen, env.observation_space)


def test_two_envs_of_your_own_become_a_life() -> None:
    tasks = [Task("left", make_left), Task("right", make_right)]
    sequence = envs.make_sequence(tasks, schedule=Cyclic(every=25_000), num_envs=16)
    seen, info = sequence.reset(seed=0)
    assert seen.shape == (16, 4) and info == {} and not sequence.exact_state
    for _ in range(30):
        seen, *_ = sequence.step(sequence.action_space.sample())
    assert sequence.clock > 400 and sequence.task_log == [(0, "left")]
    with pytest.warns(UserWarning, match="less than two full episodes of 500"):
        envs.make_sequence(tasks, schedule=Cyclic(every=5_000))


def test_names() -> None:
    suite, size = envs.preset("cartpole-flip:demo")
    assert (suite.name, size.steps) == ("cartpole-flip", 250_000)
    with pytest.raises(UnknownNameError, match=r"unknown sequence 'cartpole-flop'.*'cartpole-flip'"):
        envs.make_sequence("cartpole-flop")
    with pytest.raises(UnknownNameError, match=r"preset of cartpole-flip 'quik'.*'quick'"):
        envs.make_sequence("cartpole-flip:quik")


def test_one_stream() -> None:
    env = envs.make("cartpole-flip:demo", seed=3, info="task-id")
    assert isinstance(env, SequenceEnv)
    first, info = env.reset()
    np.testing.assert_array_equal(first, envs.make_sequence("cartpole-flip:demo", num_envs=1, seed=3).reset()[0][0])
    assert set(info) == {"task_changed", "task_id"}


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="num_envs must be an int >= 1, got 0"):
        envs.make_sequence("cartpole-flip", num_envs=0)
    tasks = [Task("left", make_left), Task("right", make_right)]
    with pytest.raises(ValueError, match=r"need a schedule: make_sequence\(tasks, schedule=Cyclic"):
        envs.make_sequence(tasks)
    with pytest.raises(ValueError, match=r"every name once, got \['left', 'left'\]"):
        envs.make_sequence([tasks[0], tasks[0]], schedule=Cyclic(9))
    with pytest.raises(ValueError, match="every name once"):
        envs.make_sequence([], schedule=Cyclic(9))
    with pytest.raises(ValueError, match="run on backend='python', got 'envpool'"):
        envs.make_sequence(tasks, schedule=Cyclic(9), backend="envpool")
