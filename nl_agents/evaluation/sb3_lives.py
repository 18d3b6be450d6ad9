"""Lives of Stable-Baselines3 models: through ``to_sb3``, and through what a user has wrapped around it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from nl_agents.errors import ConfigError


def is_vec_env(env: Any) -> bool:
    """Whether it is a Stable-Baselines3 ``VecEnv``."""
    return hasattr(env, "step_wait")


def innermost(vec_env: Any) -> Any:
    """The ``SequenceVecEnv`` below all VecEnv wrappers.

    Raises:
        ConfigError: there is none.
    """
    while hasattr(vec_env, "venv"):
        vec_env = vec_env.venv
    if not hasattr(vec_env, "vector_env"):
        raise ConfigError(
            f"expected a VecEnv made by nl_agents.envs.to_sb3, wrapped or not, got one around {type(vec_env).__name__}"
        )
    return vec_env


def check_view(model: Any, space: Any, is_bare: bool) -> None:
    """Raises ConfigError where a model sees something else than an env shows: another space, or normalised numbers."""
    normalises = getattr(model, "get_vec_normalize_env", None)
    if is_bare and normalises is not None and normalises() is not None:
        raise ConfigError(
            "the model normalises what it sees, and a bare sequence would show it raw numbers; give its VecEnv: "
            "run_lifetime(model, VecNormalize(to_sb3(sequence)), ...)"
        )
    seen = getattr(model, "observation_space", None)
    if seen is not None and _form(seen) != _form(space):
        raise ConfigError(
            f"the model sees {seen}, the sequence shows {space}; by API give the VecEnv as the model was trained on "
            "it, such as history_env(to_sb3(sequence), 8) or to_sb3(sequence, flatten=True)"
        )


def _form(space: Any) -> Any:
    """What must be equal: a Box's bounds need not."""
    return (space.shape, space.dtype) if isinstance(space, gym.spaces.Box) else space


def learn(model: Any, env: Any, steps: int, begin: Callable[[Any], None], record: Callable[[Any], int]) -> None:
    """Lets a model's ``learn`` live ``steps`` env steps.

    Args:
        model: of Stable-Baselines3.
        env: a sequence (as it is or behind vector wrappers), or a VecEnv around one.
        steps: on the clock of the sequence.
        begin: called with the innermost VecEnv when it is known, before the first step.
        record: called with it after every vector step; returns the clock.
    """
    if is_vec_env(env):
        view = env
    else:
        view = importlib.import_module("nl_agents.envs").to_sb3(env)
        check_view(model, view.observation_space, is_bare=True)
    inner = innermost(view)
    begin(inner)
    if model.env is None or innermost(model.env) is not inner:
        model.set_env(view)
    model.learn(steps, callback=lambda *_: record(inner) < steps)


class Fixed:
    """A VecEnv with the face of a vector env, for subjects whose parameters stay fixed."""

    def __init__(self, vec_env: Any) -> None:
        self.vec_env, self.inner = vec_env, innermost(vec_env)
        self.unwrapped = self.inner.vector_env.unwrapped
        self.num_envs = int(vec_env.num_envs)
        self.single_observation_space = vec_env.observation_space

    def reset(self, *, seed: int) -> tuple[Any, dict[str, Any]]:
        """Begins a life; running means stand still from now on."""
        layer = self.vec_env
        while layer is not self.inner:
            if hasattr(layer, "norm_obs"):
                layer.training = False
            layer = layer.venv
        self.vec_env.seed(seed)
        return self.vec_env.reset(), {}

    def step(self, actions: Any) -> tuple[Any, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Steps; the reward is the sequence's own."""
        seen, *_ = self.vec_env.step(actions)
        ended = self.inner.latest_ended
        return seen, self.inner.latest_reward, ended, np.zeros_like(ended), {}
