"""Feed-forward PPO: sees the observation alone, remembers nothing, one AdamW on fresh chunks."""

from __future__ import annotations

from nl_agents.config import AgentConfig, ControlConfig, MemoryConfig, OptimizerConfig, PPOConfig, ReplayConfig

DOC = "feed-forward PPO: no memory, no replay"


def make_config() -> AgentConfig:
    """PPO in the same trainer."""
    return AgentConfig(
        memory=MemoryConfig(core="feed-forward", inputs="observation"),
        ppo=PPOConfig(prediction=0.0),
        optimizer=OptimizerConfig(name="adamw"),
        replay=ReplayConfig(ratio=0.0),
        control=ControlConfig(enabled=False),
    )
