"""minigrid-memory: MiniGrid's Memory rooms, small to large: which object lay in the first room?

What shifts: the size of the maze, from MiniGrid's registered ids. When: after a fixed number of env steps over all
streams, each stream with its next episode. What the agent is told: nothing. It sees image (7 x 7 x 3) and direction;
``mission`` is dropped (it is the same sentence everywhere). All 7 actions. A key or a ball lies in the first room; the
agent starts anywhere between it and the corridor's end, facing away from it, and ends the episode at one of two
objects: reward 1 - 0.9 t / t_max where it is the same, else 0. So it has to go back and look, which nothing tells it.

Backends: EnvPool where installed (re-created at every checkpoint), Python MiniGrid else (resumes exactly).
"""

from __future__ import annotations

from nl_agents.envs.minigrid_backend import minigrid_backend
from nl_agents.tasks import Backend, Blocks, Preset, Suite

# Longest episode of each task in env steps, MiniGrid's own defaults.
TASKS = {
    "MemoryS7": 245,
    "MemoryS9": 405,
    "MemoryS11": 605,
    "MemoryS13": 845,
    "MemoryS13Random": 845,
    "MemoryS17Random": 1445,
}


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> Backend:
    """Builds the physics (``minigrid_backend``)."""
    return minigrid_backend("minigrid-memory", TASKS, tasks, num_envs, backend)


SUITE = Suite(
    name="minigrid-memory",
    doc="MiniGrid's Memory rooms, small to large: one object must be kept in mind along a corridor",
    tasks=tuple(TASKS),
    switch="next-reset",
    default_preset="quick",
    make_backend=make_backend,
    # For every agent: as scaled numbers a key and a ball look nearly the same; with four epochs a recurrent PPO stands
    # for most of 600k steps at .5 (either object) or .6 (right where it happens to see the first room).
    recommended={"memory.grid": "one-hot", "optimizer.lr": 2e-3, "ppo.num_epochs": 8},
    presets={
        "quick": Preset(
            "the two smallest mazes",
            1_200_000,
            ("MemoryS7", "MemoryS9"),
            Blocks([(0, 600_000), (1, 600_000)], cycles=1),
        ),
        "demo": Preset(
            "a demonstration for a few minutes, too short to judge",
            30_000,
            ("MemoryS7", "MemoryS9"),
            Blocks([(0, 15_000), (1, 15_000)], cycles=1),
        ),
        "long": Preset(
            "four sizes",
            2_000_000,
            ("MemoryS7", "MemoryS9", "MemoryS11", "MemoryS13"),
            Blocks([(task, 500_000) for task in range(4)], cycles=1),
        ),
    },
)
