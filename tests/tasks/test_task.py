"""Suites, presets, and the life that holds one task only."""

from __future__ import annotations

import pytest

from nl_agents import envs
from nl_agents.errors import UnknownNameError
from nl_agents.tasks import Cyclic, Preset, RewardSign, Suite, Task
from nl_agents.tasks.python_backend import PythonBackend
from nl_agents.tasks.testing import CountingEnv

SUITE = Suite(
    name="counting",
    doc="counts",
    tasks=("a", "b"),
    switch="next-reset",
    presets={"quick": Preset("short", 100, ("a", "b"), Cyclic(20), num_envs=3)},
    default_preset="quick",
    make_backend=lambda names, num_envs, backend: PythonBackend([Task(name, CountingEnv) for name in names], num_envs),
)


def test_a_preset_fills_in_what_is_not_said() -> None:
    sequence = SUITE.sequence(seed=4)
    assert (sequence.num_envs, sequence.task_names, sequence.schedule) == (3, ["a", "b"], Cyclic(20))
    assert SUITE.sequence(num_envs=1, schedule=Cyclic(7)).schedule == Cyclic(7)


def test_one_task_alone() -> None:
    sequence = SUITE.task_env("b", num_envs=2, seed=3)
    sequence.reset()
    assert sequence.task_log == [(0, "b")] and sequence.task_names == ["b"]


def test_what_is_no_task_or_schedule_is_refused_with_the_way_out() -> None:
    with pytest.raises(TypeError, match=r'Task\(.a., gymnasium.make, {"id": .CartPole-v1.}\)'):
        Task("a", "CartPole-v1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a tuple of shifts"):
        Task("a", shifts=RewardSign())  # type: ignore[arg-type]
    assert Task("a", shifts=[RewardSign()]).shifts == (RewardSign(),)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of Task, got 'CartPole-v1'"):
        envs.make_sequence(["CartPole-v1"], schedule=Cyclic(9))  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"such as Cyclic\(every=25_000\), got 25000"):
        envs.make_sequence("cartpole-flip", schedule=25_000)  # type: ignore[arg-type]


def test_unknown_names_list_the_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"preset of counting 'quik'.*'quick'"):
        SUITE.preset("quik")
    with pytest.raises(UnknownNameError, match="unknown task of counting 'c'"):
        SUITE.task_env("c")
