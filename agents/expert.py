"""A privileged control: one PPO for every task, told which task runs; nothing can be forgotten or interfere."""

from __future__ import annotations

from nl_agents.agents import ppo
from nl_agents.config import AgentConfig

DOC = "privileged control: a PPO of its own for every task, told which task runs"


def make_config() -> AgentConfig:
    """As ``ppo``; the learners are the registry's ``needs_task_id``."""
    return ppo.make_config()
