"""Level 1: replay, the inner loop, and learner-time levels."""

from __future__ import annotations

from nl_agents.learning.elastic import ElasticPolicy as ElasticPolicy
from nl_agents.learning.learner import InnerLearner as InnerLearner
from nl_agents.learning.levels import LevelScheduler as LevelScheduler
from nl_agents.learning.permanent import PermanentValues as PermanentValues
from nl_agents.learning.replay import ReplayBuffer as ReplayBuffer
from nl_agents.learning.rollout import Rollout as Rollout
from nl_agents.learning.rollout import allocate as allocate
from nl_agents.learning.stacking import StackedLevels as StackedLevels
from nl_agents.learning.stacking import stack_levels as stack_levels
from nl_agents.learning.statistics import ScaleKeeper as ScaleKeeper
