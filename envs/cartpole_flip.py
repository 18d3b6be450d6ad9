"""cartpole-flip: CartPole whose buttons, pole and cart change at hidden moments, back and forth, for life.

What shifts: ``standard`` is CartPole-v1; ``flipped`` has force -10 N (left pushes right), half a pole of 1 m instead
of 0.5 m and a cart of 2 kg instead of 1 kg. When: after a geometric number of env steps (mean 25 000 over all
streams), in the middle of episodes, in all streams at the same vector step. What the agent is told: nothing; one
episode's first steps are enough to tell the tasks apart, so an agent that remembers need never relearn.

The pair of tasks is that of reactive exploration's non-stationary CartPole (Steinparz et al. 2022).
"""

from __future__ import annotations

from nl_agents.envs.cartpole_physics import CartPoleBackend, Physics
from nl_agents.tasks import GeometricHidden, Preset, Suite

PHYSICS = {
    "standard": Physics(),
    "flipped": Physics(force=-10.0, length=1.0, cart_mass=2.0),
}


def make_backend(tasks: tuple[str, ...], num_envs: int, backend: str) -> CartPoleBackend:
    """Builds the native vector physics; it is the only backend, whatever is asked for by ``auto`` or ``native``."""
    if backend not in ("auto", "native"):
        raise ValueError(f"cartpole-flip runs on its native vector backend only, got backend={backend!r}; use 'auto'")
    return CartPoleBackend(tuple(PHYSICS[name] for name in tasks), num_envs)


SUITE = Suite(
    name="cartpole-flip",
    doc="CartPole whose physics flip at hidden moments: recognising a task that returns",
    tasks=tuple(PHYSICS),
    switch="in-episode",
    default_preset="quick",
    make_backend=make_backend,
    presets={
        "quick": Preset("the published size", 1_500_000, tuple(PHYSICS), GeometricHidden(25_000)),
        "demo": Preset(
            "a demonstration for a few minutes, too short to judge", 250_000, tuple(PHYSICS), GeometricHidden(25_000)
        ),
        "long": Preset("room to see what recognition settles at", 5_000_000, tuple(PHYSICS), GeometricHidden(25_000)),
    },
)
