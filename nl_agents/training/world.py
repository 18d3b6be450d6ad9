"""What a life keeps of its environment, whatever is wrapped around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from nl_agents.errors import StateMismatchError

_CONTRACT = ("get_state", "set_state", "exact_state", "recreate")


class World:
    """Saves a vector environment at checkpoints and takes it up again.

    * An environment with ``get_state``, ``set_state``, ``exact_state`` and ``recreate`` (a ``TaskSequence``, a wrapper
      that passes them on) saves itself; its running episodes too, where ``exact_state`` says so.
    * Around a sequence that does, other wrappers may sit. They are not asked for their state, so at every checkpoint
      the episodes begin anew, in every life alike. What they count and average (their numbers and arrays, and those of
      what they hold, such as gymnasium's running means) is kept; whatever else they remember must follow from
      ``reset()``.
    * Anything else is reset at every checkpoint, with the number of the checkpoint as its seed.

    Args:
        env: as the agent sees it.

    Attributes:
        sequence: where names of tasks, logs and ``is_over`` are looked up: the env below all wrappers.
    """

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        self.env: Any = env
        self.sequence: Any = env.unwrapped
        self.is_whole = _keeps_itself(env)
        self.is_wrapped = not self.is_whole and _keeps_itself(self.sequence)

    @property
    def is_over(self) -> bool:
        """Whether the environment says that this life has had all its episodes."""
        return bool(getattr(self.sequence, "is_over", False))

    def save(self, number: int, seed: int, restart: Callable[..., None]) -> dict[str, Any] | None:
        """Returns the state at checkpoint ``number``; episodes begin anew first where they cannot be kept.

        Args:
            number: of the checkpoint, int >= 1.
            seed: of the life; for environments that can do nothing but be reset.
            restart: resets the environment as the actor sees it; takes ``seed``.
        """
        if self.is_whole:
            if not self.env.exact_state:
                self.env.recreate(number)
                restart()
            kept: dict[str, Any] = self.env.get_state()
            return kept
        if self.is_wrapped:
            self.sequence.recreate(number)
            restart()
            return {"sequence": self.sequence.get_state(), "wrappers": [_numbers(layer) for layer in self._layers()]}
        restart(seed=seed + number)
        return None

    def restore(self, kept: dict[str, Any] | None, number: int, seed: int) -> None:
        """Takes up what ``save`` returned, in an environment built as at birth."""
        if self.is_whole and kept is not None:
            self.env.set_state(kept)
            if not self.env.exact_state:
                self.env.recreate(number)
                self.env.reset()
        elif self.is_wrapped and kept is not None:
            layers = list(self._layers())
            if len(layers) != len(kept["wrappers"]):
                raise StateMismatchError(
                    f"the saved sequence was behind {len(kept['wrappers'])} wrappers, this one is behind "
                    f"{len(layers)}; build the environment as at its birth"
                )
            self.sequence.set_state(kept["sequence"])
            self.sequence.recreate(number)
            self.env.reset()
            for layer, numbers in zip(layers, kept["wrappers"], strict=True):
                _put(layer, numbers)
        else:
            self.env.reset(seed=seed + number)

    def _layers(self) -> Iterator[Any]:
        layer = self.env
        while layer is not self.sequence:
            yield layer
            layer = layer.env


def _keeps_itself(env: Any) -> bool:
    return all(hasattr(env, name) for name in _CONTRACT)


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _numbers(holder: Any, deep: bool = True) -> dict[str, Any]:
    """The numbers and arrays that an object has as attributes, and those of the objects that it has."""
    found: dict[str, Any] = {}
    for name, value in vars(holder).items():
        if _is_number(value):
            found[name] = value.copy() if isinstance(value, np.ndarray) else np.asarray(value)[()].item()
        elif (
            deep
            and name not in ("env", "spec")
            and hasattr(value, "__dict__")
            and not isinstance(value, type | gym.Space)
        ):
            inner = _numbers(value, deep=False)
            if inner:
                found[name] = inner
    return found


def _put(holder: Any, numbers: dict[str, Any]) -> None:
    for name, value in numbers.items():
        own = getattr(holder, name)
        if isinstance(value, dict):
            _put(own, value)
        elif isinstance(own, np.ndarray) and own.shape == np.shape(value):
            own[...] = value
        else:
            setattr(holder, name, value.copy() if isinstance(value, np.ndarray) else value)
