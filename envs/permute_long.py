"""permute-long: CartPole among distractors, its numbers in a new order again and again, never the same twice.

What shifts: the order of the 20 numbers seen: CartPole's four and 16 of noise, N(0, 1), fresh at every step; every task
draws an order. When: every 50 000 env steps over all streams, each stream with its next episode. What the agent is
told: nothing. No task returns, so there is nothing to remember but how to learn: a slope of the first-visit results
over a long life is loss (or gain) of plasticity.
"""

from __future__ import annotations

from nl_agents.envs.cartpole_physics import CartPoleBackend, Physics
from nl_agents.tasks import Blocks, Distractors, ObservationPermutation, Preset, ShiftedBackend, ShiftedTask, Suite

DISTRACTORS = 16
EVERY = 50_000  # env steps over all streams; in 25,000 plain PPO does not learn one order
TASKS = tuple(f"order-{number:03d}" for number in range(100))


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> ShiftedBackend:
    """Builds the native physics with the permutations around it; it is the only backend."""
    if backend not in ("auto", "native"):
        raise ValueError(f"permute-long runs on its native backend only, got backend={backend!r}; use 'auto'")
    shifts = (Distractors(DISTRACTORS), ObservationPermutation())
    return ShiftedBackend(CartPoleBackend((Physics(),), num_envs), [ShiftedTask(task, 0, shifts) for task in tasks])


def _preset(doc: str, count: int) -> Preset:
    blocks = Blocks([(task, EVERY) for task in range(count)], cycles=1)
    return Preset(doc, EVERY * count, TASKS[:count], blocks)


SUITE = Suite(
    name="permute-long",
    doc="CartPole among distractors in ever new orders that never return: plasticity over a long life",
    tasks=TASKS,
    switch="next-reset",
    default_preset="quick",
    make_backend=make_backend,
    presets={
        "quick": _preset("the published size: 20 orders", 20),
        "demo": _preset("a demonstration for a few minutes, too short to judge", 2),
        "paper": _preset("100 orders", 100),
    },
    recommended={"ppo.num_steps": 64},  # tuned once, for every agent: twice as many updates in the time of one order
)
