"""Optimizers that remember: deep momentum behind a guard, and the pure rules it is made of."""

from nl_agents.optim.deep_momentum import DeepMomentum
from nl_agents.optim.dgd import delta_gradient_level, delta_gradient_step
from nl_agents.optim.element_adamw import ElementAdamW
from nl_agents.optim.gradient_memory import MemoryOptions
from nl_agents.optim.guarded_adamw import GuardedAdamW
from nl_agents.optim.levels import optimizer_levels
from nl_agents.optim.trac import TracAdamW

__all__ = [
    "DeepMomentum",
    "ElementAdamW",
    "GuardedAdamW",
    "MemoryOptions",
    "TracAdamW",
    "delta_gradient_level",
    "delta_gradient_step",
    "optimizer_levels",
]
