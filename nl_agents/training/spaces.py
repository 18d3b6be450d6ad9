"""Spaces as plain JSON, so that a saved agent can be rebuilt without its environment and without pickle."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from nl_agents.errors import CheckpointError, SpaceNotSupportedError


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """Describes a Box, Discrete, Text or Dict of these."""
    if isinstance(space, spaces.Box):
        bounds = {name: np.asarray(getattr(space, name), np.float64).ravel().tolist() for name in ("low", "high")}
        return {"kind": "box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.Text):
        return {"kind": "text", "max_length": int(space.max_length)}
    if isinstance(space, spaces.Dict):
        return {"kind": "dict", "spaces": {key: space_to_json(leaf) for key, leaf in space.spaces.items()}}
    raise SpaceNotSupportedError(f"cannot save space {space}; expected Box, Discrete, or a Dict of them")


def space_from_json(values: dict[str, Any]) -> gym.Space[Any]:
    """Inverse of ``space_to_json``."""
    kind = values.get("kind")
    if kind == "box":
        shape, dtype = tuple(values["shape"]), np.dtype(values["dtype"])
        low, high = (np.array(values[name], np.float64).reshape(shape).astype(dtype) for name in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "discrete":
        return spaces.Discrete(values["n"], start=values["start"])
    if kind == "text":
        return spaces.Text(values["max_length"])
    if kind == "dict":
        return spaces.Dict({key: space_from_json(leaf) for key, leaf in values["spaces"].items()})
    raise CheckpointError(f"unknown kind of space {kind!r} in the file; it was written by another version")
