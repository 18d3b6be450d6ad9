"""Task sequences: what changes, when it changes, what is told. NumPy and gymnasium only."""

from nl_agents.tasks.augment import AugmentObservation
from nl_agents.tasks.backend import Backend
from nl_agents.tasks.schedules import Blocks, Constant, Cyclic, GeometricHidden, Schedule
from nl_agents.tasks.sequence import TaskSequence
from nl_agents.tasks.single import SequenceEnv
from nl_agents.tasks.task import Preset, Suite, Task

__all__ = [
    "AugmentObservation",
    "Backend",
    "Blocks",
    "Constant",
    "Cyclic",
    "GeometricHidden",
    "Preset",
    "Schedule",
    "SequenceEnv",
    "Suite",
    "Task",
    "TaskSequence",
]
