"""What is not finite in an observation: which rows it spoils, and the observation without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor


def batch_of(obs: PyTorchObs) -> int:
    """B of a batch of observations."""
    return len(next(iter(obs.values())) if isinstance(obs, dict) else obs)


def blanked(observation: Any) -> tuple[Any, NDArray[np.bool_]]:
    """Sets rows to 0 that are not finite; never writes into what it is given.

    Args:
        observation: [B, ...], or a dict of such.

    Returns:
        The observation, a copy only where something had to be blanked, and [B] which rows were finite.
    """
    leaves = observation if isinstance(observation, dict) else {"": observation}
    fine = np.ones(len(next(iter(leaves.values()))), np.bool_)
    for leaf in leaves.values():
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            fine &= np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
    if fine.all():
        return observation, fine
    blank = {key: np.where(fine.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0) for key, leaf in leaves.items()}
    return (blank if isinstance(observation, dict) else blank[""]), fine


def blanked_tensors(obs: PyTorchObs) -> tuple[PyTorchObs, Tensor | None]:
    """``blanked`` for tensors; of the rows that were finite [B] it says None where all were."""
    leaves = obs if isinstance(obs, dict) else {"": obs}
    rows = [leaf.isfinite().reshape(len(leaf), -1).all(dim=1) for leaf in leaves.values()]
    fine = torch.stack(rows).all(dim=0)
    if bool(fine.all()):
        return obs, None
    blank = {key: leaf.clone() for key, leaf in leaves.items()}
    for leaf in blank.values():
        leaf[~fine] = 0
    return (blank if isinstance(obs, dict) else blank[""]), fine
