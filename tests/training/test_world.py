"""A life keeps its environment, whatever is wrapped around it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics

from nl_agents import agents, envs
from nl_agents.envs import AugmentObservation
from nl_agents.errors import StateMismatchError
from nl_agents.tasks import Cyclic, Task
from nl_agents.training import Agent, resume
from nl_agents.training.world import World
from tests.training.small import small_config
from tests.training.test_resume import assert_same_life

pytestmark = pytest.mark.filterwarnings("ignore:a task lasts about")

WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "bare": lambda env: env,
    "last action and reward": AugmentObservation,
    "running mean": NormalizeObservation,
    "two": lambda env: RecordEpisodeStatistics(AugmentObservation(env)),
}


def build(wrap: Callable[[Any], Any], **options: Any) -> Any:
    return wrap(envs.make_sequence("cartpole-flip", num_envs=4, seed=3, schedule=Cyclic(300), **options))


def live(folder: Path, wrap: Callable[[Any], Any], steps: int = 1000, **env: Any) -> Agent:
    agent = agents.make("ppo", build(wrap, **env), seed=5, device="cpu", config=small_config("ppo"))
    return agent.learn(steps, run_dir=folder)


@pytest.mark.parametrize("name", WRAPPERS)
def test_tasks_follow_one_another_in_a_wrapped_sequence(tmp_path: Path, name: str) -> None:
    """Checkpoints every 150 env steps do not begin the life anew: it switches every 300, and says so."""
    agent = live(tmp_path / "run", WRAPPERS[name])
    assert agent.env is not None
    sequence: Any = agent.env.unwrapped
    assert [step for step, _ in sequence.task_log] == [0, 300, 600, 900]
    assert (tmp_path / "run" / "task_log.csv").read_text().count("\n") == 5
    assert {"standard", "flipped"} == {
        line.split(",")[2] for line in (tmp_path / "run" / "episodes.csv").read_text().splitlines()[1:]
    }


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_life_that_was_cut_goes_on_to_the_same_end(tmp_path: Path, name: str) -> None:
    whole = live(tmp_path / "whole", WRAPPERS[name])
    live(tmp_path / "cut", WRAPPERS[name], steps=1000)
    kept = sorted((tmp_path / "cut" / "checkpoints").iterdir())
    assert len(kept) > 1
    shutil.rmtree(kept[-1]) if kept[-1].is_dir() else kept[-1].unlink()  # as if killed before it was written
    again = resume(tmp_path / "cut", env=build(WRAPPERS[name]))
    assert_same_life(again, whole, tmp_path / "cut", tmp_path / "whole")


def test_running_means_of_a_wrapper_are_kept_in_place() -> None:
    one, other = NormalizeObservation(build(WRAPPERS["bare"])), NormalizeObservation(build(WRAPPERS["bare"]))
    world, restored = World(one), World(other)
    assert world.is_wrapped and not world.is_whole
    one.reset(seed=1)
    for _ in range(20):
        one.step(one.action_space.sample())
    kept = world.save(1, 0, lambda seed=None: one.reset(seed=seed))
    restored.restore(kept, 1, 0)
    np.testing.assert_array_equal(one.obs_rms.mean, other.obs_rms.mean)
    assert one.obs_rms.count == other.obs_rms.count > 80
    for _ in range(30):
        actions = one.action_space.sample()
        for mine, theirs in zip(one.step(actions)[:4], other.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_sequence_behind_other_wrappers_is_refused() -> None:
    one = NormalizeObservation(build(WRAPPERS["bare"]))
    kept = World(one).save(1, 0, lambda seed=None: one.reset(seed=seed))
    with pytest.raises(StateMismatchError, match="was behind 1 wrappers, this one is behind 2"):
        World(RecordEpisodeStatistics(NormalizeObservation(build(WRAPPERS["bare"])))).restore(kept, 1, 0)


class Short(gym.Env[Any, Any]):
    """Episodes of five steps; a Python env whose state nobody can keep."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = (i for i in range(5))  # a generator cannot be copied
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(2, np.float32), 0.0, next(self.steps) == 3, False, {}


def test_a_told_agent_hears_a_switch_that_a_checkpoint_brings(tmp_path: Path) -> None:
    """Streams that cannot be kept begin anew at checkpoints, and may take the next task there."""
    tasks = [Task("one", Short), Task("two", Short)]
    world = envs.make_sequence(tasks, schedule=Cyclic(150), num_envs=4, seed=1, info="notified")
    assert not world.exact_state
    agent = agents.make("reset-at-switch", world, seed=2, device="cpu", config=small_config("reset-at-switch"))
    agent.learn(1400, run_dir=tmp_path / "run")
    switches = len(world.task_log) - 1
    assert switches >= 8 and agent.lives == switches


def test_upkeep_that_meets_no_switch_leaves_the_fresh_start(tmp_path: Path) -> None:
    config = small_config("reset-at-switch")
    config.upkeep.l2_init = 1e-3
    world = envs.make_sequence("cartpole-flip", num_envs=4, seed=3, schedule=Cyclic(300), info="notified")
    agent = agents.make("reset-at-switch", world, seed=2, device="cpu", config=config)
    agent.learn(1000)
    assert agent.lives == 3


def test_what_a_suite_recommends_is_found_behind_wrappers() -> None:
    bare = envs.make_sequence("minigrid-memory:demo", num_envs=2, backend="python")
    assert agents.make("ppo", RecordEpisodeStatistics(bare), device="cpu").config.memory.grid == "one-hot"
    flat = gym.wrappers.vector.FlattenObservation(bare)
    assert agents.make("ppo", flat, device="cpu").config.memory.grid == "scaled"
