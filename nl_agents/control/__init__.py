"""Level 2: a safe bandit that sets periods, rates and replay ratio from long-horizon returns."""

from nl_agents.control.controller import Decision, MetaController, replay
from nl_agents.control.epochs import EpochRule, settled_mean
from nl_agents.control.safety import SafetyRules

__all__ = ["Decision", "EpochRule", "MetaController", "SafetyRules", "replay", "settled_mean"]
