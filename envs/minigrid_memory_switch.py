"""minigrid-memory-switch: MiniGrid's Memory maze, in which now the like, now the other object is the right one.

In ``quick`` and ``demo`` episodes begin in the first room, with the object in sight; in ``paper``, as in MiniGrid,
anywhere in the corridor, so that one has to go back for a look that pays nothing by itself. Recurrent PPO with an LSTM
learns one rule of ``quick`` within its block; ``paper`` asks for more than anybody was seen to learn in a block
(docs/envs/minigrid-memory-switch.md).

What shifts: the rule. ``match``: the episode pays at the object of the kind that lay in the first room, as in MiniGrid;
``other``: at the object of the other kind. When: every 250 000 env steps over all streams (``paper``: 150 000), each
stream with its next episode. What the agent is told: nothing; the mazes look the same under both rules and only rewards
tell. So it needs two memories at once: of the object, within an episode, and of the rule, across episodes.

Runs on Python MiniGrid, which resumes exactly.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from nl_agents.envs.minigrid_view import MinigridView
from nl_agents.tasks import Blocks, Preset, Suite, Task
from nl_agents.tasks.python_backend import PythonBackend

SIZES = ("S7", "S11")
TASKS = tuple(f"{size}-{rule}" for size in SIZES for rule in ("match", "other"))
SEEN = ("S7-seen-match", "S7-seen-other")  # the object is in sight at the start
EVERY, PAPER_EVERY = 250_000, 150_000  # env steps over all streams


class OtherRule(gym.Wrapper[Any, Any, Any, Any]):
    """MiniGrid's Memory env with success and failure changed over."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode and swaps the two places at which it can end."""
        begun = self.env.reset(seed=seed, options=options)
        world: Any = self.env.unwrapped
        world.success_pos, world.failure_pos = world.failure_pos, world.success_pos
        return begun


class InFirstRoom(gym.Wrapper[Any, Any, Any, Any]):
    """MiniGrid's Memory env with the agent beside the object when an episode begins, looking along the corridor."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in the first room."""
        self.env.reset(seed=seed, options=options)
        world: Any = self.env.unwrapped
        world.agent_pos, world.agent_dir = np.array((1, world.height // 2)), 0
        return world.gen_obs(), {}


def make_memory(size: str, rule: str, seen: bool = False) -> MinigridView:
    """Builds one maze: ``S7`` or ``S11``, ``match`` or ``other``, perhaps beginning in the first room."""
    import minigrid  # noqa: F401 (registers the ids)

    world = gym.make(f"MiniGrid-Memory{size}-v0", disable_env_checker=True).unwrapped
    maze = OtherRule(world) if rule == "other" else world
    return MinigridView(InFirstRoom(maze) if seen else maze)


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> PythonBackend:
    """Builds the Python envs; they are the only backend."""
    if backend not in ("auto", "python"):
        raise ValueError(f"minigrid-memory-switch runs on Python MiniGrid only, got backend={backend!r}; use 'auto'")
    made = []
    for name in tasks:
        size, *seen, rule = name.split("-")
        made.append(Task(name, make_memory, {"size": size, "rule": rule, "seen": bool(seen)}))
    return PythonBackend(made, num_envs)


def _preset(doc: str, tasks: tuple[str, ...], each: int, visits: tuple[int, ...]) -> Preset:
    return Preset(doc, each * len(visits), tasks, Blocks([(task, each) for task in visits], cycles=1))


SUITE = Suite(
    name="minigrid-memory-switch",
    doc="Memory mazes whose rule turns unannounced: memory within and across episodes together",
    tasks=(*SEEN, *TASKS),
    switch="next-reset",
    default_preset="quick",
    make_backend=make_backend,
    # For every agent: as scaled numbers key and ball look nearly the same; at .001 an LSTM learns a rule and loses it;
    # with four epochs it takes 120k to 330k env steps where with eight it takes 100k.
    recommended={"memory.grid": "one-hot", "optimizer.lr": 2e-3, "ppo.num_epochs": 8},
    presets={
        "quick": _preset("MemoryS7 from the first room, each rule twice", SEEN, EVERY, (0, 1, 0, 1)),
        "demo": _preset("a demonstration for a few minutes, too short to judge", SEEN, 15_000, (0, 1)),
        "paper": _preset("MemoryS7, then MemoryS11, each rule twice", TASKS, PAPER_EVERY, (0, 1, 0, 1, 2, 3, 2, 3)),
    },
)
