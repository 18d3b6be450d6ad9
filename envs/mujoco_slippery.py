"""mujoco-slippery: MuJoCo robots on a floor whose friction is another one every so often.

What shifts: the sliding friction of every surface, one number for all, drawn once a life and level, log-uniform in
[.02, 2]. When: after a fixed number of env steps over all streams, each stream with its next episode. What the agent is
told: nothing. Needs MuJoCo (``pip install 'nl-agents[mujoco]'``); runs on gymnasium's own envs, which are made anew at
every checkpoint.

The setting is SlipperyAnt of *loss of plasticity* (Dohare et al. 2024); ``quick`` has a tenth of its lengths.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from nl_agents.tasks import Attribute, Blocks, Preset, RandomLevel, Suite, Task
from nl_agents.tasks.backend import Backend
from nl_agents.tasks.shifted_backend import make_task_backend
from nl_agents.tasks.shown_space import finite

LEVELS = 10
ROBOTS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "ant": "Ant-v5"}
FRICTION = Attribute("friction", RandomLevel(0.02, 2.0, log=True))


def make_robot(robot: str) -> gym.Env[Any, Any]:
    """Builds gymnasium's env of one robot, its floor's friction an attribute of the env."""
    spec = gym.spec(ROBOTS[robot])
    assert isinstance(spec.entry_point, str) and spec.max_episode_steps is not None
    world = _slippery(spec.entry_point)(**spec.kwargs)
    world.observation_space = finite(world.observation_space)
    return gym.wrappers.TimeLimit(world, spec.max_episode_steps)


@functools.cache
def _slippery(entry_point: str) -> Any:
    """Gymnasium's class with one number more: ``friction``, the sliding friction of all surfaces."""
    kind: Any = load_env_creator(entry_point)

    def get(world: Any) -> float:
        return float(world.model.geom_friction[0, 0])

    def set_(world: Any, value: float) -> None:
        world.model.geom_friction[:, 0] = value

    return type(f"Slippery{kind.__name__}", (kind,), {"friction": property(get, set_)})


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> Backend:
    """Builds gymnasium's envs with a friction a task; they are the only backend."""
    if backend not in ("auto", "python"):
        raise ValueError(f"mujoco-slippery runs on gymnasium's envs only, got backend={backend!r}; use 'auto'")
    SUITE.require()
    made = [Task(name, make_robot, {"robot": name.partition("-")[0]}, (FRICTION,)) for name in tasks]
    return make_task_backend(made, num_envs)


def _preset(doc: str, robot: str, each: int, count: int = LEVELS) -> Preset:
    tasks = tuple(f"{robot}-{level}" for level in range(count))
    return Preset(doc, each * count, tasks, Blocks([(task, each) for task in range(count)], cycles=1))


SUITE = Suite(
    name="mujoco-slippery",
    doc="MuJoCo robots whose floor changes its friction: long continuous control",
    tasks=tuple(f"{robot}-{level}" for robot in ROBOTS for level in range(LEVELS)),
    switch="next-reset",
    default_preset="quick",
    make_backend=make_backend,
    needs="mujoco",
    presets={
        "quick": _preset("Hopper, ten floors", "hopper", 200_000),
        "halfcheetah": _preset("HalfCheetah, ten floors", "halfcheetah", 200_000),
        "ant": _preset("Ant, ten floors", "ant", 200_000),
        "paper": _preset("Ant, ten floors of the source's length", "ant", 2_000_000),
        "demo": _preset("a demonstration for a few minutes, too short to judge", "hopper", 40_000, 2),
    },
)
