"""What is watched beside the losses."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from torch import Tensor

_NOT_MEMORY = ("phase", "empty")


def memory_norms(state: Any) -> dict[str, Tensor]:
    """Mean Euclidean norm over streams of every part of a memory state (0-d tensors, no synchronisation)."""
    return {
        name: leaf.flatten(1).norm(dim=1).mean()
        for name, leaf in zip(state._fields, state, strict=True)
        if name not in _NOT_MEMORY and leaf.is_floating_point()
    }


def versions() -> dict[str, str]:
    """Versions of what a result may depend on."""
    found = {"python": platform.python_version()}
    for name in ("torch", "numpy", "gymnasium", "numba", "stable-baselines3", "minigrid", "envpool"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
