"""All random numbers of a process: their state, to go on from it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Every generator that learning draws from; those of CUDA where it is in use."""
    cuda = [state.numpy() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_initialized() else []
    own = torch.get_rng_state().numpy()
    return {"torch": own, "cuda": cuda, "numpy": np.random.get_state(), "python": random.getstate()}


def set_random_state(state: dict[str, Any]) -> None:
    """Inverse of ``random_state``."""
    torch.set_rng_state(torch.from_numpy(state["torch"]))
    cuda = [torch.from_numpy(one) for one in state.get("cuda", ())]
    if cuda and len(cuda) == torch.cuda.device_count():  # as many devices as there were
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
