"""control-drift: physics that change so slowly that no step is a switch.

What shifts: gravity, length, force and mass of CartPole (of Pendulum, of Acrobot: gravity, lengths, masses), each on a
way of its own around what it is by itself. When: all the time, on the clock of env steps over all streams, in the
middle of episodes too; the way is a sine, an Ornstein-Uhlenbeck walk, a straight line or a random walk, one kind after
the other; ``abrupt`` draws the constants anew every 25 000 steps instead, over the same range. What the agent is told:
nothing. It asks whether an agent made for switches does harm where there are none, and how well it tracks.
"""

from __future__ import annotations

from nl_agents.envs.acrobot_physics import AcrobotBackend
from nl_agents.envs.cartpole_physics import CartPoleBackend, Physics
from nl_agents.envs.pendulum_physics import PendulumBackend
from nl_agents.tasks import (
    Attribute,
    Backend,
    Blocks,
    Drift,
    Linear,
    OrnsteinUhlenbeck,
    Preset,
    RandomWalk,
    ShiftedBackend,
    ShiftedTask,
    Sine,
    Steps,
    Suite,
)

LOW, HIGH = 0.5, 1.5  # every constant stays between these multiples of its own
DRIFTING = {
    "cartpole": ("gravity", "length", "force", "cart_mass", "pole_mass"),
    "pendulum": ("gravity", "length", "mass"),
    "acrobot": ("gravity", "length_1", "length_2", "mass_1", "mass_2"),
}
KINDS = ("sine", "ou", "linear", "walk")
TASKS = tuple(f"{env}-{kind}" for env in DRIFTING for kind in ("steady", *KINDS, "abrupt"))
PERIOD = 200_000  # env steps over all streams of a sine
EVERY = 1_000  # env steps over all streams between two looks at the way: a 32nd of a radian of the sine
LIFE = 500_000  # env steps of the way of a straight line


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> ShiftedBackend:
    """Builds the native physics with the drifts in it; it is the only backend."""
    if backend not in ("auto", "native"):
        raise ValueError(f"control-drift runs on its native backend only, got backend={backend!r}; use 'auto'")
    (env,) = {task.partition("-")[0] for task in tasks}
    physics: Backend
    if env == "cartpole":
        physics = CartPoleBackend((Physics(),), num_envs)
    else:
        physics = PendulumBackend(num_envs) if env == "pendulum" else AcrobotBackend(num_envs)
    return ShiftedBackend(physics, [ShiftedTask(task, 0, _shifts(env, task.partition("-")[2])) for task in tasks])


def _shifts(env: str, kind: str) -> tuple[Attribute, ...]:
    """Lets every constant drift, relative to its own value; the n-th of them on a way of its own."""
    if kind == "steady":
        return ()
    names = DRIFTING[env]
    return tuple(Attribute(name, _way(kind, n, len(names)), True, every=EVERY) for n, name in enumerate(names))


def _way(kind: str, number: int, count: int) -> Drift:
    if kind == "sine":
        return Sine(1.0, 0.5, PERIOD, phase=number / count)
    if kind == "ou":
        return OrnsteinUhlenbeck(1.0, 0.2, relaxation=25_000, every=1_000).clipped(LOW, HIGH)
    if kind == "linear":
        return Linear(1.0, HIGH if number % 2 == 0 else LOW, LIFE)
    if kind == "walk":
        return RandomWalk(1.0, 0.05, every=1_000, low=LOW, high=HIGH)
    return Steps(LOW, HIGH, every=25_000)


def _preset(doc: str, env: str, each: int, kinds: tuple[str, ...] = KINDS) -> Preset:
    blocks = Blocks([(number, each) for number in range(len(kinds))], cycles=1)
    return Preset(doc, each * len(kinds), tuple(f"{env}-{kind}" for kind in kinds), blocks)


SUITE = Suite(
    name="control-drift",
    doc="physics that change slowly and all the time: tracking, and doing no harm",
    tasks=TASKS,
    switch="next-reset",
    default_preset="quick",
    make_backend=make_backend,
    presets={
        "quick": _preset("CartPole, four kinds of drift", "cartpole", 125_000),
        "pendulum": _preset("Pendulum, four kinds of drift", "pendulum", 125_000),
        "acrobot": _preset("Acrobot, four kinds of drift", "acrobot", 125_000),
        "steady": _preset("the control: CartPole that does not drift", "cartpole", 500_000, ("steady",)),
        "abrupt": _preset("the twin: CartPole whose constants jump", "cartpole", 500_000, ("abrupt",)),
        "demo": _preset("a demonstration for a few minutes, too short to judge", "cartpole", 40_000, ("sine", "ou")),
        "paper": _preset("CartPole, four kinds of drift, 250k each", "cartpole", 250_000),
    },
)
