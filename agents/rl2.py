"""RL^2 (Duan et al. 2016): an LSTM that is never cleared, with last action and reward as inputs."""

from __future__ import annotations

from nl_agents.agents import ppo
from nl_agents.config import AgentConfig, MemoryConfig

DOC = "PPO with an LSTM that is never cleared: memory across episodes"


def make_config() -> AgentConfig:
    """As ``recurrent-ppo``, but memory goes on across episodes."""
    config = ppo.make_config()
    config.memory = MemoryConfig(core="lstm", scope="never")
    return config
