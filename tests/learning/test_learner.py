"""The inner loop: finite losses, refused gradients, and as much replay as was asked for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from nl_agents import agents, envs
from nl_agents.learning import Rollout
from nl_agents.training import Agent
from tests.training.small import small_config


def newborn(name: str = "hope", sequence: str = "cartpole-flip:demo", **replay: Any) -> Agent:
    config = small_config(name)
    for option, value in replay.items():
        setattr(config.replay, option, value)
    return agents.make(name, envs.make_sequence(sequence, num_envs=4, seed=1), seed=2, device="cpu", config=config)


def collect(agent: Agent) -> tuple[Rollout, int]:
    assert agent.actor is not None
    return agent.actor.collect()


def weights(agent: Agent) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in agent.policy.parameters()]


def changed(agent: Agent, before: list[torch.Tensor]) -> bool:
    return any(not torch.equal(now, then) for now, then in zip(agent.policy.parameters(), before, strict=True))


@pytest.mark.parametrize("sequence", ["cartpole-flip:demo", "minigrid-recurring:demo"])
@pytest.mark.parametrize("name", ["hope", "ppo", "rl2"])
def test_losses_are_finite_and_weights_move(name: str, sequence: str) -> None:
    agent = newborn(name, sequence)
    before = weights(agent)
    for _ in range(3):
        metrics = agent.learner.learn(*collect(agent))
        assert all(math.isfinite(value) for value in metrics.values()), metrics
    assert changed(agent, before)
    assert agent.learner.updates == 3 * 2 * 2 and int(agent.optimizer.refused_steps) == 0
    assert metrics["train/entropy"] > 0.0 and -1e-6 <= metrics["train/approx_kl"] < 0.1
    replayed = {key for key in metrics if key.startswith("replay/")}
    assert bool(replayed) == (name == "hope")


def test_the_first_minibatch_changes_no_ratio() -> None:
    agent = newborn()
    agent.config.ppo.num_epochs = agent.config.ppo.num_minibatches = 1
    metrics = agent.learner.learn(*collect(agent))
    assert metrics["train/clip_fraction"] == 0.0 and metrics["train/approx_kl"] < 1e-9


@pytest.mark.parametrize("name", ["hope", "rl2"])
def test_gradients_that_are_not_finite_are_refused_and_counted(name: str) -> None:
    agent = newborn(name)
    rollout, clock = collect(agent)
    before = weights(agent)
    rollout.rewards[3] = float("nan")  # the actor lets none through; a loss could still overflow
    metrics = agent.learner.learn(rollout, clock)
    assert not math.isfinite(metrics["train/value_loss"])
    assert int(agent.optimizer.refused_steps) == agent.learner.updates == 4
    assert not changed(agent, before)


def test_learning_goes_on_after_a_refusal() -> None:
    agent = newborn(ratio=0.0)
    rollout, clock = collect(agent)
    rollout.rewards[3] = float("nan")
    agent.learner.learn(rollout, clock)
    before = weights(agent)
    for _ in range(5):  # 20 updates: the slowest level's period is 16
        agent.learner.learn(*collect(agent))
    assert int(agent.optimizer.refused_steps) == 4
    assert all(parameter.isfinite().all() for parameter in agent.policy.parameters())
    moved = {id(p) for p, then in zip(agent.policy.parameters(), before, strict=True) if not torch.equal(p, then)}
    assert [level.period for level in agent.scheduler.levels] == [1, 4, 16]
    assert all(any(id(p) in moved for p in level.parameters) for level in agent.scheduler.levels)


def test_steps_that_were_refused_enter_no_loss() -> None:
    """The same experience with another number at a step that does not train gives the same update, bit for bit."""
    ended = []
    for reward in (0.0, 1e9):
        agent = newborn(ratio=0.0)
        rollout, clock = collect(agent)
        rollout.is_valid[5, 1] = rollout.trains[5, 1] = False
        rollout.rewards[5, 1] = reward
        agent.learner.learn(rollout, clock)
        ended.append(weights(agent))
    assert all(torch.equal(one, other) for one, other in zip(*ended, strict=True))


@pytest.mark.parametrize("ratio", [0.25, 0.75, 1.0, 1.5])
def test_a_fractional_replay_ratio_is_kept_over_time(ratio: float, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = newborn(ratio=ratio)
    replay = agent.learner.replay
    assert replay is not None
    drawn: list[int] = []
    sample = replay.sample

    def counted(count: int) -> Any:
        drawn.append(count)
        return sample(count)

    monkeypatch.setattr(replay, "sample", counted)
    agent.learner.learn(*collect(agent))
    assert drawn == []  # nothing is held yet
    for _ in range(3):
        agent.learner.learn(*collect(agent))
    fresh = 3 * 2 * 4  # rollouts, epochs, streams
    assert sum(drawn) == math.floor(ratio * fresh)
    assert max(drawn) - min(drawn) <= 1


def test_without_replay_nothing_is_kept() -> None:
    agent = newborn(ratio=0.0)
    agent.learner.learn(*collect(agent))
    assert agent.learner.replay is None


def test_a_saved_learner_goes_on_alike() -> None:
    """Two rollouts, a save in between through a second agent, two more: the same weights as without."""
    one, other = newborn(ratio=0.75), newborn(ratio=0.75)
    experience = []
    for _ in range(4):
        rollout, clock = collect(one)
        experience.append((Rollout(*(block.clone() for block in rollout)), clock))
    for rollout, clock in experience[:2]:
        one.learner.learn(rollout, clock)
    other.load_state_dict(one.state_dict())
    for rollout, clock in experience[2:]:
        mine, theirs = one.learner.learn(rollout, clock), other.learner.learn(rollout, clock)
        assert mine == theirs
    for a, b in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        assert torch.equal(a, b)
