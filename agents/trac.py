"""TRAC (Muppidi et al. 2024): a parameter-free tuner scales how far AdamW leads from the first weights."""

from __future__ import annotations

from nl_agents.agents import plain_ppo
from nl_agents.config import AgentConfig

DOC = "plain PPO with the TRAC optimizer"


def make_config() -> AgentConfig:
    """As ``plain-ppo``, with TRAC around AdamW and the source's six betas."""
    config = plain_ppo.make_config()
    config.optimizer.name = "trac"
    return config
