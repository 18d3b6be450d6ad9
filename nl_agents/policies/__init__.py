"""Encoder, memory core and heads joined into one actor-critic."""

from __future__ import annotations

from nl_agents.policies.actions import ActionSpec as ActionSpec
from nl_agents.policies.memory_policy import MemoryPolicy as MemoryPolicy
from nl_agents.policies.memory_policy import PolicyInput as PolicyInput
from nl_agents.policies.memory_policy import input_size as input_size
from nl_agents.policies.observations import ObservationCodec as ObservationCodec
from nl_agents.policies.permanent import PermanentTransientPolicy as PermanentTransientPolicy
