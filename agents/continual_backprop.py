"""Continual backprop (Dohare et al. 2024): at every update a very small share of units is born again."""

from __future__ import annotations

from nl_agents.agents import plain_ppo
from nl_agents.config import AgentConfig

DOC = "plain PPO that keeps replacing its least useful units"


def make_config() -> AgentConfig:
    """As ``plain-ppo``; rate, decay, moments and weight decay of the source, maturity a tenth of it: lives are shorter.

    The source's weight decay is coupled to the gradient, ours is decoupled.
    """
    config = plain_ppo.make_config()
    config.optimizer.name, config.optimizer.betas = "element-adamw", (0.99, 0.99)
    config.optimizer.weight_decay = 1e-4
    config.upkeep.replacement, config.upkeep.maturity, config.upkeep.utility_decay = 1e-4, 1_000, 0.99
    return config
