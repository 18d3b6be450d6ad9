"""The rollout of FastRecurrentPPO: blocks [T, B] cut by time, with the memory kept at the start of each chunk only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from nl_agents.rl.returns import generalised_advantages

FLAGS = ("is_first", "is_valid", "trains", "terminated", "truncated")


class ChunkBatch(NamedTuple):
    """A minibatch of m chunks of L steps, time first; N = L * m rows where flattened."""

    observations: PyTorchObs  # [N, ...]
    actions: Tensor  # [N, ...]
    old_values: Tensor  # [N]
    old_log_probs: Tensor  # [N]
    advantages: Tensor  # [N]
    returns: Tensor  # [N]
    trains: Tensor | None  # [N] bool, None: all
    is_first: Tensor  # [L, m] bool
    is_valid: Tensor | None  # [L, m] bool, None: all
    memory: Tensor  # [m, S] packed, before the first step
    phase: int | None  # step clock at the first step, None: chunks differ


class ChunkBuffer:
    """Experience of one rollout: T steps of B streams in chunks of L steps, the last one padded with invalid steps.

    A row enters a loss only if it ``trains``: it lies in the rollout, observation and reward are finite, and what
    it led to can be valued. What a step writes goes to ``host``, numpy arrays; on a CPU the blocks share their memory,
    elsewhere ``finish`` takes them over.

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
        self.host: dict[str, NDArray[Any]] = {
            "actions": np.zeros((*rows, *action_shape), np.int64 if self.discrete else np.float32),
            **{name: np.zeros(rows, np.float32) for name in ("rewards", "values", "log_probs", "bootstrap_values")},
            **{name: np.zeros(rows, np.bool_) for name in FLAGS},
        }
        self._take_over()
        self.memory = torch.zeros(self.num_chunks, num_envs, memory_size, device=device)
        self.phases = [0] * self.num_chunks

    actions: Tensor
    rewards: Tensor
    values: Tensor
    log_probs: Tensor
    bootstrap_values: Tensor
    is_first: Tensor
    is_valid: Tensor
    trains: Tensor
    terminated: Tensor
    truncated: Tensor

    def _take_over(self) -> None:
        """Shows what the host has written as blocks on the device."""
        for name, written in self.host.items():
            setattr(self, name, torch.from_numpy(written).to(self.device))

    def begin(self) -> None:
        """Forgets which steps of the last rollout were lived."""
        for name in ("trains", "is_valid", "is_first"):
            self.host[name].fill(False)

    @property
    def num_bytes(self) -> int:
        """What the memories of a rollout take: chunks x B x S floats (RecurrentPPO: steps x B x S and padding)."""
        return self.memory.numel() * self.memory.element_size()

    def put_observation(self, step: int, observation: Any) -> PyTorchObs:
        """Writes the batch of a step and returns it as tensors, to act on."""
        if isinstance(self.observations, dict):
            return {key: _put(block, step, observation[key]) for key, block in self.observations.items()}
        return _put(self.observations, step, observation)

    def finish(self, gamma: float, gae_lambda: float) -> None:
        """Computes advantages and returns once ``values`` and ``bootstrap_values`` stand."""
        if self.device.type != "cpu":
            self._take_over()
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
        # row of step l of the chosen chunk m in a block laid flat
        first = chunk * self.chunk_steps * self.num_envs + stream
        steps = torch.arange(self.chunk_steps, device=self.device) * self.num_envs
        place = (steps.unsqueeze(1) + first).flatten()  # [L * m]

        def rows(block: Tensor) -> Tensor:
            return block.flatten(0, 1).index_select(0, place)

        def grid(flags: Tensor) -> Tensor:
            return rows(flags).view(self.chunk_steps, -1)

        seen = self.observations
        observations = {key: rows(block) for key, block in seen.items()} if isinstance(seen, dict) else rows(seen)
        is_valid, trains = grid(self.is_valid), rows(self.trains)
        return ChunkBatch(
            observations,
            rows(self.actions),
            rows(self.values),
            rows(self.log_probs),
            rows(self.advantages),
            rows(self.returns),
            None if bool(trains.all()) else trains,
            grid(self.is_first),
            None if bool(is_valid.all()) else is_valid,
            self.memory[chunk, stream],
            phases.pop() if len(phases) == 1 else None,
        )


def _put(block: Tensor, step: int, observation: Any) -> Tensor:
    """Writes the batch of a step into a block [T, B, ...] and returns it."""
    if block.is_cpu:
        shown = block[step]
        np.copyto(shown.numpy(), observation, casting="unsafe")
        return shown
    block[step] = torch.as_tensor(observation).to(block.device)
    return block[step]


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
