"""The live memory of a recurrent model, apart from its weights: read it, save it, give it back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from nl_agents.errors import CheckpointError, StateMismatchError

HostArrays = tuple[NDArray[np.float32], ...]
_PARTS = ("pi_hidden", "pi_cell", "vf_hidden", "vf_cell")


def live_memory(model: BaseAlgorithm) -> HostArrays | None:
    """The live memory of who acts, as ``predict(obs, state=...)`` takes it.

    (h, c), each [layers, B, hidden], or for RecurrentDQN and RecurrentSAC one array [B, S]. None for a model without
    memory (PPO, DQN ...).
    """
    if hasattr(model, "memory_state"):
        return tuple(model.memory_state())
    states = getattr(model, "_last_lstm_states", None)
    return None if states is None else (states.pi[0].cpu().numpy().copy(), states.pi[1].cpu().numpy().copy())


def save_memory(model: BaseAlgorithm, path: str | Path) -> Path:
    """Writes the live memory of all streams, actor's and critic's or Q-network's, to a safetensors file (no pickle).

    Written beside the target first and then moved, so that an interrupted write loses nothing.

    Raises:
        StateMismatchError: the model has no memory.
    """
    target, tensors = Path(path), _tensors(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    # copies, because one tensor may stand under two names: a critic without memory of its own is shown the actor's
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, partial)
    os.replace(partial, target)
    return target


def check_memory(model: BaseAlgorithm) -> None:
    """Raises a StateMismatchError for a model whose memory cannot be saved, before it has learnt in vain."""
    _tensors(model)


def load_memory(model: BaseAlgorithm, path: str | Path) -> None:
    """Gives a model the memory that ``save_memory`` wrote; episodes that run go on with it.

    Raises:
        CheckpointError: no such file, or not one of ours.
        StateMismatchError: it holds another number of streams, or the memory of another core.
    """
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"no memory can be read from {path}: {error}; save_memory(model, path) writes one") from (
            error
        )
    own = _tensors(model)
    shapes, mine = ({name: tuple(tensor.shape) for name, tensor in one.items()} for one in (saved, own))
    if shapes != mine:
        raise StateMismatchError(
            f"{path} holds {shapes} and the model needs {mine}: build the model with the same core, sizes, critic and "
            "number of streams"
        )
    keeper = _keeper(model)
    if keeper is not None:
        keeper.restore(saved["memory"].to(model.device), int(saved["clock"]))
        return
    for name, tensor in own.items():
        tensor.copy_(saved[name])


def _keeper(model: Any) -> Any:
    """Who in one of our algorithms packs and restores the memory; None in others."""
    return getattr(model, "collector", model if hasattr(model, "restore") else None)


def _tensors(model: Any) -> dict[str, Tensor]:
    keeper = _keeper(model)
    if keeper is not None:
        return {"memory": keeper.packed(), "clock": torch.tensor(keeper.clock)}
    states = getattr(model, "_last_lstm_states", None)
    if states is None:
        raise StateMismatchError(
            f"{type(model).__name__} keeps no memory between steps; RecurrentPPO, FastRecurrentPPO, RecurrentDQN and "
            "RecurrentSAC do"
        )
    return dict(zip(_PARTS, (*states.pi, *states.vf), strict=True))
