"""minigrid-recurring: a row of small MiniGrid tasks that comes back, so that having kept the old ones pays.

What shifts: the whole task, from MiniGrid's registered ids. When: after a fixed number of env steps over all streams,
each stream with its next episode; nothing is cut short. What the agent is told: nothing. It sees image (7 x 7 x 3) and
direction; ``mission`` is dropped because it names the task. All 7 actions, reward 1 - 0.9 t / t_max at the goal.

Backends: EnvPool where installed (an order of magnitude faster; re-created at every checkpoint), Python MiniGrid else
(resumes exactly). Both give the same transitions; their random layouts come from different generators.
"""

from __future__ import annotations

from nl_agents.envs.minigrid_backend import minigrid_backend
from nl_agents.tasks import Backend, Blocks, Preset, Suite

# Longest episode of each task in env steps, MiniGrid's own defaults.
TASKS = {"Empty-Random-6x6": 144, "DoorKey-5x5": 250, "LavaGapS5": 100, "SimpleCrossingS9N1": 324}
QUICK = ("Empty-Random-6x6", "DoorKey-5x5", "LavaGapS5")


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> Backend:
    """Builds the physics (``minigrid_backend``)."""
    return minigrid_backend("minigrid-recurring", TASKS, tasks, num_envs, backend)


SUITE = Suite(
    name="minigrid-recurring",
    doc="small MiniGrid tasks that come back, unannounced: what was learnt must be kept",
    tasks=tuple(TASKS),
    switch="next-reset",
    default_preset="quick",
    make_backend=make_backend,
    recommended={"ppo.entropy": 0.03},  # with 0.01 no agent leaves Empty-Random for DoorKey
    presets={
        "quick": Preset(
            "the published size: three tasks, twice",
            600_000,
            QUICK,
            Blocks([(task, 100_000) for task in range(3)], cycles=2),
        ),
        "demo": Preset(
            "a demonstration for a few minutes, too short to judge",
            90_000,
            QUICK,
            Blocks([(task, 15_000) for task in range(3)], cycles=2),
        ),
        "long": Preset(
            "four tasks, three times",
            1_350_000,
            (*QUICK, "SimpleCrossingS9N1"),
            Blocks([(0, 100_000), (1, 100_000), (2, 100_000), (3, 150_000)], cycles=3),
        ),
    },
)
