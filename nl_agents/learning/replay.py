"""Lifetime replay: a ring of recent chunks and a uniform sample of the whole life."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nl_agents.errors import StateMismatchError
from nl_agents.learning.rollout import Rollout, send
from nl_agents.memory import StateCodec
from nl_agents.types import LevelInfo


class ReplayBuffer:
    """Keeps chunks of one stream and T steps, with behaviour log-probabilities, distributions, values and start states.

    Two stores share one block of memory: the newest ``recent`` chunks in a ring, and a reservoir (Vitter 1985,
    algorithm R) in which every chunk that has left the ring lies with equal probability. A chunk enters the reservoir's
    lottery when it leaves the ring, so that no chunk stands in both.

    A chunk that holds a number that is not finite (a memory that ran away) is refused and counted.

    Args:
        recent: chunks of the ring, >= 0.
        reservoir: chunks of the reservoir, >= 0.
        generator: randomness of the reservoir and of sampling.
        codec: how start states are kept; None keeps them as they are.

    Attributes:
        refused: chunks refused because they were not finite.
    """

    def __init__(
        self, recent: int, reservoir: int, generator: np.random.Generator, codec: StateCodec | None = None
    ) -> None:
        if recent < 0 or reservoir < 0 or recent + reservoir < 1:
            raise ValueError(
                f"recent and reservoir must be >= 0 and not both 0, got {recent} and {reservoir}; "
                "switch replay off by a ratio of 0 instead"
            )
        self.recent, self.reservoir, self.generator, self.codec = recent, reservoir, generator, codec
        self.refused = 0
        self.store: Rollout | None = None  # blocks [capacity, T, ...]; states as the codec keeps them
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
        sound = _sound_streams(rollout)
        if len(sound) < rollout.rows.shape[1]:
            self.refused += rollout.rows.shape[1] - len(sound)
            rollout = rollout.streams(sound)
        if len(sound) == 0:
            return
        if self.codec is not None:
            rollout = rollout._replace(state=self.codec.encode(rollout.state))
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
        on_device = send(index, self.store.rows.device)
        blocks = [block.index_select(0, on_device).transpose(0, 1).contiguous() for block in self.store[:-1]]
        state = self.store.state.index_select(0, on_device)
        chunks = Rollout._make((*blocks, state if self.codec is None else self.codec.decode(state)))
        return chunks, (clocks.pop() if len(clocks) == 1 else None), age

    def state_dict(self) -> dict[str, Any]:
        """Everything, for an exact resume; the store itself, not a copy (it is large, and goes to disk next)."""
        return {
            "count": self.count,
            "offered": self.offered,
            "refused": self.refused,
            "born": self.born,
            "clocks": list(self.clocks),
            "generator": self.generator.bit_generator.state,
            "store": None if self.store is None else dict(self.store._asdict()),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Takes up what ``state_dict`` gave.

        Raises:
            StateMismatchError: its start states are kept in another form than this buffer's.
        """
        self._check_form(state["store"])
        self.count, self.offered = int(state["count"]), int(state["offered"])
        self.refused = int(state.get("refused", 0))
        self.born, self.clocks = state["born"].clone(), [int(clock) for clock in state["clocks"]]
        self.generator.bit_generator.state = state["generator"]
        store = state["store"]
        if store is not None:
            store = Rollout(**{name: block.to(device, copy=True) for name, block in store.items()})
        self.store = store

    def _check_form(self, store: dict[str, Any] | None) -> None:
        if store is None:
            return
        kept, wide = store["state"].dtype, store["state"].shape[1]
        right = bool(kept.is_floating_point)
        if self.codec is not None:
            right = kept == torch.uint8 and wide == self.codec.bytes_per_stream
        if not right:
            mine = "float32" if self.codec is None else self.codec.name
            raise StateMismatchError(
                f"replay keeps start states as {mine}, and the saved buffer holds {kept} [{wide}] of another form; set "
                "replay.state_codec to what the life was started with"
            )

    def levels(self) -> list[LevelInfo]:
        """Both stores' rows in a nest."""
        form = "" if self.codec is None else f", start states as {self.codec.name}"
        kinds = (
            ("replay.recent", f"the newest {self.recent} chunks{form}", "none: the newest stay"),
            ("replay.reservoir", f"{self.reservoir} chunks{form}", "none: a uniform sample of all that was lived"),
        )
        sizes = (self.recent, self.reservoir)
        return [
            LevelInfo(name, stores, "rollouts, with the memory each began with", objective, 1, "rollout", "life")
            for (name, stores, objective), size in zip(kinds, sizes, strict=True)
            if size
        ]


def _sound_streams(rollout: Rollout) -> Tensor:
    """[n] int64, the streams of a rollout whose every number is finite (one look by the host)."""
    sound = torch.isfinite(rollout.state).all(dim=1)
    for block in rollout[:-1]:
        if block.is_floating_point():
            sound = sound & torch.isfinite(block).all(dim=0).view(len(sound), -1).all(dim=1)
    return torch.nonzero(sound).squeeze(1)
