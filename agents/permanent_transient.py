"""Permanent and transient values (Anand & Precup 2023, PT-DQN), as the critic of PPO.

PT-DQN itself does not fit this trainer, which is on-policy and draws actions from an actor: it has no greedy policy
over action values, no target network and no one-step replay. What is kept is its idea: values that are the sum of a
slow and a fast part, and consolidation at a fixed period, without being told of switches.
"""

from __future__ import annotations

from nl_agents.agents import ppo
from nl_agents.config import AgentConfig

DOC = "PPO whose values have a permanent and a transient part"


def make_config() -> AgentConfig:
    """As ``ppo``; a consolidation every 8 rollouts, decay .75 as in the source's larger runs."""
    config = ppo.make_config()
    config.upkeep.permanent_every, config.upkeep.permanent_lr = 8, 1e-4
    config.upkeep.transient_decay = 0.75
    return config
