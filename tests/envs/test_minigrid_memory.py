"""minigrid-memory: MiniGrid's own rooms, under their own limits."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from nl_agents import envs
from nl_agents.envs import minigrid_memory
from nl_agents.tasks.envpool_backend import EnvPoolBackend, envpool_is_installed
from nl_agents.tasks.python_backend import PythonBackend

KEY, BALL = 5, 6  # MiniGrid's object codes


@pytest.mark.parametrize("name", minigrid_memory.TASKS)
def test_episode_limits_are_minigrid_s_own(name: str) -> None:
    import minigrid  # noqa: F401 (registers the ids)

    assert gym.make(f"MiniGrid-{name}-v0").unwrapped.max_steps == minigrid_memory.TASKS[name]
    if envpool_is_installed():
        import envpool

        pool = envpool.make_gymnasium(f"MiniGrid-{name}-v0", num_envs=1)
        assert pool.config["max_episode_steps"] == minigrid_memory.TASKS[name]
        pool.close()


def test_what_is_seen_names_no_task() -> None:
    sequence = envs.SUITES["minigrid-memory"].task_env("MemoryS7", num_envs=8)
    seen, info = sequence.reset(seed=0)
    assert set(seen) == {"image", "direction"} and info == {}
    objects = set(np.unique(seen["image"][..., 0]).tolist())
    assert {KEY, BALL} <= objects


def test_backends_are_chosen_by_name() -> None:
    assert isinstance(minigrid_memory.make_backend(("MemoryS7",), 2, "python"), PythonBackend)
    chosen = minigrid_memory.make_backend(("MemoryS7",), 2, "auto")
    assert isinstance(chosen, EnvPoolBackend if envpool_is_installed() else PythonBackend)
    with pytest.raises(ValueError, match="minigrid-memory must be 'auto', 'envpool' or 'python', got 'gpu'"):
        envs.make_sequence("minigrid-memory", backend="gpu")


def test_the_suite_recommends_codes_that_tell_a_key_from_a_ball() -> None:
    for name in ("minigrid-memory", "minigrid-memory-switch"):
        assert envs.make_sequence(name, num_envs=2, backend="python").recommended["memory.grid"] == "one-hot"
