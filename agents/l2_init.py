"""L2-init (Kumar et al. 2023): weights are pulled back to where they began."""

from __future__ import annotations

from nl_agents.agents import plain_ppo
from nl_agents.config import AgentConfig

DOC = "plain PPO whose weights are pulled back to their first values"


def make_config() -> AgentConfig:
    """As ``plain-ppo``; weight 1e-3 on the *sum* of squares, inside the authors' range 1e-2 ... 1e-5."""
    config = plain_ppo.make_config()
    config.upkeep.l2_init = 1e-3
    return config
