"""The actor-critic: what it said when acting it says again when learning, and what its prediction loss looks at."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from nl_agents import agents, envs
from nl_agents.policies import MemoryPolicy, memory_policy
from nl_agents.policies.memory_policy import PolicyOutput
from nl_agents.training import Agent
from tests.training.small import small_config

CORES = [
    "hope", "cms", "self-modifying", "gated-delta", "titans", "attention", "diagonal", "lstm", "gru", "feed-forward",
]  # fmt: skip


def newborn(core: str = "hope", sequence: str = "cartpole-flip:demo", **memory: Any) -> Agent:
    """An agent of a narrow core, alone with its streams."""
    config = small_config()
    config.memory = dataclasses.replace(config.memory, core=core, **memory)
    return agents.make("hope", envs.make_sequence(sequence, num_envs=3, seed=1), seed=2, device="cpu", config=config)


@pytest.mark.parametrize("autoreset", ["next-step", "same-step"])
@pytest.mark.parametrize("core", CORES)
def test_the_first_ratio_is_one(core: str, autoreset: Any) -> None:
    """Values too; on a first rollout, and on one that begins inside episodes, chunks and a lived-in memory."""
    config = small_config()
    config.memory.core, config.ppo.num_steps = core, 21  # no multiple of the core's clock
    env = envs.make_sequence("cartpole-flip:demo", num_envs=3, seed=1, autoreset=autoreset)
    agent = agents.make("hope", env, seed=2, device="cpu", config=config)
    assert agent.actor is not None
    for _ in range(3):
        rollout, clock = agent.actor.collect()
        assert rollout.is_first.any()
        for start in (clock, None):
            with torch.no_grad():
                output, _ = agent.policy(rollout.inputs(), agent.policy.core.unpack(rollout.state), start)
            torch.testing.assert_close(output.parameters, rollout.parameters, atol=1e-5, rtol=0.0)
            log_probs = agent.policy.actions.log_prob(output.parameters, rollout.actions)
            torch.testing.assert_close(log_probs, rollout.log_probs, atol=1e-5, rtol=0.0)
            values = output.values * agent.policy.return_scale
            torch.testing.assert_close(values, rollout.values, atol=1e-4, rtol=1e-5)
        agent.learner.learn(rollout, clock)
        agent.scales.update(rollout)


def prediction_case(policy: MemoryPolicy, steps: int = 6) -> tuple[PolicyOutput, Tensor, Tensor]:
    torch.manual_seed(0)
    output = PolicyOutput(
        torch.zeros(steps, 2, policy.actions.parameters),
        torch.zeros(steps, 2),
        torch.randn(steps, 2, policy.core.width),
        torch.randn(steps, 2, policy.codec.feature_size),
    )
    return output, torch.randint(policy.actions.size, (steps, 2)), torch.randn(steps, 2)


def test_prediction_loss_is_the_mean_over_steps_that_go_on() -> None:
    policy = newborn().policy
    output, actions, rewards = prediction_case(policy)
    policy.change_scale.fill_(3.0)
    follows = torch.rand(6, 2) < 0.6
    follows[-1] = False
    errors = []
    for t, stream in follows.nonzero().tolist():
        expected = policy.predict_next(output.readout[t, stream], actions[t, stream])
        change = 3.0 * (output.features[t + 1, stream] - output.features[t, stream])
        errors.append((expected - torch.cat((change, rewards[t, stream].tanh()[None]))).square().mean())
    torch.testing.assert_close(policy.prediction_loss(output, actions, rewards, follows), torch.stack(errors).mean())


def test_prediction_loss_does_not_see_across_an_episodes_end() -> None:
    policy = newborn().policy
    output, actions, rewards = prediction_case(policy)
    follows = torch.ones(6, 2, dtype=torch.bool)
    follows[2], follows[-1] = False, False
    before = policy.prediction_loss(output, actions, rewards, follows)
    output.features[3:] += 100.0  # another episode lies elsewhere; the changes inside it stay what they were
    rewards[2] = float("nan")
    after = policy.prediction_loss(output, actions, rewards, follows)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0.0)
    follows[2] = True
    assert not torch.isfinite(policy.prediction_loss(output, actions, rewards, follows))
    assert policy.prediction_loss(output, actions, rewards, torch.zeros_like(follows)) == 0.0


def test_hidden_inputs_are_not_seen() -> None:
    agent = newborn("lstm", inputs="observation")
    assert agent.actor is not None
    rollout, clock = agent.actor.collect()
    given, state = rollout.inputs(), agent.policy.core.unpack(rollout.state)
    output, _ = agent.policy(given, state, clock)
    blind, _ = agent.policy(
        given._replace(last_action=given.last_action + 1.0, last_reward=given.last_reward - 1.0), state
    )
    assert torch.equal(blind.parameters, output.parameters) and torch.equal(blind.values, output.values)
    seeing = newborn("lstm").policy
    one, _ = seeing(given, state, clock)
    other, _ = seeing(given._replace(last_reward=given.last_reward - 1.0), state)
    assert not torch.equal(one.values, other.values)


def test_a_policy_without_prediction_head_says_so() -> None:
    config = small_config()
    config.ppo.prediction = 0.0
    agent = agents.make("hope", envs.make_sequence("cartpole-flip:demo", num_envs=2), device="cpu", config=config)
    assert agent.policy.predictor is None
    with pytest.raises(AssertionError, match="built without a prediction head"):
        agent.policy.predict_next(torch.zeros(1, 16), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("sequence", ["cartpole-flip:demo", "minigrid-recurring:demo"])
@pytest.mark.parametrize("inputs", ["all", "observation"])
@pytest.mark.parametrize("core", ["hope", "lstm"])
def test_the_compiled_act_step_says_what_forward_says(core: str, inputs: str, sequence: str) -> None:
    policy_act = memory_policy.policy_act
    if policy_act is None:
        pytest.skip("numba is missing")
    agent = newborn(core, sequence)
    if inputs == "observation":
        agent.policy = MemoryPolicy(agent.policy.codec, agent.policy.actions, agent.policy.core, inputs)
    policy, actor = agent.policy, agent.actor
    assert actor is not None
    rollout, _ = actor.collect()
    for parameter in policy.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    state = policy.core.unpack(rollout.state)
    for t in range(5):
        given = memory_policy.PolicyInput(*(block[t : t + 1] for block in rollout.inputs()))
        assert policy_act.serves(policy, given)
        with torch.no_grad():
            expected, after = policy(given, state, t)
        said, state = policy.act(given, type(state)(*(leaf.clone() for leaf in state)), t)
        for one, other in zip((*said, *state), (*expected, *after), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
