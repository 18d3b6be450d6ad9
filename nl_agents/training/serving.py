"""Serving: a frozen copy of a policy that acts for many streams, each kept in few bytes, with chosen levels only."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from nl_agents.memory import make_codec
from nl_agents.memory.chosen_levels import leave_out
from nl_agents.policies import MemoryPolicy
from nl_agents.training.predictor import AgentState, Predictor


class Serving:
    """Acts with SB3's ``predict``; what a stream carries between two calls is its codec's bytes.

    A copy of the policy: the agent may go on learning beside it. A level that is left out is as on the day it was born
    (``nl_agents.memory.chosen_levels``): a CMS level passes its input on, heads read their meta-learned matrices and
    keep nothing. What a codec rounds off is rounded off at every step: a memory that changes by less than half a step
    of the codec at a time does not change at all.

    Args:
        policy: of the agent.
        space: observation space of one environment.
        seed: of sampled actions.
        codec: name of a state codec.
        without: names of levels to leave out.

    Raises:
        UnknownNameError: no such codec or level.
        ConfigError: a codec that cannot work on this core, a level that cannot be left out.
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        space: gym.Space[Any],
        seed: int,
        codec: str = "float32",
        without: Collection[str] = (),
    ) -> None:
        self.policy = copy.deepcopy(policy).requires_grad_(False)
        self.codec = make_codec(codec, self.policy.core, without)
        leave_out(self.policy.core, without)
        self._predictor = Predictor(self.policy, space, seed, self.codec)

    @property
    def bytes_per_stream(self) -> int:
        """Bytes of memory that a stream carries."""
        return self.codec.bytes_per_stream

    def predict(
        self,
        observation: Any,
        state: AgentState | tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
        reward: NDArray[np.float32] | float | None = None,
    ) -> tuple[NDArray[Any], AgentState]:
        """See ``Agent.predict``; ``state`` may also be an agent's ``memory_state()``.

        Raises:
            StateMismatchError: a state of another codec, core or number of streams.
            NonFiniteError: a memory that is not finite would have to be kept.
        """
        return self._predictor(observation, state, episode_start, deterministic, reward)
