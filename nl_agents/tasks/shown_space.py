"""The one space in which all tasks of a sequence show what they show."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from nl_agents.tasks.shifts import ObservationShift, Shift


def common_space(named: list[tuple[str, gym.Space[Any]]]) -> gym.Space[Any]:
    """Returns the smallest space that holds what every task shows, so that its bounds tell none of them.

    Raises:
        ValueError: two tasks show other shapes, types or keys.
    """
    first_name, common = named[0]
    for name, space in named[1:]:
        both = _hull(common, space)
        if both is None:
            raise ValueError(
                f"all tasks of a sequence must show the same shape: task {first_name!r} shows {named[0][1]}, task "
                f"{name!r} shows {space}; give both the same shifts of shape"
            )
        common = both
    return common


def _hull(one: gym.Space[Any], other: gym.Space[Any]) -> gym.Space[Any] | None:
    if isinstance(one, spaces.Box) and isinstance(other, spaces.Box):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            return None
        low, high = np.minimum(one.low, other.low), np.maximum(one.high, other.high)
        return spaces.Box(low, high, dtype=one.dtype.type)
    if isinstance(one, spaces.Dict) and isinstance(other, spaces.Dict) and one.keys() == other.keys():
        entries = {key: _hull(one[key], other[key]) for key in one.spaces}
        found = {key: entry for key, entry in entries.items() if entry is not None}
        return spaces.Dict(found) if len(found) == len(entries) else None
    return one if one == other else None


def space_after(space: gym.Space[Any], shifts: tuple[Shift, ...]) -> gym.Space[Any]:
    """Returns what a task with these shifts shows."""
    for shift in shifts:
        if isinstance(shift, ObservationShift):
            space = shift.space(space)
    return space


def finite(space: spaces.Box) -> spaces.Box:
    """Returns a space of floats with the largest float32 in place of every bound beyond it.

    Gymnasium's checker takes an infinite bound for a mistake, and agents see float32.
    """
    kind: Any = space.dtype
    if kind is None or kind.kind != "f":
        return space
    most = min(float(np.finfo(kind).max), float(np.finfo(np.float32).max))
    return spaces.Box(np.maximum(space.low, -most), np.minimum(space.high, most), dtype=kind.type)


def cast_batch(batch: Any, space: gym.Space[Any]) -> Any:
    """Gives a batch the types of ``space``."""
    if isinstance(batch, dict) and isinstance(space, spaces.Dict):
        return {key: cast_batch(entry, space[key]) for key, entry in batch.items()}
    return np.ascontiguousarray(batch, dtype=space.dtype)
