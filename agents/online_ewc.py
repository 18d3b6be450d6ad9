"""A privileged control: online EWC (Schwarz et al. 2018), told where tasks end; old importance fades."""

from __future__ import annotations

from nl_agents.agents import ewc
from nl_agents.config import AgentConfig

DOC = "privileged control: EWC in its online form, in which old importance fades"


def make_config() -> AgentConfig:
    """As ``ewc``; a decay of .95 at every switch."""
    config = ewc.make_config()
    config.upkeep.ewc_decay = 0.95
    return config
