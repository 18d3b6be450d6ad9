"""Every registered agent lives on every suite, and says what it must be told."""

from __future__ import annotations

import dataclasses
import math

import pytest

from nl_agents import agents, envs
from nl_agents.errors import ConfigError, PrivilegeError, UnknownNameError
from nl_agents.tasks import Cyclic
from nl_agents.training import Agent
from tests.training.small import small_config

RUNNABLE = [name for name, suite in envs.SUITES.items() if suite.runs_here]

PRIVILEGED = [name for name, spec in agents.AGENTS.items() if spec.needs_boundary or spec.needs_task_id]


@pytest.mark.parametrize("sequence", sorted(RUNNABLE))
@pytest.mark.parametrize("name", sorted(agents.AGENTS))
def test_every_agent_lives_on_every_suite(name: str, sequence: str) -> None:
    level = "task-id" if agents.spec(name).needs_task_id else "notified"
    env = envs.make_sequence(f"{sequence}:demo", num_envs=4, seed=1, info=level)
    agent = agents.make(name, env, seed=2, device="cpu", config=small_config(name))
    before = [parameter.detach().clone() for parameter in agent.policy.parameters()]
    agent.learn(192)
    assert agent.num_timesteps >= 192 and int(agent.optimizer.refused_steps) == 0
    assert all(parameter.isfinite().all() for parameter in agent.policy.parameters())
    moved = any(not now.equal(then) for now, then in zip(agent.policy.parameters(), before, strict=True))
    if name != "trac":  # whose scale begins at 1e-8: its first steps are below single precision
        assert moved == (name != "random")
    assert math.isfinite(float(agent.policy.return_scale))


def test_agents_differ_as_their_pages_say() -> None:
    made = {name: agents.config(name) for name in agents.AGENTS}
    assert (made["hope"].memory.core, made["hope"].optimizer.name) == ("hope", "deep-momentum")
    assert made["hope"].replay.ratio > 0.0 and made["hope"].control.enabled
    for name in ("ppo", "recurrent-ppo", "rl2", "reset-at-switch"):
        assert made[name].optimizer.name == "adamw" and made[name].replay.ratio == 0.0
        assert not made[name].control.enabled and made[name].ppo.prediction == 0.0
    assert made["ppo"].memory.core == "feed-forward" and made["ppo"].memory.inputs == "observation"
    assert (made["recurrent-ppo"].memory.core, made["recurrent-ppo"].memory.scope) == ("lstm", "episode")
    assert (made["rl2"].memory.core, made["rl2"].memory.scope) == ("lstm", "never")
    assert dataclasses.replace(made["rl2"], memory=made["ppo"].memory) == made["ppo"] == made["reset-at-switch"]


def test_configs_are_made_anew() -> None:
    agents.config("ppo").ppo.gamma = 0.5
    assert agents.config("ppo").ppo.gamma != 0.5


def test_the_privileged_control_starts_over_at_every_switch() -> None:
    with pytest.warns(UserWarning, match="less than two full episodes"):
        env = envs.make_sequence("cartpole-flip:demo", num_envs=4, seed=1, info="notified", schedule=Cyclic(every=300))
    agent = agents.make("reset-at-switch", env, seed=2, device="cpu", config=small_config("reset-at-switch"))
    updates: list[int] = []

    def note(living: Agent) -> None:
        updates.append(living.learner.updates)

    agent.learn(1000, callback=note)
    switches = len(env.task_log) - 1
    assert agent.lives == switches == 3
    assert updates.count(0) == 3 and max(updates) < len(updates) * 4


def test_without_a_switch_it_is_ppo() -> None:
    """The control differs from ``ppo`` in what it does at a switch, and in nothing else."""
    made = []
    for name in ("ppo", "reset-at-switch"):
        env = envs.make_sequence("cartpole-flip:demo", num_envs=4, seed=1, info="notified")
        made.append(agents.make(name, env, seed=2, device="cpu", config=small_config(name)).learn(256))
    for one, other in zip(made[0].policy.parameters(), made[1].policy.parameters(), strict=True):
        assert one.equal(other)


def test_there_is_a_privileged_control() -> None:
    assert PRIVILEGED == ["reset-at-switch", "ewc", "online-ewc", "expert"]


@pytest.mark.parametrize("name", PRIVILEGED)
def test_a_privileged_agent_refuses_a_hidden_life(name: str) -> None:
    with pytest.raises(PrivilegeError, match=r"(where tasks change.*info='notified'.*--priv|the task.*info='task-id')"):
        agents.make(name, envs.make_sequence("cartpole-flip:demo", num_envs=2))


def test_unknown_names_are_told_with_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown agent 'recurent-ppo': did you mean 'recurrent-ppo'"):
        agents.config("recurent-ppo")
    with pytest.raises(UnknownNameError, match="known names are clear, continual-backprop"):
        agents.make("x", envs.make_sequence("cartpole-flip:demo", num_envs=2))
    config = small_config()
    config.memory.core = "hoppe"
    with pytest.raises((UnknownNameError, ConfigError), match="did you mean 'hope'"):
        agents.make("hope", envs.make_sequence("cartpole-flip:demo", num_envs=2), config=config)


def test_every_agent_has_one_line_of_doc() -> None:
    for name, spec in agents.AGENTS.items():
        assert spec.name == name and spec.doc and "\n" not in spec.doc
