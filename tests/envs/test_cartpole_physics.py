"""The native cart-poles against gymnasium's own env: the judge of every number."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from nl_agents.envs.cartpole_flip import PHYSICS
from nl_agents.envs.cartpole_physics import EPISODE_LIMIT, CartPoleBackend, Physics
from nl_agents.tasks.shown_space import finite


def judge(physics: Physics) -> CartPoleEnv:
    """Gymnasium's single env with the same constants, the derived ones included."""
    env = CartPoleEnv()
    env.force_mag, env.length, env.masscart, env.masspole = (
        physics.force, physics.length, physics.cart_mass, physics.pole_mass
    )  # fmt: skip
    env.gravity = physics.gravity
    env.total_mass = physics.cart_mass + physics.pole_mass
    env.polemass_length = physics.pole_mass * physics.length
    env.reset(seed=0)
    return env


def fresh(tasks: list[int], seed: int = 0) -> CartPoleBackend:
    backend = CartPoleBackend(tuple(PHYSICS.values()), len(tasks))
    backend.begin_life(seed)
    backend.reset(np.arange(len(tasks)), np.array(tasks))
    return backend


def test_every_number_is_gymnasium_s_bit_for_bit() -> None:
    backend = fresh([0, 1] * 8)
    judges = [judge(list(PHYSICS.values())[stream % 2]) for stream in range(16)]
    starts = backend.get_state()["state"].T
    for env, start in zip(judges, starts, strict=True):
        env.state = start.copy()
    random, ended, alive = np.random.default_rng(1), 0, np.ones(16, bool)
    for _ in range(200):
        actions = random.integers(0, 2, 16)
        reward, terminated, truncated = backend.step(actions, None)
        seen = backend.observations()
        for stream in alive.nonzero()[0]:
            expected, expected_reward, fell, _, _ = judges[stream].step(int(actions[stream]))
            np.testing.assert_array_equal(seen[stream], expected)
            np.testing.assert_array_equal(backend.get_state()["state"][:, stream], judges[stream].state)
            assert (reward[stream], terminated[stream], truncated[stream]) == (expected_reward, fell, False)
        alive &= ~terminated
        ended += int(terminated.sum())
        if not alive.any():
            break
    assert not alive.any()


def test_spaces_and_limit_are_those_of_cartpole_v1() -> None:
    env, backend = gym.make("CartPole-v1"), fresh([0])
    assert backend.single_observation_space == finite(env.observation_space)
    assert np.isfinite(backend.single_observation_space.high).all() and env.observation_space.shape == (4,)
    assert backend.single_action_space == env.action_space
    assert env.spec is not None and env.spec.max_episode_steps == EPISODE_LIMIT


def test_an_episode_is_truncated_after_500_steps() -> None:
    physics = Physics(gravity=0.0, force=0.0)  # nothing ever moves much
    backend = CartPoleBackend((physics,), 1)
    backend.reset(np.array([0]), np.array([0]))
    state = backend.get_state()
    backend.set_state({**state, "state": np.zeros((4, 1))})
    outcomes = [backend.step(np.array([0]), None) for _ in range(EPISODE_LIMIT)]
    assert [bool(truncated[0]) for _, _, truncated in outcomes] == [False] * (EPISODE_LIMIT - 1) + [True]
    assert not any(terminated[0] for _, terminated, _ in outcomes)
    assert all(reward[0] == 1 for reward, _, _ in outcomes)


def test_starts_are_uniform_and_differ_by_stream_episode_and_seed() -> None:
    backend = fresh([0] * 64)
    starts = []
    for _ in range(50):
        starts.append(backend.get_state()["state"].T)
        backend.reset(np.arange(64), np.zeros(64, int))
    drawn = np.concatenate(starts).ravel()
    assert len(np.unique(drawn)) == drawn.size == 12_800
    assert drawn.min() >= -0.05 and drawn.max() < 0.05
    counts, _ = np.histogram(drawn, bins=20, range=(-0.05, 0.05))
    assert ((counts - 640) ** 2 / 640).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    assert np.abs(np.corrcoef(np.concatenate(starts).T) - np.eye(4)).max() < 0.06
    other = fresh([0] * 64, seed=1).get_state()["state"]
    assert not np.isin(other, drawn).any()


def test_a_stream_does_not_depend_on_how_many_there_are() -> None:
    small, large = fresh([0, 1]), fresh([0, 1] * 10)
    random = np.random.default_rng(0)
    for _ in range(100):
        actions = random.integers(0, 2, 20)
        few, many = small.step(actions[:2], None), large.step(actions, None)
        assert all((one == other[:2]).all() for one, other in zip(few, many, strict=True))
        small.reset(few[1].nonzero()[0], np.array([0, 1]))
        large.reset(many[1].nonzero()[0], np.array([0, 1] * 10))
        np.testing.assert_array_equal(small.observations(), large.observations()[:2])


def test_a_switch_keeps_cart_and_pole_where_they_are() -> None:
    backend = fresh([0] * 4)
    before = backend.observations()
    backend.set_tasks(np.array([0, 1, 0, 1]))
    np.testing.assert_array_equal(backend.observations(), before)
    backend.step(np.ones(4, int), None)
    velocity = backend.observations()[:, 1] - before[:, 1]
    assert (velocity[[0, 2]] > 0.15).all() and (velocity[[1, 3]] < -0.05).all()


@pytest.mark.parametrize("name", list(PHYSICS))
def test_each_task_can_be_held_up(name: str) -> None:
    """A linear controller of each task's own sign balances it for the whole 500 steps: the tasks are solvable."""
    backend = fresh([list(PHYSICS).index(name)] * 8)
    sign = np.sign(PHYSICS[name].force)
    for _ in range(EPISODE_LIMIT):
        position, speed, angle, spin = backend.observations().T
        push = 0.1 * position + 0.5 * speed + 10 * angle + 2 * spin
        _, terminated, truncated = backend.step((push * sign > 0).astype(int), None)
        assert not terminated.any()
    assert truncated.all()
