"""CLEAR (Rolnick et al. 2019) around PPO: half of every minibatch is replayed, with V-trace and cloning of all."""

from __future__ import annotations

from nl_agents.agents import ppo
from nl_agents.config import AgentConfig, ReplayConfig

DOC = "PPO with CLEAR's replay: V-trace and cloning from a uniform sample of the whole life"


def make_config() -> AgentConfig:
    """As ``ppo``; weights of the source. Fresh chunks go through PPO, where the source has V-trace for both kinds."""
    config = ppo.make_config()
    config.replay = ReplayConfig(
        ratio=1.0,
        reservoir=1024,
        recent=0,
        burn_in=0,
        policy=1.0,
        clone_policy=0.01,
        clone_value=0.005,
        gradient="v-trace",
        clone="all",
    )
    return config
