"""A layer norm before every ReLU (Lyle et al. 2023; on-policy: Juliani & Ash 2024)."""

from __future__ import annotations

from nl_agents.agents import plain_ppo
from nl_agents.config import AgentConfig

DOC = "plain PPO with a layer norm before every ReLU"


def make_config() -> AgentConfig:
    """As ``plain-ppo``, normed."""
    config = plain_ppo.make_config()
    config.memory.layer_norm = True
    return config
