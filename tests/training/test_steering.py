"""The controller's settings reach periods, rates and replay ratio, and nothing moves before its time."""

from __future__ import annotations

import copy
from typing import Any

from nl_agents import agents, envs
from nl_agents.training import Agent
from nl_agents.training.steering import Steering
from nl_agents.types import Episode
from tests.training.small import small_config


def newborn(seed: int = 2) -> tuple[Agent, Steering]:
    env = envs.make_sequence("cartpole-flip:demo", num_envs=4, seed=1)
    agent = agents.make("hope", env, seed=seed, device="cpu", config=small_config())
    assert agent.steering is not None
    return agent, agent.steering


def in_force(agent: Agent) -> dict[str, float]:
    """What the learner really runs with, by factor."""
    rates = {f"{group['name']}.rate": group["lr"] for group in agent.optimizer.param_groups}
    periods = {f"{name}.period": period for name, period in agent.scheduler.periods().items() if name != "weights"}
    return {**rates, **periods, "replay.ratio": agent.learner.replay_ratio}


def live(agent: Agent, steering: Steering, epochs: int, start: int = 200) -> list[dict[str, Any]]:
    """Turns in which every rollout brings enough updates and episodes to end a decision epoch."""
    records = []
    for epoch in range(epochs):
        agent.learner.updates += 2000
        episodes = [Episode(start, 0, "task", float(epoch + number), 10, 0) for number in range(30)]
        records += steering.after_rollout(start + 1000 * epoch, episodes)
    return records


def test_nothing_moves_before_the_warmup_is_over() -> None:
    agent, steering = newborn()
    before = in_force(agent)
    assert live(agent, steering, 5, start=-10_000) == [] and in_force(agent) == before
    assert not steering.running


def test_decisions_come_into_force_and_are_recorded() -> None:
    agent, steering = newborn()
    defaults = in_force(agent)
    assert steering.controller.settings() == defaults
    records = live(agent, steering, 40)
    assert in_force(agent) == steering.controller.settings()
    assert steering.epochs == 39 and len(records) == 40 + 39  # a decision each, a credit each but the last
    decisions = [record for record in records if "settings" in record]
    assert len(decisions) == 40 and decisions[-1]["settings"] == in_force(agent)
    assert any(record["settings"] != defaults for record in decisions)


def test_an_epoch_lasts_until_it_holds_enough() -> None:
    agent, steering = newborn()
    few = [Episode(300, 0, "task", 1.0, 10, 0)]
    assert len(steering.after_rollout(300, few)) == 1 and steering.running
    agent.learner.updates += 2000
    assert steering.after_rollout(400, few) == []  # updates enough, episodes too few
    assert len(steering.after_rollout(500, few * 30)) == 2
    assert steering.after_rollout(600, few * 30) == []  # episodes enough, updates too few


def test_the_weights_period_is_not_for_it_to_move() -> None:
    _, steering = newborn()
    factors = set(steering.controller.settings())
    assert "weights.period" not in factors and {"weights.rate", "core.slow.0.period", "replay.ratio"} <= factors


def test_a_saved_controller_decides_alike() -> None:
    (one, steering), (other, copied) = newborn(), newborn(seed=9)
    live(one, steering, 12)
    copied.load_state_dict(copy.deepcopy(steering.state_dict()))
    other.scheduler.load_state_dict(one.scheduler.state_dict())
    other.learner.updates, other.learner.replay_ratio = one.learner.updates, one.learner.replay_ratio
    assert in_force(other) == in_force(one)
    assert live(one, steering, 12, start=20_000) == live(other, copied, 12, start=20_000)
    assert in_force(other) == in_force(one)
