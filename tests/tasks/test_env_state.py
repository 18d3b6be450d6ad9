"""Saving one Python env: its own state, gymnasium's wrappers around it, its generator."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit, TransformReward

from nl_agents.errors import StateMismatchError
from nl_agents.tasks.env_state import (
    get_env_state,
    get_generator_state,
    keeps_state,
    make_generator,
    set_env_state,
)
from nl_agents.tasks.testing import CountingEnv


class Dice(CountingEnv):
    """Adds a random number to the reward."""

    def step(self, action):
        seen, reward, *rest = super().step(action)
        return seen, reward + float(self.np_random.random()), *rest


def wrapped() -> gym.Env:
    return TimeLimit(OrderEnforcing(PassiveEnvChecker(Dice(lengths=(50,)))), 7)


def test_wrappers_and_generator_go_on_exactly() -> None:
    old = wrapped()
    old.reset(seed=1)
    for _ in range(3):
        old.step(0)
    state = get_env_state(old)
    new = wrapped()
    set_env_state(new, state)  # was never reset: the wrappers must take it that an episode runs
    for step in range(4, 8):
        one, other = old.step(0), new.step(0)
        assert one[0].tolist() == other[0].tolist() and one[1:4] == other[1:4]
        assert one[3] == (step == 7)  # TimeLimit counted on


def test_a_generator_goes_on_exactly_whatever_its_kind() -> None:
    for bits in (np.random.PCG64, np.random.Philox, np.random.MT19937, np.random.SFC64):
        old = np.random.Generator(bits(3))
        old.random(5)
        old.integers(2, dtype=np.int32)  # leaves half a word in store
        new = make_generator(get_generator_state(old))
        draws = [generator.integers(2**31, size=9, dtype=np.int32).tolist() for generator in (old, new)]
        assert draws[0] == draws[1]


def test_who_keeps_state() -> None:
    assert keeps_state(wrapped()) and keeps_state(CountingEnv())
    assert not keeps_state(TransformReward(CountingEnv(), float))
    with pytest.raises(StateMismatchError, match=r"no get_state\(\) and set_state\(\)"):
        get_env_state(gym.make("CartPole-v1"))
    with pytest.raises(StateMismatchError, match="build it as it was"):
        set_env_state(CountingEnv(), get_env_state(wrapped()))
