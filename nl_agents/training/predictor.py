"""Acting without learning, with SB3's ``predict`` signature."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nl_agents.errors import StateMismatchError
from nl_agents.memory import StateCodec
from nl_agents.policies import MemoryPolicy, PolicyInput


class AgentState(NamedTuple):
    """What ``predict`` carries from step to step: packed memory [B, S] and the features of the last action [B, A].

    Where a codec keeps the memory (``Agent.serve``) it is the codec's bytes, uint8 [B, N].
    """

    memory: NDArray[np.float32] | NDArray[np.uint8]
    last_action: NDArray[np.float32]


class Predictor:
    """Runs a policy step by step for a caller who carries the state. Its randomness is its own: it disturbs no life.

    A non-finite observation is not shown to the policy: that step leaves the memory as it was.

    Args:
        policy: acts.
        space: observation space of one environment.
        seed: of sampled actions.
        codec: how the caller is given memory to carry; None hands it out as it is.
    """

    def __init__(self, policy: MemoryPolicy, space: gym.Space[Any], seed: int, codec: StateCodec | None = None) -> None:
        self.policy, self.space, self.codec = policy, space, codec
        self.device = policy.mean.device
        self.generator = torch.Generator(self.device).manual_seed(seed)

    @torch.no_grad()
    def __call__(
        self,
        observation: Any,
        state: AgentState | tuple[Any, ...] | None,
        episode_start: NDArray[np.bool_] | None,
        deterministic: bool,
        reward: NDArray[np.float32] | float | None,
    ) -> tuple[NDArray[Any], AgentState]:
        """See ``Agent.predict``."""
        policy, device = self.policy, self.device
        single = _is_single(observation, self.space)
        rows = self._rows(_batched(observation) if single else observation)
        count = len(rows)
        seen = np.isfinite(rows).all(axis=1)
        rows[~seen] = 0
        if state is None:
            memory = policy.core.initial_state(count, device)
            last_action = torch.zeros(count, policy.actions.size, device=device)
        else:
            packed = self._packed(np.asarray(state[0]))
            last_action = torch.as_tensor(np.asarray(state[1]), dtype=torch.float32).to(device)
            if packed.shape[0] != count:
                raise StateMismatchError(
                    f"the state holds {packed.shape[0]} streams and the observation {count}; hand in the state of "
                    "these streams, or None for newborn ones"
                )
            memory = policy.core.unpack(packed)
        starts = np.full(count, state is None)
        if episode_start is not None:
            starts[:] = episode_start
        rewards = np.full(count, 0.0 if reward is None else reward, np.float32)
        parts = (torch.from_numpy(part).to(device).unsqueeze(0) for part in (rows, rewards, starts, seen))
        packed_rows, last_reward, is_first, is_valid = parts
        given = PolicyInput(packed_rows, last_action.unsqueeze(0), last_reward, is_first, is_valid)
        output, memory = policy(given, memory)
        chosen = policy.actions.sample(output.parameters[0], None if deterministic else self.generator)
        actions = policy.actions.to_env(chosen)
        packed = policy.core.pack(memory)
        kept = packed if self.codec is None else self.codec.encode(packed)
        carried = AgentState(kept.cpu().numpy(), policy.actions.features(chosen).cpu().numpy())
        return (actions[0] if single else actions), carried

    def _packed(self, memory: NDArray[Any]) -> Tensor:
        """The packed memory [B, S] that a caller handed in, coded or plain."""
        if self.codec is None:
            return torch.as_tensor(memory, dtype=torch.float32).to(self.device)
        given = torch.as_tensor(memory).to(self.device)
        if given.is_floating_point():  # of agent.memory_state(): taken up in the codec's form
            given = self.codec.encode(given)
        return self.codec.decode(given)

    def _rows(self, batch: Any) -> NDArray[Any]:
        codec = self.policy.codec
        leaf = batch if codec.parts[0].key is None else batch[codec.parts[0].key]
        rows: NDArray[Any] = torch.zeros(len(np.asarray(leaf)), codec.row_size, dtype=codec.dtype).numpy()
        codec.pack(batch, rows)
        return rows


def _batched(observation: Any) -> Any:
    """One observation as a batch of one."""
    if isinstance(observation, dict):
        return {key: np.asarray(value)[None] for key, value in observation.items()}
    return np.asarray(observation)[None]


def _is_single(observation: Any, space: gym.Space[Any]) -> bool:
    """Whether this is one observation and not a batch."""
    if isinstance(space, gym.spaces.Dict):
        key = next(key for key, leaf in space.spaces.items() if not isinstance(leaf, gym.spaces.Text))
        return np.asarray(observation[key]).ndim == len(space.spaces[key].shape or ())
    return np.asarray(observation).ndim == len(space.shape or ())
