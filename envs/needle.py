"""needle: a cue is shown once and asked for much later, in the same episode or in the next.

What shifts: how far away the question is (``distance`` env steps) and whose cue it asks for: ``within`` this episode's,
``across`` that of the episode before, which only a memory that outlives episodes can know. When: after a fixed number
of env steps over all streams, each stream with its next episode. What the agent is told: nothing; both kinds look
alike, and the reward tells which one is in force.

Every symbol is one of nine (``Discrete(9)``): four cues, four distractors, the question. The four actions are answers;
reward 1 for the right one at the question, else 0. Chance is 1/4, a memory that keeps the cue reaches 1.
"""

from __future__ import annotations

from nl_agents.envs.needle_backend import NeedleBackend, Trial
from nl_agents.tasks import Blocks, Preset, Suite

DISTANCES = (1, 3, 10, 100, 1000, 10_000, 100_000)
TASKS = {
    f"{kind}-{distance}": Trial(distance, back)
    for back, kind in enumerate(("within", "across"))
    for distance in DISTANCES
}


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> NeedleBackend:
    """Builds the native vector form; it is the only backend, whatever is asked for by ``auto`` or ``native``."""
    if backend not in ("auto", "native"):
        raise ValueError(f"needle runs on its native vector backend only, got backend={backend!r}; use 'auto'")
    return NeedleBackend(tuple(TASKS[name] for name in tasks), num_envs)


def _preset(doc: str, blocks: dict[str, int]) -> Preset:
    """One block a task, in env steps."""
    schedule = Blocks(list(enumerate(blocks.values())), cycles=1)
    return Preset(doc, sum(blocks.values()), tuple(blocks), schedule)


SUITE = Suite(
    name="needle",
    doc="a cue shown once, asked for long after, in the same episode or the next: what a memory keeps",
    tasks=tuple(TASKS),
    switch="next-reset",
    default_preset="quick",
    make_backend=make_backend,
    # for every agent: at PPO's usual 1e-3 a cue ten env steps ago is learnt half as fast
    recommended={"optimizer.lr": 2e-3},
    presets={
        "quick": _preset(
            "four tasks of rising difficulty, each as long as a recurrent PPO takes to learn it alone",
            {"within-3": 100_000, "across-1": 100_000, "within-10": 200_000, "across-3": 200_000},
        ),
        "demo": _preset(
            "a demonstration for a few minutes, too short to judge", {"within-10": 25_000, "across-10": 25_000}
        ),
        "long": _preset(
            "to 1,000 env steps within and across episodes",
            {f"{kind}-{distance}": 500_000 for distance in (10, 100, 1000) for kind in ("within", "across")},
        ),
    },
)
