"""Upkeep: what keeps a network able to learn, and able to do what it has learnt; for any torch module."""

from nl_agents.upkeep.attach import attach
from nl_agents.upkeep.base import Upkeep
from nl_agents.upkeep.continual_backprop import ContinualBackprop
from nl_agents.upkeep.elastic import ElasticWeights
from nl_agents.upkeep.initial_pull import InitialPull
from nl_agents.upkeep.redo import ReDo
from nl_agents.upkeep.shrink_perturb import ShrinkPerturb
from nl_agents.upkeep.units import UnitLayer, chain

__all__ = [
    "ContinualBackprop",
    "ElasticWeights",
    "InitialPull",
    "ReDo",
    "ShrinkPerturb",
    "UnitLayer",
    "Upkeep",
    "attach",
    "chain",
]
