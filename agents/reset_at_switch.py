"""A privileged control: feed-forward PPO that is told of every task switch and starts over there."""

from __future__ import annotations

from nl_agents.agents import ppo
from nl_agents.config import AgentConfig

DOC = "privileged control: PPO that is told every switch and starts over there"


def make_config() -> AgentConfig:
    """As ``ppo``; the fresh start is the registry's ``needs_boundary``."""
    return ppo.make_config()
