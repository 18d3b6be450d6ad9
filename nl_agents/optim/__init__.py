"""Optimizers that remember: deep momentum behind a guard, and the pure rules it is made of."""

from nl_agents.optim.deep_momentum import DeepMomentum
from nl_agents.optim.dgd import delta_gradient_level, delta_gradient_step
from nl_agents.optim.gradient_memory import MemoryOptions
from nl_agents.optim.guarded_adamw import GuardedAdamW
from nl_agents.optim.levels import optimizer_levels

__all__ = [
    "DeepMomentum",
    "GuardedAdamW",
    "MemoryOptions",
    "delta_gradient_level",
    "delta_gradient_step",
    "optimizer_levels",
]
