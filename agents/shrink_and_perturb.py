"""Soft shrink-and-perturb with layer norm (Juliani & Ash 2024; the idea: Ash & Adams 2020)."""

from __future__ import annotations

from nl_agents.agents import layer_norm
from nl_agents.config import AgentConfig

DOC = "plain PPO with layer norms; a little of a newborn's weights comes in at every update"


def make_config() -> AgentConfig:
    """As ``layer-norm``; 1e-5 an update, ten times the source's 1e-6: our lives have a tenth of its updates."""
    config = layer_norm.make_config()
    config.upkeep.shrink = config.upkeep.perturb = 1e-5
    return config
