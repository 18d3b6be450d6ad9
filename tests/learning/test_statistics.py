"""The policy's scales after a rollout, against numpy on the same numbers."""

from __future__ import annotations

import numpy as np
import torch

from nl_agents import agents, envs
from nl_agents.learning.rollout import Rollout, add_advantages
from nl_agents.learning.statistics import ScaleKeeper
from nl_agents.policies import MemoryPolicy
from tests.training.small import small_config


def lived() -> tuple[MemoryPolicy, Rollout]:
    env = envs.make_sequence("cartpole-flip:demo", num_envs=4, seed=1)
    agent = agents.make("ppo", env, seed=2, device="cpu", config=small_config("ppo"))
    assert agent.actor is not None
    rollout, _ = agent.actor.collect()
    add_advantages(rollout, 0.99, 0.95)
    return agent.policy, rollout


def test_scales_are_the_moments_of_what_trains() -> None:
    policy, rollout = lived()
    rollout.trains[0, 0] = False
    rollout.rows[0, 0] = 1e6  # a refused step enters no scale
    rollout.returns[0, 0] = rollout.advantages[0, 0] = 1e6
    ScaleKeeper(policy).update(rollout)
    trains = rollout.trains.numpy()
    rows = rollout.rows.numpy()[trains].astype(np.float64)
    np.testing.assert_allclose(policy.mean, rows.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(policy.scale, (rows.var(0) + 1e-6) ** -0.5, rtol=1e-4)
    returns = rollout.returns.numpy()[trains].astype(np.float64)
    np.testing.assert_allclose(policy.return_scale, max(1.0, np.sqrt((returns**2).mean())), rtol=1e-5)
    advantages = rollout.advantages.numpy()[trains].astype(np.float64)
    np.testing.assert_allclose(policy.advantage_scale, advantages.std(), rtol=1e-4)


def test_returns_are_never_multiplied_up() -> None:
    policy, rollout = lived()
    rollout.returns.mul_(1e-6)
    ScaleKeeper(policy).update(rollout)
    assert float(policy.return_scale) == 1.0


def test_restored_keeper_goes_on_alike() -> None:
    policy, rollout = lived()
    first, second = ScaleKeeper(policy), ScaleKeeper(policy)
    first.update(rollout)
    second.load_state_dict(first.state_dict())
    found = []
    for keeper in (first, second):
        keeper.update(rollout)
        found.append(torch.cat((policy.mean, policy.scale, policy.change_scale, policy.advantage_scale.reshape(1))))
    assert torch.equal(*found)
