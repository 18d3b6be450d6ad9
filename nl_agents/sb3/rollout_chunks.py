"""The rollout of FastRecurrentPPO: blocks [T, B] cut by time, with the memory kept at the start of each chunk only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from nl_agents.rl.returns import generalised_advantages


class ChunkBatch(NamedTuple):
    """A minibatch of m chunks of L steps, time first; N = L * m rows where flattened."""

    observations: PyTorchObs  # [N, ...]
    actions: Tensor  # [N, ...]
    old_values: Tensor  # [N]
    old_log_probs: Tensor  # [N]
    advantages: Tensor  # [N]
    returns: Tensor  # [N]
    trains: Tensor  # [N] bool
    is_first: Tensor  # [L, m] bool
    is_valid: Tensor | None  # [L, m] bool, None: all
    memory: Tensor  # [m, S] packed, before the first step
    phase: int | None  # step clock at the first step, None: chunks differ


class ChunkBuffer:
    """Experience of one rollout: T steps of B streams in chunks of L steps, the last one padded with invalid steps.

    A row enters a loss only if it ``trains``: it lies in the rollout, observation and reward are finite, and what
    it led to can be valued.

    Args:
        num_steps: T, env steps of a stream in a rollout.
        chunk_steps: L, steps of a chunk and of back-propagation through time.
        num_envs: B.
        observation_space: of one stream.
        action_space: of one stream.
        memory_size: S, floats of a stream's packed memory.
        device: where the blocks lie.
    """

    advantages: Tensor
    returns: Tensor

    def __init__(
        self,
        num_steps: int,
        chunk_steps: int,
        num_envs: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        memory_size: int,
        device: torch.device,
    ) -> None:
        self.num_steps, self.chunk_steps, self.num_envs, self.device = num_steps, chunk_steps, num_envs, device
        self.num_chunks = -(-num_steps // chunk_steps)
        rows = (self.num_chunks * chunk_steps, num_envs)
        self.observations = _allocate(observation_space, rows, device)
        self.discrete = isinstance(action_space, spaces.Discrete)
        action_shape = () if self.discrete else (get_action_dim(action_space),)
        action_type = torch.int64 if self.discrete else torch.float32
        self.actions = torch.zeros(*rows, *action_shape, dtype=action_type, device=device)
        for name in ("rewards", "values", "log_probs", "bootstrap_values"):
            setattr(self, name, torch.zeros(rows, device=device))
        for name in ("is_first", "is_valid", "trains", "terminated", "truncated"):
            setattr(self, name, torch.zeros(rows, dtype=torch.bool, device=device))
        self.memory = torch.zeros(self.num_chunks, num_envs, memory_size, device=device)
        self.phases = [0] * self.num_chunks

    rewards: Tensor
    values: Tensor
    log_probs: Tensor
    bootstrap_values: Tensor
    is_first: Tensor
    is_valid: Tensor
    trains: Tensor
    terminated: Tensor
    truncated: Tensor

    @property
    def num_bytes(self) -> int:
        """What the memories of a rollout take: chunks x B x S floats (RecurrentPPO: steps x B x S and padding)."""
        return self.memory.numel() * self.memory.element_size()

    def put_observation(self, step: int, observation: Any) -> PyTorchObs:
        """Writes the batch of a step and returns it as tensors, to act on."""
        if isinstance(self.observations, dict):
            for key, block in self.observations.items():
                block[step] = torch.as_tensor(observation[key]).to(self.device)
            return {key: block[step] for key, block in self.observations.items()}
        self.observations[step] = torch.as_tensor(observation).to(self.device)
        return self.observations[step]

    def finish(self, gamma: float, gae_lambda: float) -> None:
        """Computes advantages and returns once ``values`` and ``bootstrap_values`` stand."""
        lived = slice(self.num_steps)
        advantages, returns = generalised_advantages(
            self.rewards[lived],
            self.values[lived],
            self.bootstrap_values[lived],
            self.terminated[lived],
            self.truncated[lived],
            self.trains[lived],
            gamma,
            gae_lambda,
        )
        self.advantages, self.returns = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self.advantages[lived], self.returns[lived] = advantages, returns

    def batches(self, batch_size: int | None) -> Iterator[ChunkBatch]:
        """Yields all chunks in a random order, as many at a time as make ``batch_size`` steps (at least one)."""
        total = self.num_chunks * self.num_envs
        each = total if batch_size is None else max(1, batch_size // self.chunk_steps)
        order = torch.randperm(total)
        for picked in order.split(each):
            yield self._batch(picked // self.num_envs, picked % self.num_envs)

    def _batch(self, chunk: Tensor, stream: Tensor) -> ChunkBatch:
        phases = {self.phases[index] for index in chunk.tolist()}
        chunk, stream = chunk.to(self.device), stream.to(self.device)

        def cut(block: Tensor) -> Tensor:  # [T, B, ...] -> [L, m, ...]
            split = block.view(self.num_chunks, self.chunk_steps, *block.shape[1:])
            return split[chunk, :, stream].transpose(0, 1)

        def rows(block: Tensor) -> Tensor:
            return cut(block).flatten(0, 1)

        seen = self.observations
        observations = {key: rows(block) for key, block in seen.items()} if isinstance(seen, dict) else rows(seen)
        is_valid = cut(self.is_valid)
        return ChunkBatch(
            observations,
            rows(self.actions),
            rows(self.values),
            rows(self.log_probs),
            rows(self.advantages),
            rows(self.returns),
            rows(self.trains),
            cut(self.is_first).contiguous(),
            None if bool(is_valid.all()) else is_valid.contiguous(),
            self.memory[chunk, stream],
            phases.pop() if len(phases) == 1 else None,
        )


def _allocate(space: spaces.Space[Any], rows: tuple[int, int], device: torch.device) -> PyTorchObs:
    """Empty blocks for the observations of a space; uint8 and integers stay what they are, floats are float32."""
    if isinstance(space, spaces.Dict):
        return {key: _leaf(entry, rows, device) for key, entry in space.spaces.items()}
    return _leaf(space, rows, device)


def _leaf(space: spaces.Space[Any], rows: tuple[int, int], device: torch.device) -> Tensor:
    shape = () if isinstance(space, spaces.Discrete) else get_obs_shape(space)
    assert isinstance(shape, tuple)
    kind = np.dtype(space.dtype)
    dtype = torch.float32 if kind.kind == "f" else torch.from_numpy(np.zeros(0, kind)).dtype
    return torch.zeros(*rows, *shape, dtype=dtype, device=device)
