"""Your own environments as a life: tasks, a schedule, and what the agent is told about it.

python examples/02_task_sequence.py
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from nl_agents import envs
from nl_agents.tasks import Cyclic, Task


class Corridor(gym.Env[Any, Any]):
    """Walk five steps to the exit, which lies left or right; which of the two is the task."""

    observation_space = gym.spaces.Box(-5.0, 5.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, exit_at: int) -> None:
        self.exit_at = exit_at

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begins in the middle."""
        super().reset(seed=seed)
        self.place, self.time = 0, 0
        return np.array([0.0], np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Action 1 goes right, 0 left."""
        self.place, self.time = self.place + 2 * int(action) - 1, self.time + 1
        terminated = abs(self.place) == 5
        return np.array([self.place], np.float32), float(self.place == self.exit_at), terminated, self.time == 40, {}


def main(steps: int = 6_000) -> list[tuple[int, str]]:
    """Walks at random through a life; returns its scheduled switches."""
    tasks = [Task("left", Corridor, {"exit_at": -5}), Task("right", Corridor, {"exit_at": 5})]
    env = envs.make_sequence(tasks, schedule=Cyclic(every=2_000), num_envs=8, seed=0, info="hidden")
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    while env.clock < steps:  # valid env steps over all streams: the steps that autoreset adds do not count
        _, _, _, _, info = env.step(env.action_space.sample())
    assert info == {}, "hidden: neither info nor observation says which task runs"
    print("scheduled switches:     ", env.task_log)
    print("first to reach a stream:", env.effective_log[8:11], "(clock, stream, task)")
    return env.task_log


if __name__ == "__main__":
    main()
