"""Recurrent PPO: an LSTM cleared at every episode, with last action and reward as inputs."""

from __future__ import annotations

from nl_agents.agents import ppo
from nl_agents.config import AgentConfig, MemoryConfig

DOC = "PPO with an LSTM that is cleared at every episode"


def make_config() -> AgentConfig:
    """As ``ppo``, with memory inside an episode."""
    config = ppo.make_config()
    config.memory = MemoryConfig(core="lstm", scope="episode")
    return config
