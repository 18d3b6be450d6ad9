"""Named numbers inside a Python env: ``gravity``, ``model.opt.gravity.2``."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from nl_agents.errors import UnknownNameError


def require_attribute(task: str, env: gym.Env[Any, Any], name: str) -> None:
    """Raises UnknownNameError, naming the numbers that ``env.unwrapped`` has, unless ``name`` is a number of it."""
    try:
        number = _is_number(_read(env, name))
    except (AttributeError, IndexError, KeyError):
        number = False
    if not number:
        world: Any = env.unwrapped
        public = [key for key in dir(world) if not key.startswith(("_", "np_random"))]
        known = [key for key in public if _is_number(getattr(world, key, None))]
        raise UnknownNameError(f"attribute of task {task!r} ({type(world).__name__})", name, known)


def get_attribute(env: gym.Env[Any, Any], name: str) -> float:
    """Returns a number of ``env.unwrapped``."""
    return float(_read(env, name))


def set_attribute(env: gym.Env[Any, Any], name: str, value: float) -> None:
    """Sets a number of ``env.unwrapped``; where it is an int, to the nearest one."""
    parent, _, last = name.rpartition(".")
    owner: Any = _read(env, parent) if parent else env.unwrapped
    whole = isinstance(_read(env, name), int | np.integer)
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
