"""Spaces as plain JSON, so that a saved agent can be rebuilt without its environment and without pickle."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from nl_agents.errors import CheckpointError, SpaceNotSupportedError


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """Describes a Box, Discrete, MultiDiscrete, MultiBinary, Text or Dict of these."""
    if isinstance(space, spaces.Box):
        bounds = {name: np.asarray(getattr(space, name), np.float64).ravel().tolist() for name in ("low", "high")}
        return {"kind": "box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        start = np.broadcast_to(space.start, space.nvec.shape).tolist()
        return {"kind": "multi-discrete", "nvec": space.nvec.tolist(), "start": start, "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "multi-binary", "shape": list(space.shape)}
    if isinstance(space, spaces.Text):
        return {"kind": "text", "max_length": int(space.max_length)}
    if isinstance(space, spaces.Dict):
        return {"kind": "dict", "spaces": {key: space_to_json(leaf) for key, leaf in space.spaces.items()}}
    raise SpaceNotSupportedError(f"cannot save space {space}; expected Box, Discrete, MultiDiscrete, MultiBinary, or "
                                 "a Dict of them")  # fmt: skip


def space_from_json(values: dict[str, Any]) -> gym.Space[Any]:
    """Inverse of ``space_to_json``."""
    kind = values.get("kind")
    if kind == "box":
        shape, dtype = tuple(values["shape"]), np.dtype(values["dtype"])
        low, high = (np.array(values[name], np.float64).reshape(shape).astype(dtype) for name in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "discrete":
        return spaces.Discrete(values["n"], start=values["start"])
    if kind == "multi-discrete":
        start, dtype = np.array(values["start"]), np.dtype(values["dtype"])
        return spaces.MultiDiscrete(np.array(values["nvec"]), dtype=dtype.type, start=start)
    if kind == "multi-binary":
        return spaces.MultiBinary(values["shape"] if len(values["shape"]) > 1 else values["shape"][0])
    if kind == "text":
        return spaces.Text(values["max_length"])
    if kind == "dict":
        return spaces.Dict({key: space_from_json(leaf) for key, leaf in values["spaces"].items()})
    raise CheckpointError(f"unknown kind of space {kind!r} in the file; it was written by another version")
