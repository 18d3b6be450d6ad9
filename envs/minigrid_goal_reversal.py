"""minigrid-goal-reversal: two goals in sight, one pays; every now and then it is the other one.

What shifts: which goal pays. Everything else, and everything seen at the start, is the same. When: after every 500
finished episodes over all streams, each stream with its next episode (``clocked``: every 25 000 env steps). What the
agent is told: nothing; only rewards tell. What was learnt is not just useless after a swap but wrong, and an agent
that no longer explores never finds out.

The schedule and the size of ``paper`` are those of PT-DQN's grid (Anand & Precup 2023); the room is our own.
"""

from __future__ import annotations

from typing import Any

from nl_agents.tasks import Blocks, Cyclic, PerEpisode, Preset, Suite, Task
from nl_agents.tasks.python_backend import PythonBackend

_WIDE: dict[str, Any] = {"width": 15, "height": 11, "view": 5, "pay": 5.0}
TASKS: dict[str, dict[str, Any]] = {
    "left-pays": {"paying": 0},
    "right-pays": {"paying": 1},
    "wide-left-pays": {"paying": 0, **_WIDE},
    "wide-right-pays": {"paying": 1, **_WIDE},
}
ROOM, WIDE_ROOM = ("left-pays", "right-pays"), ("wide-left-pays", "wide-right-pays")
EPISODES = 500  # between two swaps


def _make(**options: Any) -> Any:
    from nl_agents.envs.two_goals_room import make_two_goals

    return make_two_goals(**options)


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> PythonBackend:
    """Builds the Python envs; they are the only backend."""
    if backend not in ("auto", "python"):
        raise ValueError(f"minigrid-goal-reversal runs on Python MiniGrid only, got backend={backend!r}; use 'auto'")
    return PythonBackend([Task(name, _make, TASKS[name]) for name in tasks], num_envs)


SUITE = Suite(
    name="minigrid-goal-reversal",
    doc="two goals, of which the other one pays after every 500 episodes: unlearning what was right",
    tasks=tuple(TASKS),
    switch="next-reset",
    default_preset="quick",
    make_backend=make_backend,
    presets={
        "quick": Preset("a swap every 500 episodes", 500_000, ROOM, PerEpisode(Cyclic(EPISODES))),
        "clocked": Preset("a swap every 25k env steps, the same for every agent", 500_000, ROOM, Cyclic(25_000)),
        "demo": Preset("a demonstration for a few minutes, too short to judge", 60_000, ROOM, Cyclic(15_000)),
        "paper": Preset(
            "the source's size: one stream, a wide room, ten blocks of 500 episodes",
            10 * EPISODES * 100,
            WIDE_ROOM,
            PerEpisode(Blocks([(0, EPISODES), (1, EPISODES)], cycles=5)),
            num_envs=1,
        ),
    },
    recommended={"ppo.entropy": 0.1},  # for every agent: with .01 one expert of three does not even find one goal
)
