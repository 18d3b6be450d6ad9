"""Lifetime replay: a ring of recent chunks and a uniform sample of the whole life."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nl_agents.learning.rollout import Rollout


class ReplayBuffer:
    """Keeps chunks of one stream and T steps, with behaviour log-probabilities, distributions, values and start states.

    Two stores share one block of memory: the newest ``recent`` chunks in a ring, and a reservoir (Vitter 1985,
    algorithm R) in which every chunk that has left the ring lies with equal probability. A chunk enters the reservoir's
    lottery when it leaves the ring, so that no chunk stands in both.

    Args:
        recent: chunks of the ring, >= 0.
        reservoir: chunks of the reservoir, >= 0.
        generator: randomness of the reservoir and of sampling.
    """

    def __init__(self, recent: int, reservoir: int, generator: np.random.Generator) -> None:
        if recent < 0 or reservoir < 0 or recent + reservoir < 1:
            raise ValueError(
                f"recent and reservoir must be >= 0 and not both 0, got {recent} and {reservoir}; "
                "switch replay off by a ratio of 0 instead"
            )
        self.recent, self.reservoir, self.generator = recent, reservoir, generator
        self.store: Rollout | None = None  # blocks [capacity, T, ...]
        self.born: Tensor = torch.zeros(recent + reservoir, dtype=torch.int64)  # chunk numbers, host
        self.clocks: list[int] = [0] * (recent + reservoir)  # step clock at each chunk's start, host
        self.count = 0  # chunks ever added
        self.offered = 0  # chunks that entered the reservoir's lottery

    @property
    def size(self) -> int:
        """Chunks held now."""
        return min(self.count, self.recent) + min(self.offered, self.reservoir)

    def add(self, rollout: Rollout, clock: int) -> None:
        """Adds every stream of a rollout as one chunk; ``clock`` is the core's step clock at its start."""
        if self.store is None:
            capacity = self.recent + self.reservoir
            blocks = [block.new_zeros(capacity, block.shape[0], *block.shape[2:]) for block in rollout[:-1]]
            self.store = Rollout._make((*blocks, rollout.state.new_zeros(capacity, *rollout.state.shape[1:])))
        for stream in range(rollout.rows.shape[1]):
            slot = self._slot()
            if slot is None:
                continue
            for block, source in zip(self.store[:-1], rollout[:-1], strict=True):
                block[slot] = source[:, stream]
            self.store.state[slot] = rollout.state[stream]
            self.born[slot], self.clocks[slot] = self.count - 1, clock

    def _slot(self) -> int | None:
        """Where the next chunk goes; the chunk it displaces from the ring plays the reservoir's lottery."""
        number = self.count
        self.count += 1
        if self.recent == 0:
            return self._lottery()
        slot = number % self.recent
        if number >= self.recent:
            home = self._lottery()
            if home is not None:
                assert self.store is not None
                for block in self.store:
                    block[home] = block[slot]
                self.born[home], self.clocks[home] = self.born[slot], self.clocks[slot]
        return slot

    def _lottery(self) -> int | None:
        if self.reservoir == 0:
            return None
        number = self.offered
        self.offered += 1
        place = number if number < self.reservoir else int(self.generator.integers(0, number + 1))
        return self.recent + place if place < self.reservoir else None

    def sample(self, count: int) -> tuple[Rollout, int | None, float]:
        """Draws ``count`` chunks uniformly from all held, without repetition where possible.

        Returns:
            The chunks as a rollout [T, count], their common step clock (None if they differ), mean age in chunks.
        """
        assert self.store is not None and self.size > 0, "sample from an empty buffer"
        chosen = self.generator.choice(self.size, size=count, replace=count > self.size)
        filled = min(self.count, self.recent)
        slots = np.where(chosen < filled, chosen, self.recent + chosen - filled)
        index = torch.from_numpy(slots)
        clocks = {self.clocks[slot] for slot in slots.tolist()}
        age = float(self.count - 1 - self.born[index].double().mean())
        on_device = index.to(self.store.rows.device)
        blocks = [block.index_select(0, on_device).transpose(0, 1).contiguous() for block in self.store[:-1]]
        chunks = Rollout._make((*blocks, self.store.state.index_select(0, on_device)))
        return chunks, (clocks.pop() if len(clocks) == 1 else None), age

    def state_dict(self) -> dict[str, Any]:
        """Everything, for an exact resume; the store itself, not a copy (it is large, and goes to disk next)."""
        return {
            "count": self.count,
            "offered": self.offered,
            "born": self.born,
            "clocks": list(self.clocks),
            "generator": self.generator.bit_generator.state,
            "store": None if self.store is None else dict(self.store._asdict()),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Takes up what ``state_dict`` gave."""
        self.count, self.offered = int(state["count"]), int(state["offered"])
        self.born, self.clocks = state["born"].clone(), [int(clock) for clock in state["clocks"]]
        self.generator.bit_generator.state = state["generator"]
        store = state["store"]
        if store is not None:
            store = Rollout(**{name: block.to(device, copy=True) for name, block in store.items()})
        self.store = store
