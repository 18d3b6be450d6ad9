"""Whole agents, one page each, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nl_agents.agents import (
    clear,
    continual_backprop,
    crelu,
    ewc,
    expert,
    hope,
    l2_init,
    layer_norm,
    online_ewc,
    permanent_transient,
    plain_ppo,
    ppo,
    random_policy,
    recurrent_ppo,
    redo,
    reset_at_switch,
    rl2,
    shrink_and_perturb,
    trac,
)
from nl_agents.config import AgentConfig, apply_options
from nl_agents.errors import ConfigError, PrivilegeError, UnknownNameError
from nl_agents.training.agent import Agent, read_agent_file


@dataclass(frozen=True)
class AgentSpec:
    """How an agent is made and what it must be told.

    Args:
        name: how commands call it.
        doc: one line.
        make_config: its default options.
        needs_boundary: must be told where tasks change.
        needs_task_id: must be told which task runs.
    """

    name: str
    doc: str
    make_config: Callable[[], AgentConfig]
    needs_boundary: bool = False
    needs_task_id: bool = False


AGENTS: dict[str, AgentSpec] = {
    spec.name: spec
    for spec in (
        AgentSpec("hope", hope.DOC, hope.make_config),
        AgentSpec("ppo", ppo.DOC, ppo.make_config),
        AgentSpec("recurrent-ppo", recurrent_ppo.DOC, recurrent_ppo.make_config),
        AgentSpec("rl2", rl2.DOC, rl2.make_config),
        AgentSpec("clear", clear.DOC, clear.make_config),
        AgentSpec("permanent-transient", permanent_transient.DOC, permanent_transient.make_config),
        AgentSpec("plain-ppo", plain_ppo.DOC, plain_ppo.make_config),
        AgentSpec("layer-norm", layer_norm.DOC, layer_norm.make_config),
        AgentSpec("crelu", crelu.DOC, crelu.make_config),
        AgentSpec("l2-init", l2_init.DOC, l2_init.make_config),
        AgentSpec("shrink-and-perturb", shrink_and_perturb.DOC, shrink_and_perturb.make_config),
        AgentSpec("redo", redo.DOC, redo.make_config),
        AgentSpec("continual-backprop", continual_backprop.DOC, continual_backprop.make_config),
        AgentSpec("trac", trac.DOC, trac.make_config),
        AgentSpec("random", random_policy.DOC, random_policy.make_config),
        AgentSpec("reset-at-switch", reset_at_switch.DOC, reset_at_switch.make_config, needs_boundary=True),
        AgentSpec("ewc", ewc.DOC, ewc.make_config, needs_boundary=True),
        AgentSpec("online-ewc", online_ewc.DOC, online_ewc.make_config, needs_boundary=True),
        AgentSpec("expert", expert.DOC, expert.make_config, needs_task_id=True),
    )
}


def spec(name: str) -> AgentSpec:
    """Returns an agent's entry; UnknownNameError lists the near names."""
    if name not in AGENTS:
        raise UnknownNameError("agent", name, AGENTS)
    return AGENTS[name]


def config(name: str) -> AgentConfig:
    """Returns an agent's default options."""
    return spec(name).make_config()


def make(name: str, env: Any, *, seed: int = 0, device: str = "auto", config: AgentConfig | None = None) -> Agent:
    """Builds an agent for an environment.

    Args:
        name: registered name.
        env: ``gymnasium.vector.VectorEnv``.
        seed: seed of everything but the environment.
        device: "auto", "cpu" or "cuda".
        config: options; None means the agent's own defaults with what the environment's suite recommends for all
            (``env.recommended``; behind wrappers ``env.unwrapped``'s, without ``memory.grid`` where the observation is
            no longer the suite's own).

    Raises:
        UnknownNameError: no such agent.
        PrivilegeError: the agent must be told boundaries and ``env`` tells none.
    """
    entry = spec(name)
    level = getattr(env.unwrapped, "info_level", "hidden")
    if entry.needs_boundary and level == "hidden":
        raise PrivilegeError(
            f"agent {name!r} must be told where tasks change, and this environment tells nothing (info='hidden'); "
            "build it with info='notified' (command line: --privileged) to run it as a privileged control"
        )
    if entry.needs_task_id and level != "task-id":
        raise PrivilegeError(f"agent {name!r} must be told the task; build the environment with info='task-id'")
    if config is None:
        config = apply_options(entry.make_config(), _recommended(env))
    return Agent(
        name,
        env,
        config,
        seed=seed,
        device=device,
        needs_boundary=entry.needs_boundary,
        needs_task_id=entry.needs_task_id,
    )


def load(path: str | os.PathLike[str], env: Any = None, device: str = "auto") -> Agent:
    """Loads what ``Agent.save`` wrote.

    With an environment of as many streams as at the saving, the live memories go on in it (episodes begin anew).

    Raises:
        CheckpointError: the file is corrupt, foreign or of another version.
        ConfigError: the environment has other spaces than the agent.
    """
    tree = read_agent_file(path)
    entry = spec(tree["agent"])
    if env is not None:
        for mine, theirs in zip(tree["spaces"], (env.single_observation_space, env.single_action_space), strict=True):
            if mine != theirs:
                raise ConfigError(f"the agent was built for space {mine}, the environment has {theirs}")
    agent = Agent(
        tree["agent"],
        env,
        tree["config"],
        seed=tree["seed"],
        device=device,
        spaces=tree["spaces"],
        needs_boundary=entry.needs_boundary,
        needs_task_id=entry.needs_task_id,
    )
    state = tree["state"]
    streams = None if env is None else env.num_envs
    if state["actor"] is not None and len(state["actor"]["rows"]) != streams:
        state["actor"] = None
    agent.load_state_dict(state)
    if agent.actor is not None:
        agent.actor.started = False
    return agent


def _recommended(env: Any) -> dict[str, Any]:
    """What the suite of an environment, or of the one that it wraps, recommends to all agents."""
    found = dict(getattr(env.unwrapped, "recommended", {}))
    if env.single_observation_space != env.unwrapped.single_observation_space:
        found.pop("memory.grid", None)
    return found
