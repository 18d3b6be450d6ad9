"""Replay of sequences for recurrent off-policy learning: steps in their order, and the memory at stored starts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from nl_agents.errors import ConfigError
from nl_agents.sb3.rollout_chunks import _allocate, _put


class SequenceBatch(NamedTuple):
    """m windows of W + 1 steps, time first: the last row only says what the one before it led to."""

    observations: PyTorchObs  # [W + 1, m, ...]
    actions: Tensor  # [W + 1, m] int64, or [W + 1, m, A] float where they are continuous
    rewards: Tensor  # [W + 1, m], 0 where not finite
    terminated: Tensor  # [W + 1, m] bool
    is_first: Tensor  # [W + 1, m] bool
    is_valid: Tensor  # [W + 1, m] bool: the observation was finite, so the memory took the step
    is_paid: Tensor  # [W + 1, m] bool: the reward was finite
    memory: Tensor  # [m, S] packed, before the first step

    def trains(self, burn_in: int) -> Tensor:
        """Which steps behind the burn-in have a target [L, m]: all they are made of is finite and in the window."""
        rows, ahead = slice(burn_in, -1), slice(burn_in + 1, None)
        follows = self.terminated[rows] | (~self.is_first[ahead] & self.is_valid[ahead])
        return self.is_valid[rows] & self.is_paid[rows] & follows


class SequenceReplay(ReplayBuffer):
    """A ring of the last steps of B streams, row ``clock % capacity``; memories are kept where a window may begin.

    Windows begin at multiples of ``stride`` of the streams' step clock, so that cores which write by their clock see
    the same clock at every start. Nothing is stored twice: what a step led to is the next row's observation; where that
    begins an episode and the step did not terminate (a time limit, an environment made anew), the step is not learnt
    from.

    Args:
        buffer_size: steps over all streams, rounded down to whole strides.
        observation_space: of one stream.
        action_space: of one stream.
        device: where samples go; the ring lies on the host.
        n_envs: B.
        optimize_memory_usage: has no meaning here; accepted because Stable-Baselines3 passes it.
        stride: steps between two starts.
        window: W, steps of a sample.
        memory_size: S, floats of a stream's packed memory.

    Raises:
        ConfigError: room for fewer than two windows.
    """

    handle_timeout_termination = True

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        stride: int,
        window: int,
        memory_size: int,
    ) -> None:
        capacity = buffer_size // n_envs // stride * stride
        if capacity < 2 * (window + stride):
            raise ConfigError(
                f"buffer_size={buffer_size} is {buffer_size // n_envs} steps for each of {n_envs} streams; windows of "
                f"{window} steps need at least {2 * (window + stride) * n_envs}"
            )
        BaseBuffer.__init__(self, capacity, observation_space, action_space, device, n_envs)
        self.stride, self.window, self.clock, self.begun = stride, window, 0, 0
        rows, host = (capacity, n_envs), torch.device("cpu")
        self.blocks = _allocate(observation_space, rows, host)
        continuous = isinstance(action_space, spaces.Box)
        self.taken: NDArray[Any] = (
            np.zeros((*rows, self.action_dim), np.float32) if continuous else np.zeros(rows, np.int64)
        )
        self.paid = np.zeros(rows, np.float32)
        self.over, self.begins, self.sound = (np.zeros(rows, np.bool_) for _ in range(3))
        self.memories = torch.zeros(capacity // stride, n_envs, memory_size)
        self.kept = np.ones(capacity // stride, np.bool_)  # which of them lived

    def start(self, clock: int) -> None:
        """Sets the step clock of the first row, before anything is added."""
        self.clock = self.begun = clock

    @property
    def wants_memory(self) -> bool:
        """Whether a window may begin at the next row: then ``put`` needs the memory before it."""
        return self.clock % self.stride == 0

    def put(
        self,
        observation: Any,
        actions: NDArray[Any],
        rewards: NDArray[np.floating[Any]],
        terminated: NDArray[np.bool_],
        is_first: NDArray[np.bool_],
        is_valid: NDArray[np.bool_],
        memory: Tensor | None,
    ) -> None:
        """Adds one step of all streams; ``memory`` [B, S] where ``wants_memory``.

        A reward may be what it is; an observation that is not finite is blanked and not ``is_valid``.
        """
        row = self.clock % self.buffer_size
        for block, leaf in _pairs(self.blocks, observation):
            _put(block, row, leaf)
        self.taken[row], self.paid[row], self.over[row] = actions.reshape(self.taken[row].shape), rewards, terminated
        self.begins[row], self.sound[row] = is_first, is_valid
        if memory is not None:
            self.memories[row // self.stride], self.kept[row // self.stride] = memory.cpu(), True
        self._advance()

    def skip(self, steps: int) -> None:
        """Lets the step clock go on over steps that are not known: nothing is learnt from them, no window begins there.

        What comes behind them follows from nothing before.
        """
        for _ in range(steps):
            row = self.clock % self.buffer_size
            if self.wants_memory:
                self.kept[row // self.stride] = False
            self.begins[row], self.sound[row], self.over[row], self.paid[row] = True, False, False, 0.0
            self._advance()

    def _advance(self) -> None:
        self.clock += 1
        self.pos, self.full = self.clock % self.buffer_size, self.full or self.clock - self.begun >= self.buffer_size

    def starts(self) -> range:
        """Clocks at which a whole window begins that is still there."""
        oldest = max(self.begun, self.clock - self.buffer_size)
        first = -(-oldest // self.stride) * self.stride
        return range(first, self.clock - self.window, self.stride)

    def windows(self, count: int, env: VecNormalize | None = None) -> SequenceBatch | None:
        """Draws windows uniformly; None while there is none."""
        starts = np.asarray(self.starts(), np.int64)
        starts = starts[self.kept[starts % self.buffer_size // self.stride]]
        if not len(starts):
            return None
        begin = starts[np.random.randint(len(starts), size=count)]
        stream = np.random.randint(self.n_envs, size=count)
        rows = (begin + np.arange(self.window + 1)[:, None]) % self.buffer_size  # [W + 1, m]
        picked = (torch.from_numpy(rows), torch.from_numpy(np.broadcast_to(stream, rows.shape).copy()))
        seen: Any = {key: block[picked].numpy() for key, block in _named(self.blocks).items()}
        seen = self._normalize_obs(seen if isinstance(self.blocks, dict) else seen[""], env)
        shown = {key: torch.as_tensor(leaf).to(self.device) for key, leaf in _named(seen).items()}
        paid = self._normalize_reward(self.paid[rows, stream], env)
        good = np.isfinite(paid)
        columns = [self.taken[rows, stream], np.where(good, paid, 0), good]
        columns += [flags[rows, stream] for flags in (self.over, self.begins, self.sound)]
        actions, rewards, is_paid, over, begins, sound = (
            torch.from_numpy(column).to(self.device) for column in columns
        )
        kept = self.memories[torch.from_numpy(begin % self.buffer_size // self.stride), torch.from_numpy(stream)]
        observations = shown if isinstance(seen, dict) else shown[""]
        return SequenceBatch(observations, actions, rewards, over, begins, sound, is_paid, kept.to(self.device))


def _named(blocks: Any) -> dict[str, Any]:
    return blocks if isinstance(blocks, dict) else {"": blocks}


def _pairs(blocks: Any, observation: Any) -> list[tuple[Tensor, Any]]:
    seen = _named(observation)
    return [(block, seen[key]) for key, block in _named(blocks).items()]
