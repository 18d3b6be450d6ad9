"""Tasks of different sizes in common spaces."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from nl_agents import envs
from nl_agents.tasks import Cyclic, Task, padded


def make(name: str) -> Any:
    return gym.make(name, disable_env_checker=True)


TASKS = [Task("cart", make, {"name": "CartPole-v1"}), Task("arms", make, {"name": "Acrobot-v1"})]


class Turning(gym.Env[Any, Any]):
    """Two numbers to turn, says what it was told."""

    observation_space = spaces.Box(-1, 1, (2, 1), np.float64)

    def __init__(self, size: int) -> None:
        self.action_space = spaces.Box(-1.0, 1.0, (size,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros((2, 1)), {}

    def step(self, action: Any) -> Any:
        return np.full((2, 1), 0.5), float(np.sum(action)), False, False, {}


def test_padded_tasks_live_in_one_sequence() -> None:
    with pytest.raises(ValueError, match=r"must have equal spaces.*padded\(tasks\)"):
        envs.make_sequence(TASKS, schedule=Cyclic(every=2_000), num_envs=2)
    sequence = envs.make_sequence(padded(TASKS), schedule=Cyclic(every=2_000), num_envs=2)
    assert sequence.single_observation_space.shape == (6,) and sequence.single_action_space == spaces.Discrete(3)
    seen, _ = sequence.reset(seed=0)
    assert (seen[:, 4:] == 0).all() and (seen[:, :4] != 0).any()
    for _ in range(1_100):
        seen, *_ = sequence.step(sequence.action_space.sample())
    assert [name for _, name in sequence.task_log] == ["cart", "arms"]


def test_surplus_actions_repeat_others_and_surplus_numbers_do_nothing() -> None:
    cart, _ = padded(TASKS)
    assert cart.make is not None
    rows = []
    for action in (0, 2):
        env = cart.make(**cart.params)
        env.reset(seed=1)
        rows.append(env.step(action)[0])
    assert np.array_equal(rows[0], rows[1])
    short, _ = padded([Task("one", Turning, {"size": 1}), Task("two", Turning, {"size": 2})])
    assert short.make is not None
    env = short.make(**short.params)
    assert env.reset()[0].tolist() == [0.0, 0.0]
    assert env.step(np.array([0.25, 1.0]))[1] == 0.25


@pytest.mark.filterwarnings("ignore:.*infinity")
def test_padded_envs_pass_the_check() -> None:
    for task in padded(TASKS):
        assert task.make is not None
        check_env(task.make(**task.params).unwrapped, skip_render_check=True)


def test_tasks_of_other_bounds_precision_and_first_action_live_in_one_sequence() -> None:
    boxes = [Task(name, make, {"name": name}) for name in ("Pendulum-v1", "MountainCarContinuous-v0")]
    life = envs.make_sequence(padded(boxes), schedule=Cyclic(10_000), num_envs=2)
    assert life.single_action_space == spaces.Box(-1.0, 1.0, (1,), np.float32)
    life.reset(seed=0)
    life.step(np.ones((2, 1), np.float32))
    backend: Any = life.backend
    assert backend._envs[0, 0].unwrapped.last_u == pytest.approx(2.0)  # torque 1 of -1 .. 1 is 2 of -2 .. 2

    def late() -> gym.Env[Any, Any]:
        env = make("CartPole-v1")
        env.action_space = spaces.Discrete(2, start=1)
        env.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)
        return env

    other = envs.make_sequence(padded([Task("late", late), TASKS[1]]), schedule=Cyclic(10_000), num_envs=2)
    assert other.single_action_space == spaces.Discrete(3)
    assert other.single_observation_space == spaces.Box(-np.inf, np.inf, (6,), np.float64)


def test_what_cannot_be_padded_is_told() -> None:
    with pytest.raises(ValueError, match=r"task 'x' has no make: give Task\('x', make\)"):
        padded([Task("x")])
    with pytest.raises(ValueError, match=r"task 'box' observes Discrete.*FlattenObservation"):
        padded([Task("box", make, {"name": "FrozenLake-v1"})])
    with pytest.raises(ValueError, match="all Discrete or all Box, got Box and Discrete"):
        padded([TASKS[0], Task("pendulum", make, {"name": "Pendulum-v1"})])
