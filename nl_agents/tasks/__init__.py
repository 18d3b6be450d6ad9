"""Task sequences: what changes, when it changes, what is told. NumPy and gymnasium only."""

from nl_agents.tasks.augment import AugmentObservation
from nl_agents.tasks.backend import Backend
from nl_agents.tasks.chains import Curriculum, Markov
from nl_agents.tasks.drifts import Drift, Linear, OrnsteinUhlenbeck, RandomWalk, Sigmoid, Sine
from nl_agents.tasks.per_episode import PerEpisode
from nl_agents.tasks.schedules import Blocks, Constant, Cyclic, GeometricHidden, Schedule, Spans
from nl_agents.tasks.sequence import TaskSequence
from nl_agents.tasks.single import SequenceEnv
from nl_agents.tasks.task import Preset, Suite, Task

__all__ = [
    "AugmentObservation",
    "Backend",
    "Blocks",
    "Constant",
    "Curriculum",
    "Cyclic",
    "Drift",
    "GeometricHidden",
    "Linear",
    "Markov",
    "OrnsteinUhlenbeck",
    "PerEpisode",
    "Preset",
    "RandomWalk",
    "Schedule",
    "SequenceEnv",
    "Sigmoid",
    "Sine",
    "Spans",
    "Suite",
    "Task",
    "TaskSequence",
]
