"""Concatenated ReLU (Abbas et al. 2023): a unit that is silent in one half speaks in the other."""

from __future__ import annotations

from nl_agents.agents import plain_ppo
from nl_agents.config import AgentConfig

DOC = "plain PPO with concatenated ReLUs"


def make_config() -> AgentConfig:
    """As ``plain-ppo``; layers are half as wide, so that as many features pass on (the source doubles them)."""
    config = plain_ppo.make_config()
    config.memory.activation = "crelu"
    return config
