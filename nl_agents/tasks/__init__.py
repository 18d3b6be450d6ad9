"""Task sequences: what changes, when it changes, what is told. NumPy and gymnasium only."""

from nl_agents.tasks.action_shifts import ActionGain, ActionPermutation, ActionSign
from nl_agents.tasks.augment import AugmentObservation
from nl_agents.tasks.backend import Backend
from nl_agents.tasks.chains import Curriculum, Markov
from nl_agents.tasks.clones import evaluation_clone, single_task
from nl_agents.tasks.drifts import Drift, Linear, Sigmoid, Sine
from nl_agents.tasks.observation_shifts import (
    Distractors,
    ObservationNoise,
    ObservationOffset,
    ObservationPermutation,
    ObservationWindow,
    RandomOffset,
)
from nl_agents.tasks.padding import padded
from nl_agents.tasks.per_episode import PerEpisode
from nl_agents.tasks.random_drifts import OrnsteinUhlenbeck, RandomLevel, RandomWalk, Steps
from nl_agents.tasks.schedules import Blocks, Constant, Cyclic, GeometricHidden, Schedule, Spans
from nl_agents.tasks.sequence import TaskSequence
from nl_agents.tasks.shifted_backend import ShiftedBackend, ShiftedTask
from nl_agents.tasks.shifts import Attribute, RewardScale, RewardSign, Shift
from nl_agents.tasks.single import SequenceEnv
from nl_agents.tasks.task import Preset, Suite, Task
from nl_agents.tasks.updates import FromUpdates

__all__ = [
    "ActionGain",
    "ActionPermutation",
    "ActionSign",
    "Attribute",
    "AugmentObservation",
    "Backend",
    "Blocks",
    "Constant",
    "Curriculum",
    "Cyclic",
    "Distractors",
    "Drift",
    "FromUpdates",
    "GeometricHidden",
    "Linear",
    "Markov",
    "ObservationNoise",
    "ObservationOffset",
    "ObservationPermutation",
    "ObservationWindow",
    "OrnsteinUhlenbeck",
    "PerEpisode",
    "Preset",
    "RandomLevel",
    "RandomOffset",
    "RandomWalk",
    "RewardScale",
    "RewardSign",
    "Schedule",
    "SequenceEnv",
    "Shift",
    "ShiftedBackend",
    "ShiftedTask",
    "Sigmoid",
    "Sine",
    "Spans",
    "Steps",
    "Suite",
    "Task",
    "TaskSequence",
    "evaluation_clone",
    "padded",
    "single_task",
]
