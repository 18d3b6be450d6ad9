"""Clones hold what the life's world is, and leave the life alone."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from nl_agents import envs
from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.tasks import (
    Attribute,
    Constant,
    Cyclic,
    FromUpdates,
    Linear,
    RandomLevel,
    Task,
    TaskSequence,
    evaluation_clone,
    single_task,
)
from nl_agents.tasks.python_backend import PythonBackend


def advance(sequence: TaskSequence, steps: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [sequence.step(random.integers(0, 2, sequence.num_envs))[0] for _ in range(steps)]


def constants(sequence: TaskSequence) -> dict[str, np.ndarray]:
    """What the attributes of every stream are now."""
    backend: Any = sequence.backend
    backend._set_attributes()
    return dict(backend._in_force)


def test_a_single_task_shows_the_offset_that_the_life_drew() -> None:
    life = envs.make_sequence("control-obs-shift:demo", num_envs=4, seed=7)
    life.reset(seed=11)
    alone = single_task(life, "cartpole-2", num_envs=64, seed=1)
    other = single_task(envs.make_sequence("control-obs-shift:demo", num_envs=4, seed=8), "cartpole-2", num_envs=64)
    centre = alone.reset()[0].mean(0)
    again = single_task(life, "cartpole-2", num_envs=64, seed=2).reset()[0].mean(0)
    assert np.allclose(centre, again, atol=0.05) and not np.allclose(centre, other.reset()[0].mean(0), atol=0.05)
    while life.task_log[-1][1] != "cartpole-2":
        advance(life, 500)
    advance(life, 600)
    assert abs(np.mean([seen[:, 3] for seen in advance(life, 400)]) - centre[3]) < 0.5
    assert alone.task_names == ["cartpole-2"]


def test_evaluation_stands_still_and_leaves_the_life_alone() -> None:
    """The physics of the clone are those of the moment, however long it is stepped."""
    lives = [envs.make_sequence("control-drift", num_envs=4, seed=3) for _ in range(2)]
    for life in lives:
        life.reset()
        advance(life, 3_000)
    clone = evaluation_clone(lives[0], num_envs=2, seed=5)
    assert clone.task_names == ["cartpole-sine"]
    clone.reset()
    before = constants(clone)
    now = constants(lives[0])
    assert set(before) == set(now) and all(before[name][0] == now[name][0] for name in now)
    advance(clone, 2_000)
    assert all(np.array_equal(before[name], values) for name, values in constants(clone).items())
    advance(lives[0], 1)
    advance(lives[1], 1)
    assert np.array_equal(advance(lives[0], 5)[-1], advance(lives[1], 5)[-1])


class Windy(gym.Env[Any, Any]):
    """Shows its wind; episodes of two steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.wind, self.steps = 0.0, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.array([self.wind], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return np.array([self.wind], np.float32), 0.0, self.steps == 2, False, {}


@pytest.mark.filterwarnings("ignore:a task lasts about")
def test_a_drift_over_episodes_stands_still_in_a_clone_and_in_the_clone_of_a_clone() -> None:
    shift = Attribute("wind", Linear(0.0, 100.0, steps=100), time="episodes")
    life = envs.make_sequence([Task("windy", Windy, shifts=(shift,))], schedule=Constant(), num_envs=2)
    life.reset()
    advance(life, 3 * 7 - 1)  # three steps an episode, its beginning included
    assert life.step(np.zeros(2, int))[0].tolist() == [[7.0], [7.0]]
    clone = evaluation_clone(life, num_envs=3)
    again = evaluation_clone(clone)
    for one in (clone, again):
        one.reset()
        assert {float(wind) for seen in advance(one, 12) for wind in seen.ravel()} == {7.0}
    assert single_task(life, "windy").reset()[0].ravel().tolist() == [0.0, 0.0]


def test_own_tasks_can_be_cloned_and_bad_names_are_told() -> None:
    tasks = [Task(name, gym.make, {"id": "CartPole-v1", "disable_env_checker": True}) for name in ("one", "two")]
    life = envs.make_sequence(tasks, schedule=Cyclic(every=4_000), num_envs=2)
    life.reset()
    assert single_task(life, "two").num_envs == 2
    with pytest.raises(UnknownNameError, match="did you mean 'two'"):
        single_task(life, "twoo")
    by_hand = TaskSequence(PythonBackend(tasks[:1], 1), ("one",), Constant())
    with pytest.raises(ConfigError, match="built around a backend by hand: set its rebuild"):
        evaluation_clone(by_hand)


def test_update_functions_become_drifts() -> None:
    def decay(value: float, tick: int) -> tuple[float, bool, float]:
        return value * 0.5, True, value * 0.5

    path = FromUpdates(decay, start=8.0, every=10).path(0)
    assert path(np.array([0.0, 9.0, 10.0, 25.0, 39.0])).tolist() == [8.0, 8.0, 4.0, 2.0, 1.0]
    counted = FromUpdates(lambda value, tick: value + tick, start=0.0).path(0)
    assert counted(np.array([3.0])).tolist() == [6.0] and counted(np.array([1.0])).tolist() == [1.0]
    gravity = Attribute("gravity", FromUpdates(decay, start=9.8, every=500))
    task = Task("falling", gym.make, {"id": "CartPole-v1", "disable_env_checker": True}, (gravity,))
    life = envs.make_sequence([task], schedule=Constant(), num_envs=2)
    life.reset()
    advance(life, 600)  # 1,200 env steps over both streams: two ticks
    backend: Any = life.backend
    backend._set_attributes()
    assert backend._in_force["gravity"].tolist() == pytest.approx([9.8 / 4] * 2)
    with pytest.raises(TypeError, match=r"FromUpdates\(update=...\) expected a function of \(value, tick\), got 3"):
        FromUpdates(3, start=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every"):
        FromUpdates(decay, start=1.0, every=0)


def test_a_random_level_is_one_value_a_life() -> None:
    values = [float(RandomLevel(0.02, 2.0, log=True).path(seed)(np.array([0.0, 1e6]))[1]) for seed in range(200)]
    assert 0.02 <= min(values) < 0.05 and 1.0 < max(values) <= 2.0
    assert np.mean(np.log(values) < np.log(0.2)) == pytest.approx(0.5, abs=0.12)
    with pytest.raises(ValueError, match="low < high, and low > 0 with log=True"):
        RandomLevel(0.0, 1.0, log=True)
