"""minigrid-memory: MiniGrid's own rooms, under their own limits."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from nl_agents import envs
from nl_agents.envs import minigrid_memory

KEY, BALL = 5, 6  # MiniGrid's object codes


@pytest.mark.parametrize("name", minigrid_memory.TASKS)
def test_episode_limits_are_minigrid_s_own(name: str) -> None:
    import minigrid  # noqa: F401 (registers the ids)

    assert gym.make(f"MiniGrid-{name}-v0").unwrapped.max_steps == minigrid_memory.TASKS[name]


def test_what_is_seen_names_no_task() -> None:
    sequence = envs.SUITES["minigrid-memory"].task_env("MemoryS7", num_envs=8)
    seen, info = sequence.reset(seed=0)
    assert set(seen) == {"image", "direction"} and info == {}
    objects = set(np.unique(seen["image"][..., 0]).tolist())
    assert {KEY, BALL} <= objects


def test_there_is_one_backend() -> None:
    with pytest.raises(ValueError, match="Python MiniGrid only, got backend='envpool'; use 'auto'"):
        envs.make_sequence("minigrid-memory", backend="envpool")
