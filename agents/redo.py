"""ReDo (Sokar et al. 2023): dormant units are born again, every 100 updates."""

from __future__ import annotations

from nl_agents.agents import plain_ppo
from nl_agents.config import AgentConfig

DOC = "plain PPO that recycles dormant units"


def make_config() -> AgentConfig:
    """As ``plain-ppo``; threshold, period and moments of the PPO runs of Dohare et al. (2024)."""
    config = plain_ppo.make_config()
    config.optimizer.name, config.optimizer.betas = "element-adamw", (0.99, 0.99)
    config.upkeep.redo_period, config.upkeep.redo_threshold = 100, 0.1
    return config
