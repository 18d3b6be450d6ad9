"""The native acrobots and pendulums against gymnasium's own envs: the judges of every number."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from nl_agents.envs.acrobot_physics import AcrobotBackend
from nl_agents.envs.classic_backend import ClassicBackend
from nl_agents.envs.pendulum_physics import PendulumBackend

EVERYBODY, NOTHING = np.arange(8), np.zeros(8, np.int64)
CASES: list[tuple[type[Any], str, dict[str, tuple[str, float]]]] = [
    (AcrobotBackend, "Acrobot-v1", {"mass_1": ("LINK_MASS_1", 1.4), "mass_2": ("LINK_MASS_2", 0.7)}),
    (PendulumBackend, "Pendulum-v1", {"gravity": ("g", 8.0), "mass": ("m", 1.3), "length": ("l", 0.8)}),
]


def build(kind: type[Any]) -> ClassicBackend:
    backend: ClassicBackend = kind(8)
    backend.begin_life(4)
    backend.reset(EVERYBODY, NOTHING)
    return backend


@pytest.mark.parametrize(("kind", "gym_id", "names"), CASES)
@pytest.mark.parametrize("changed", [False, True])
def test_every_number_is_gymnasium_s(kind: type[Any], gym_id: str, names: dict[str, Any], changed: bool) -> None:
    backend, random = build(kind), np.random.default_rng(0)
    for name, (_, value) in names.items() if changed else ():
        backend.set_attribute(name, EVERYBODY, NOTHING, np.full(8, value))
    judges: list[Any] = [gym.make(gym_id).unwrapped for _ in EVERYBODY]
    for env in judges:
        env.reset(seed=0)
        for _, (theirs, value) in names.items() if changed else ():
            setattr(env, theirs, value)
    alive = np.ones(8, bool)
    for _ in range(120):
        for stream in EVERYBODY:  # from the same state, so that rounding does not grow into chaos
            judges[stream].state = backend.state[:, stream].copy()
        discrete = isinstance(backend.single_action_space, gym.spaces.Discrete)
        actions = random.integers(0, 3, 8) if discrete else random.uniform(-2.5, 2.5, (8, 1)).astype(np.float32)
        reward, terminated, _ = backend.step(actions, None)
        for stream in alive.nonzero()[0]:
            theirs = judges[stream].step(actions[stream])
            np.testing.assert_allclose(backend.observations()[stream], theirs[0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(reward[stream], theirs[1], rtol=1e-6)
            assert terminated[stream] == theirs[2]
        alive &= ~terminated
    assert backend.single_observation_space == judges[0].observation_space
    assert gym.make(gym_id).spec.max_episode_steps == backend.episode_limit  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [AcrobotBackend, PendulumBackend])
def test_start_states_do_not_depend_on_the_other_streams(kind: type[Any]) -> None:
    wide, narrow = build(kind), kind(2)
    narrow.begin_life(4)
    narrow.reset(np.arange(2), NOTHING[:2])
    np.testing.assert_array_equal(wide.observations()[:2], narrow.observations())
    before = wide.state.copy()
    wide.reset(np.array([3]), NOTHING)
    assert (wide.state[:, 3] != before[:, 3]).all() and (np.delete(wide.state - before, 3, 1) == 0).all()
