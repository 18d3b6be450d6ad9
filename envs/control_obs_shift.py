"""control-obs-shift: one problem, seen with another constant offset on every level.

What shifts: to everything seen, numbers drawn from N(0, 2), once for each entry and level, are added; level 0 is plain.
When: after a fixed number of env steps over all streams (``exact``: of episodes), each stream with its next episode.
What the agent is told: nothing. Physics and rewards never change, so every level is as easy as the first for a fresh
agent: what is lost from level to level is plasticity. The setting is that of TRAC (Muppidi et al. 2024).
"""

from __future__ import annotations

from nl_agents.envs.acrobot_physics import AcrobotBackend
from nl_agents.envs.cartpole_physics import CartPoleBackend, Physics
from nl_agents.tasks import (
    Backend,
    Blocks,
    PerEpisode,
    Preset,
    RandomOffset,
    Schedule,
    ShiftedBackend,
    ShiftedTask,
    Suite,
)

LEVELS = 10
OFFSET = 2.0  # standard deviation
EXACT_LIMIT = 400  # env steps of an episode in TRAC's notebook
EXACT_EPISODES = 400  # of a level there: 200 iterations of 2 episodes
_ENVS = ("cartpole", "acrobot", "cartpole400", "acrobot400")
TASKS = tuple(f"{env}-{level}" for env in _ENVS for level in range(LEVELS))


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> ShiftedBackend:
    """Builds the native physics with the offsets around it; it is the only backend."""
    if backend not in ("auto", "native"):
        raise ValueError(f"control-obs-shift runs on its native backend only, got backend={backend!r}; use 'auto'")
    (name,) = {task.rpartition("-")[0] for task in tasks}
    limit = {"episode_limit": EXACT_LIMIT} if name.endswith("400") else {}
    physics: Backend
    if name.startswith("cartpole"):
        physics = CartPoleBackend((Physics(),), num_envs, **limit)
    else:
        physics = AcrobotBackend(num_envs, **limit)
    return ShiftedBackend(physics, [_level(task) for task in tasks])


def _level(task: str) -> ShiftedTask:
    shift = RandomOffset(0.0 if task.endswith("-0") else OFFSET)
    return ShiftedTask(task, 0, (shift,))


def _preset(doc: str, env: str, each: int, levels: int = LEVELS) -> Preset:
    schedule = Blocks([(level, each) for level in range(levels)], cycles=1)
    return Preset(doc, each * levels, tuple(f"{env}-{level}" for level in range(levels)), schedule)


def _exact(env: str) -> Preset:
    schedule: Schedule = PerEpisode(Blocks([(level, EXACT_EPISODES) for level in range(LEVELS)], cycles=1))
    tasks = tuple(f"{env}400-{level}" for level in range(LEVELS))
    doc = f"the setting of TRAC's notebook on {env}: 400 episodes of at most 400 steps a level, one stream"
    total = LEVELS * EXACT_EPISODES
    return Preset(doc, total * EXACT_LIMIT, tasks, schedule, num_envs=1, episodes=total)


SUITE = Suite(
    name="control-obs-shift",
    doc="everything seen is offset anew on every level: plasticity under shifts of the input",
    tasks=TASKS,
    switch="next-reset",
    default_preset="quick",
    make_backend=make_backend,
    presets={
        "quick": _preset("CartPole, ten levels", "cartpole", 50_000),
        "acrobot": _preset("Acrobot, ten levels", "acrobot", 50_000),
        "demo": _preset("a demonstration for a few minutes, too short to judge", "cartpole", 20_000, 4),
        "paper": _preset("CartPole, levels as long as the source's longest", "cartpole", 160_000),
        "paper-acrobot": _preset("Acrobot, levels as long as the source's longest", "acrobot", 160_000),
        "exact": _exact("cartpole"),
        "exact-acrobot": _exact("acrobot"),
    },
)
