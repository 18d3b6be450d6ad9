"""Small models of RecurrentSAC, for its tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from nl_agents.sb3 import RecurrentSAC
from nl_agents.sb3.sequence_replay import SequenceBatch
from tests.sb3.small import POLICY_KWARGS, Toy

SHORT: dict[str, Any] = {
    "learning_starts": 40,
    "batch_size": 32,
    "burn_in": 3,
    "train_length": 8,
    "buffer_size": 2_000,
    "train_freq": 4,
    "device": "cpu",
    "seed": 0,
}
BOX = spaces.Box(np.array([-1, 0], np.float32), np.array([3, 1], np.float32))
KWARGS = {name: {**kwargs, "net_arch": [16]} for name, kwargs in POLICY_KWARGS.items()}


def toys(num_envs: int = 2, **toy: Any) -> VecEnv:
    return make_vec_env(Toy, num_envs, seed=0, env_kwargs={"space": BOX, **toy})


def model_of(core: str = "gru", num_envs: int = 2, policy: str = "HopePolicy", **options: Any) -> RecurrentSAC:
    env = options.pop("env", None) or toys(num_envs, **options.pop("toy", {}))
    kwargs = {**KWARGS[core], **options.pop("policy_kwargs", {})}
    return RecurrentSAC(policy, env, **{**SHORT, **options}, policy_kwargs=kwargs)


def finite(model: RecurrentSAC) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in model.policy.parameters())


def batch_of(model: RecurrentSAC, windows: int = 6) -> SequenceBatch:
    assert model.replay_buffer is not None
    batch = model.replay_buffer.windows(windows)
    assert batch is not None
    return batch
