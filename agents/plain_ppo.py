"""PPO on a plain ReLU network without any norm: what the literature on loss of plasticity starts from."""

from __future__ import annotations

from nl_agents.agents import ppo
from nl_agents.config import AgentConfig, MemoryConfig

DOC = "PPO on a plain ReLU network: what plasticity methods are added to"


def make_config() -> AgentConfig:
    """As ``ppo``, but two hidden ReLU layers shared by actor and critic, with neither norm nor residual way."""
    config = ppo.make_config()
    config.memory = MemoryConfig(core="mlp", inputs="observation", activation="relu")
    return config
