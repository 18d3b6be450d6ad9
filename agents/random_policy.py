"""The floor: acts at random and learns nothing."""

from __future__ import annotations

from nl_agents.agents import ppo
from nl_agents.config import AgentConfig

DOC = "acts at random, learns nothing"


def make_config() -> AgentConfig:
    """Uniform over a discrete space; in a Box every entry is N(0, 1), clipped to the box."""
    config = ppo.make_config()
    config.uniform = True
    return config
