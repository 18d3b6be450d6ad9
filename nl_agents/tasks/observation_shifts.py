"""Shifts of what is seen. Each works on a Box, or on the entry ``key`` of a Dict."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from nl_agents.seeding import generator, hash_normal
from nl_agents.tasks.drifts import Drift
from nl_agents.tasks.shifts import Moment, ObservationShift, Rows, Time, along, check_time
from nl_agents.tasks.shown_space import finite

_EPISODE = np.uint64(1 << 32)  # draws that one episode may take


@dataclass(frozen=True, kw_only=True)
class _BoxShift(ObservationShift):
    """What the shifts of this file share: how to get at the Box.

    Args:
        key: entry of a Dict observation; None where the observation is a Box.
    """

    key: str | None = None

    def space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """Returns the space after the shift."""
        after = self._space(self._box(space))
        return spaces.Dict({**space.spaces, str(self.key): after}) if isinstance(space, spaces.Dict) else after

    def bind(self, space: gym.Space[Any], seed: int) -> Rows:
        """Returns the shift of this curriculum seed."""
        rows = self._bind(self._box(space), seed)
        if self.key is None:
            return rows
        return lambda seen, moment: {**seen, self.key: rows(seen[self.key], moment)}

    def _box(self, space: gym.Space[Any]) -> spaces.Box:
        part = space.spaces.get(self.key or "") if isinstance(space, spaces.Dict) else None if self.key else space
        if not isinstance(part, spaces.Box):
            raise TypeError(
                f"{type(self).__name__}(key={self.key!r}) expected a Box, or a Dict with a Box of that key, got {space}"
            )
        return part

    @abstractmethod
    def _space(self, space: spaces.Box) -> spaces.Box: ...

    @abstractmethod
    def _bind(self, space: spaces.Box, seed: int) -> Rows: ...


class _Unbounded(_BoxShift):
    """A shift after which anything may be seen; needs float observations."""

    def _space(self, space: spaces.Box) -> spaces.Box:
        if space.dtype is None or space.dtype.kind != "f":
            raise TypeError(f"{type(self).__name__} expected float observations, got {space}; convert them first")
        return finite(spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type))


@dataclass(frozen=True)
class ObservationOffset(_Unbounded):
    """Adds to every number seen.

    Args:
        value: what is added: one number, one for each entry, or a drift.
        time: what the drift calls time.
    """

    value: float | Sequence[float] | Drift = 0.0
    time: Time = "life"

    def __post_init__(self) -> None:
        check_time(self.time)

    def _bind(self, space: spaces.Box, seed: int) -> Rows:
        if isinstance(self.value, Drift):
            path = along(self.value, seed)
            return lambda seen, moment: seen + _column(path(moment.times(self.time)), seen).astype(seen.dtype)
        given = np.asarray(self.value, dtype=space.dtype)
        if given.shape not in ((), space.shape):
            raise ValueError(
                f"ObservationOffset(value=...) expected one number, or one an entry {space.shape}, got {given.shape}"
            )
        offset = np.broadcast_to(given, space.shape)
        return lambda seen, moment: seen + offset


@dataclass(frozen=True)
class RandomOffset(_Unbounded):
    """Adds a number drawn once for each entry, N(0, sd).

    Args:
        sd: standard deviation, >= 0.
    """

    sd: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.sd < np.inf:
            raise ValueError(f"RandomOffset(sd=...) expected a finite number >= 0, got {self.sd}")

    def _bind(self, space: spaces.Box, seed: int) -> Rows:
        offset = generator(seed, "offset").normal(0.0, self.sd, space.shape).astype(space.dtype)
        return lambda seen, moment: seen + offset


@dataclass(frozen=True)
class ObservationNoise(_Unbounded):
    """Adds fresh N(0, sd) to every number at every step, a hash of (stream, episode, step).

    Args:
        sd: standard deviation; a drift moves with time.
        time: what the drift calls time.
    """

    sd: float | Drift = 1.0
    time: Time = "life"

    def __post_init__(self) -> None:
        check_time(self.time)

    def _bind(self, space: spaces.Box, seed: int) -> Rows:
        path, size = along(self.sd, seed), int(np.prod(space.shape))

        def add(seen: Any, moment: Moment) -> Any:
            noise = _normals(moment, size, seed).reshape(seen.shape)
            return (seen + noise * _column(path(moment.times(self.time)), seen)).astype(seen.dtype)

        return add


@dataclass(frozen=True)
class Distractors(_BoxShift):
    """Appends numbers that mean nothing to a flat observation: fresh N(0, sd) at every step.

    Args:
        count: how many, >= 1.
        sd: standard deviation.
    """

    count: int = 1
    sd: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.sd < np.inf:
            raise ValueError(f"Distractors expected count >= 1 and a finite sd >= 0, got {self}")

    def _space(self, space: spaces.Box) -> spaces.Box:
        if len(space.shape) != 1 or space.dtype is None or space.dtype.kind != "f":
            raise TypeError(f"Distractors expected a flat float observation, got {space}; flatten it first")
        ends = (
            np.append(bound, np.full(self.count, far)) for bound, far in ((space.low, -np.inf), (space.high, np.inf))
        )
        low, high = (end.astype(space.dtype) for end in ends)
        return finite(spaces.Box(low, high, dtype=space.dtype.type))

    def _bind(self, space: spaces.Box, seed: int) -> Rows:
        def append(seen: Any, moment: Moment) -> Any:
            noise = _normals(moment, self.count, seed)
            noise *= np.float32(self.sd)
            return np.concatenate([seen, noise.astype(seen.dtype, copy=False)], axis=1)

        return append


@dataclass(frozen=True)
class ObservationPermutation(_BoxShift):
    """Shows the numbers in another order.

    Args:
        order: entry i shows what was at ``order[i]`` of the flattened observation; None draws an order once.
    """

    order: Sequence[int] | None = None

    def _space(self, space: spaces.Box) -> spaces.Box:
        return spaces.Box(space.low.min(), space.high.max(), space.shape, space.dtype.type)

    def _bind(self, space: spaces.Box, seed: int) -> Rows:
        size = int(np.prod(space.shape))
        order = generator(seed, "permutation").permutation(size) if self.order is None else np.asarray(self.order)
        if sorted(order.tolist()) != list(range(size)):
            raise ValueError(f"ObservationPermutation(order=...) expected 0 to {size - 1} each once, got {self.order}")
        return lambda seen, moment: seen.reshape(len(seen), -1).take(order, axis=1).reshape(seen.shape)


@dataclass(frozen=True)
class ObservationWindow(_BoxShift):
    """Shows only some neighbouring numbers of the flattened observation; the others read zero.

    Args:
        first: index of the first that is seen.
        size: how many are seen, >= 1.
    """

    first: int = 0
    size: int = 1

    def _space(self, space: spaces.Box) -> spaces.Box:
        entries = int(np.prod(space.shape))
        if not 0 <= self.first < self.first + self.size <= entries:
            raise ValueError(f"{self} expected a window within the {entries} entries of {space}")
        low, high = np.minimum(space.low, 0), np.maximum(space.high, 0)
        return spaces.Box(low, high, dtype=space.dtype.type)

    def _bind(self, space: spaces.Box, seed: int) -> Rows:
        window = np.zeros(space.shape, dtype=space.dtype)
        window.reshape(-1)[self.first : self.first + self.size] = 1
        return lambda seen, moment: np.where(window > 0, seen, np.zeros_like(seen))


def _column(values: npt.NDArray[np.float64], like: Any) -> npt.NDArray[np.float64]:
    """Shapes one number a row so that it applies to every entry of the row."""
    return values.reshape(-1, *(1 for _ in like.shape[1:]))


def _normals(moment: Moment, count: int, seed: int) -> npt.NDArray[np.float32]:
    """Returns standard normals [N, count] that belong to (seed, stream, episode, step)."""
    pairs = (count + 1) // 2
    place = moment.episodes.astype(np.uint64) * _EPISODE + moment.steps.astype(np.uint64) * np.uint64(pairs)
    draws = place[:, None] + np.arange(pairs, dtype=np.uint64)
    normals = np.concatenate(hash_normal(moment.keys[:, None] + np.uint64(seed), draws), axis=1)
    return normals if normals.shape[1] == count else normals[:, :count]
