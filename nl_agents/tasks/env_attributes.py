"""Named numbers inside a Python env: ``gravity``, ``model.opt.gravity.2``."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from nl_agents.errors import ConfigError, UnknownNameError


def require_attribute(task: str, env: gym.Env[Any, Any], name: str) -> None:
    """Makes sure that ``name`` is a number of ``env.unwrapped`` that can be set.

    Raises:
        UnknownNameError: there is none; the text names the numbers that are there, as deep as ``name`` leads.
        ConfigError: it can be read only.
    """
    world: Any = env.unwrapped
    owner, path = world, ""
    for part in name.split("."):
        try:
            found = owner[int(part)] if part.isdigit() else getattr(owner, part)
        except (AttributeError, IndexError, KeyError, TypeError):
            break
        if _is_number(found) and f"{path}{part}" == name:
            try:
                set_attribute(env, name, found)
            except (AttributeError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"attribute {name!r} of task {task!r} ({type(world).__name__}) can be read but not set: {error}"
                ) from error
            return
        owner, path = found, f"{path}{part}."
    raise UnknownNameError(f"attribute of task {task!r} ({type(world).__name__})", name, _numbers(owner, path))


def _numbers(owner: Any, path: str) -> list[str]:
    """Names of the numbers of an object or array, written behind ``path``."""
    if isinstance(owner, list | tuple | np.ndarray):
        return [f"{path}{place}" for place, value in enumerate(owner) if _is_number(value)]
    public = [key for key in dir(owner) if not key.startswith(("_", "np_random"))]
    return [f"{path}{key}" for key in public if _is_number(getattr(owner, key, None))]


def get_attribute(env: gym.Env[Any, Any], name: str) -> float:
    """Returns a number of ``env.unwrapped``."""
    return float(_read(env, name))


def set_attribute(env: gym.Env[Any, Any], name: str, value: float) -> None:
    """Sets a number of ``env.unwrapped``; where it is an int, to the nearest one, with a warning if that is another."""
    parent, _, last = name.rpartition(".")
    owner: Any = _read(env, parent) if parent else env.unwrapped
    whole = isinstance(_read(env, name), int | np.integer)
    if whole and value != round(value):
        warnings.warn(
            f"attribute {name!r} of {type(env.unwrapped).__name__} is an int, so what should become {value:g} becomes "
            f"{round(value)}; let the env hold a float if it is to move smoothly",
            stacklevel=2,
        )
    if last.isdigit():
        owner[int(last)] = round(value) if whole else value
    else:
        setattr(owner, last, round(value) if whole else value)


def _read(env: gym.Env[Any, Any], name: str) -> Any:
    found: Any = env.unwrapped
    for part in name.split("."):
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
