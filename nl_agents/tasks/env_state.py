"""Saving a running Python env exactly: its own ``get_state``, gymnasium's thin wrappers around it, its generator."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from nl_agents.errors import StateMismatchError

# The attributes in which gymnasium's own wrappers keep what they remember of a running episode, beyond what any
# reset() sets right: that an episode runs, and what the checker saw last.
_REMEMBERED: dict[type, tuple[str, ...]] = {
    OrderEnforcing: (),
    TimeLimit: ("_elapsed_steps",),
    PassiveEnvChecker: (),
}


def keeps_state(env: gym.Env[Any, Any]) -> bool:
    """True if ``env`` has ``get_state`` and ``set_state`` below nothing but wrappers that ``gymnasium.make`` adds."""
    return _keeper(env) is not None


def get_env_state(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """Returns the running episode of ``env`` as nested plain values and arrays.

    Raises:
        StateMismatchError: the env cannot give its state.
    """
    keeper = _keeper(env)
    if keeper is None:
        raise StateMismatchError(f"{env} has no get_state() and set_state(); write both, or re-create it instead")
    wrappers = [[getattr(layer, name) for name in _REMEMBERED[type(layer)]] for layer in _layers(env)]
    generator = env.unwrapped._np_random
    return {
        "wrappers": wrappers,
        "generator": None if generator is None else get_generator_state(generator),
        "env": keeper.get_state(),
    }


def set_env_state(env: gym.Env[Any, Any], state: dict[str, Any]) -> None:
    """Takes up an episode that ``get_env_state`` of an equal env gave; ``env`` is reset first.

    Raises:
        StateMismatchError: the env cannot take a state, or is wrapped in another way.
    """
    keeper, layers = _keeper(env), list(_layers(env))
    if keeper is None or len(layers) != len(state["wrappers"]):
        raise StateMismatchError(f"{env} is not built like the env whose state was saved; build it as it was")
    env.reset()
    for layer, values in zip(layers, state["wrappers"], strict=True):
        for name, value in zip(_REMEMBERED[type(layer)], values, strict=True):
            setattr(layer, name, value)
    keeper.set_state(state["env"])
    if state["generator"] is not None:
        env.unwrapped._np_random = make_generator(state["generator"])


def get_generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """Returns the state of a NumPy generator; its integers may be wider than 64 bit."""
    return dict(generator.bit_generator.state)


def make_generator(state: dict[str, Any]) -> np.random.Generator:
    """Returns a generator that goes on from ``state``."""
    bits = getattr(np.random, state["bit_generator"])()
    bits.state = state
    return np.random.Generator(bits)


def _layers(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """Lists gymnasium's own wrappers around the first env that is something else, outermost first."""
    layers = []
    while type(env) in _REMEMBERED:
        layers.append(env)
        env = env.env  # type: ignore[attr-defined]
    return layers


def _keeper(env: gym.Env[Any, Any]) -> Any:
    """Returns the first env below gymnasium's own wrappers if it can give and take its state."""
    layers = _layers(env)
    inner = layers[-1].env if layers else env  # type: ignore[attr-defined]
    return inner if hasattr(inner, "get_state") and hasattr(inner, "set_state") else None
