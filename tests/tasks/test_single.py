"""One stream as a gymnasium.Env."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from nl_agents.tasks import Cyclic, SequenceEnv, Task, TaskSequence
from nl_agents.tasks.python_backend import PythonBackend
from nl_agents.tasks.testing import CountingEnv

TASKS = [Task("left", CountingEnv), Task("right", CountingEnv, {"reward": 1})]


def build(num_envs: int = 1, **options: str) -> SequenceEnv:
    return SequenceEnv(TaskSequence(PythonBackend(TASKS, num_envs), ["left", "right"], Cyclic(6), **options))


def test_life_goes_on_over_resets() -> None:
    env = build(info="task-id")
    seen, info = env.reset(seed=1)
    assert seen[:2].tolist() == [0, 0] and info == {"task_changed": False, "task_id": 0}
    returns = []
    for _ in range(3):
        total, ended = 0.0, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(0)
            total, ended = total + reward, terminated or truncated
        returns.append(round(total, 6))
        _, info = env.reset()
    assert returns == [0.006, 0.015, 3.006]  # 3 steps, 5 steps, then the other task's first 3
    assert info["task_id"] == 1
    assert env.task_log == [(0, "left"), (6, "right")]
    env.reset(seed=1)
    assert env.task_log == [(0, "left")]
    env.close()


def test_stepping_past_the_end_is_refused() -> None:
    env = build()
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
    env.reset()
    for _ in range(3):
        env.step(np.int64(1))
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)


def test_only_one_stream_fits() -> None:
    with pytest.raises(ValueError, match="got a sequence of 2; build num_envs=1"):
        build(num_envs=2)
