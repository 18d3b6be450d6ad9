"""A privileged control: elastic weight consolidation (Kirkpatrick et al. 2017), told where tasks end."""

from __future__ import annotations

from nl_agents.agents import ppo
from nl_agents.config import AgentConfig

DOC = "privileged control: PPO whose weights are held where earlier tasks needed them"


def make_config() -> AgentConfig:
    """As ``ppo``; weight 500, CORA's."""
    config = ppo.make_config()
    config.upkeep.ewc = 500.0
    return config
