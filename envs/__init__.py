"""The ready task sequences, and the functions that build them or yours.

Examples:
    env = make_sequence("cartpole-flip", num_envs=16, seed=0)  # a gymnasium.vector.VectorEnv
    env = make_sequence([Task("left", make_left), Task("right", make_right)], schedule=Cyclic(every=25_000))
    env = gymnasium.make("NL/CartPoleFlip-v0")  # one stream, a gymnasium.Env
    env = to_sb3(make_sequence("cartpole-flip"))  # for Stable-Baselines3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from nl_agents.envs import (
    cartpole_flip,
    control_drift,
    control_obs_shift,
    minigrid_goal_reversal,
    minigrid_memory,
    minigrid_memory_switch,
    minigrid_recurring,
    mujoco_slippery,
    needle,
    permute_long,
)
from nl_agents.envs.popgym_tasks import make_popgym
from nl_agents.envs.sb3_view import to_sb3
from nl_agents.errors import UnknownNameError
from nl_agents.tasks import AugmentObservation, Preset, Schedule, SequenceEnv, Suite, Task, TaskSequence
from nl_agents.tasks.sequence import Autoreset, InfoLevel
from nl_agents.tasks.shifted_backend import make_task_backend

__all__ = ["SUITES", "AugmentObservation", "make", "make_popgym", "make_sequence", "preset", "to_sb3"]

_MODULES = (
    cartpole_flip,
    minigrid_recurring,
    minigrid_memory,
    needle,
    control_obs_shift,
    permute_long,
    control_drift,
    minigrid_goal_reversal,
    minigrid_memory_switch,
    mujoco_slippery,
)
SUITES: dict[str, Suite] = {module.SUITE.name: module.SUITE for module in _MODULES}
GYM_IDS = {
    "NL/CartPoleFlip-v0": "cartpole-flip",
    "NL/MinigridRecurring-v0": "minigrid-recurring",
    "NL/MinigridMemory-v0": "minigrid-memory",
    "NL/Needle-v0": "needle",
    "NL/ControlObsShift-v0": "control-obs-shift",
    "NL/PermuteLong-v0": "permute-long",
    "NL/ControlDrift-v0": "control-drift",
    "NL/MinigridGoalReversal-v0": "minigrid-goal-reversal",
    "NL/MinigridMemorySwitch-v0": "minigrid-memory-switch",
    "NL/MujocoSlippery-v0": "mujoco-slippery",
}


def preset(name: str) -> tuple[Suite, Preset]:
    """Resolves ``suite`` or ``suite:preset``.

    Raises:
        UnknownNameError: no such suite, or no such preset of it.
    """
    suite_name, _, size = name.partition(":")
    if suite_name not in SUITES:
        raise UnknownNameError("sequence", suite_name, SUITES)
    suite = SUITES[suite_name]
    return suite, suite.preset(size or None)


def make_sequence(
    name_or_tasks: str | Sequence[Task],
    *,
    num_envs: int | None = None,
    seed: int = 0,
    schedule: Schedule | None = None,
    info: InfoLevel = "hidden",
    backend: str = "auto",
    autoreset: Autoreset = "next-step",
    curriculum_seed: int | None = None,
) -> TaskSequence:
    """Builds a life: B streams, one clock, tasks that change.

    Args:
        name_or_tasks: ``"suite"``, ``"suite:preset"``, or your own tasks, each with a ``make``.
        num_envs: streams; None takes the preset's, or 16.
        seed: seed of the life that the first ``reset()`` starts.
        schedule: when the task changes; None takes the preset's. Your own tasks need one.
        info: what the agent is told: ``hidden``, ``notified`` or ``task-id``.
        backend: ``auto``, ``python`` or ``envpool`` where the suite has it; your own tasks run on ``python``.
        autoreset: ``next-step`` or ``same-step``, as gymnasium defines them.
        curriculum_seed: seed of the schedule and of what shifts draw, the same for every life; None: each its own.

    Raises:
        UnknownNameError: no such suite or preset.
        ValueError: tasks without a schedule, of different spaces, or twice of one name; fewer than one stream.
        TypeError: a task that is no ``Task``, a schedule that is none.
    """
    if num_envs is not None and num_envs < 1:
        raise ValueError(f"num_envs must be an int >= 1, got {num_envs}")
    life: dict[str, Any] = {"seed": seed, "info": info, "autoreset": autoreset, "curriculum_seed": curriculum_seed}
    if isinstance(name_or_tasks, str):
        suite, _ = preset(name_or_tasks)
        size = name_or_tasks.partition(":")[2] or None
        return suite.sequence(size, num_envs=num_envs, schedule=schedule, backend=backend, **life)
    strangers = [task for task in name_or_tasks if not isinstance(task, Task)]
    if strangers:
        raise TypeError(f"expected the name of a suite or a list of Task, got {strangers[0]!r} in it")
    names = [task.name for task in name_or_tasks]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected at least one task and every name once, got {names}")
    if schedule is None:
        raise ValueError("your own tasks need a schedule: make_sequence(tasks, schedule=Cyclic(every=25_000))")
    if backend not in ("auto", "python"):
        raise ValueError(f"your own tasks run on backend='python', got {backend!r}")
    own = TaskSequence(make_task_backend(name_or_tasks, num_envs or 16), names, schedule, **life)
    own.rebuild = lambda chosen, streams: make_task_backend([t for t in name_or_tasks if t.name in chosen], streams)
    return own


def make(name_or_tasks: str | Sequence[Task], **options: Any) -> SequenceEnv:
    """Builds one stream as a ``gymnasium.Env`` with a clock of its own.

    Args:
        name_or_tasks: as in ``make_sequence``.
        options: ``seed``, ``schedule``, ``info``, ``backend`` and ``curriculum_seed`` of ``make_sequence``.
    """
    return SequenceEnv(make_sequence(name_or_tasks, num_envs=1, **options))


for _id, _name in GYM_IDS.items():
    if _id not in gym.registry:
        gym.register(
            _id,
            entry_point="nl_agents.envs:make",
            vector_entry_point="nl_agents.envs:make_sequence",
            kwargs={"name_or_tasks": _name},
        )
