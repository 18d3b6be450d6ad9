"""A Python MiniGrid env as our suites show it: image and direction, no mission, with its whole state to be had."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from nl_agents.errors import StateMismatchError

OBSERVATION_SPACE = spaces.Dict(
    {"image": spaces.Box(0, 255, (7, 7, 3), np.uint8), "direction": spaces.Discrete(4)},
)
ACTION_SPACE = spaces.Discrete(7)

# Attributes of a MiniGridEnv that are either saved by name below or fixed when the env is built.
_KNOWN = {"grid", "carrying", "_np_random", "_np_random_seed", "actions", "action_space", "observation_space", "window",
          "clock", "spec", "mission", "metadata", "obstacle_type"}  # fmt: skip
_PLAIN = (bool, int, float, str, np.ndarray, np.generic, type(None))


def make_minigrid(env_id: str) -> MinigridView:
    """Builds one env by its MiniGrid id without gymnasium's wrappers: MiniGrid counts its own steps."""
    import minigrid  # noqa: F401 (registers the ids)

    return MinigridView(gym.make(env_id, disable_env_checker=True).unwrapped)


class MinigridView(gym.ObservationWrapper[Any, Any, Any]):
    """Drops ``mission``, which would name the task, and can save a running episode.

    Args:
        env: a ``MiniGridEnv`` without gymnasium's wrappers.
        actions: how many of MiniGrid's actions there are, from the first on: 3 are left, right, forward.
    """

    def __init__(self, env: gym.Env[Any, Any], actions: int = 7) -> None:
        super().__init__(env)
        seen: Any = env.observation_space
        image = spaces.Box(0, 255, seen["image"].shape, np.uint8)
        self.observation_space = spaces.Dict({"image": image, "direction": spaces.Discrete(4)})
        self.action_space = spaces.Discrete(actions)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Returns image and direction."""
        return {"image": observation["image"], "direction": int(observation["direction"])}

    def get_state(self) -> dict[str, Any]:
        """Returns grid, things in it and carried, and every plain attribute of the env (position, step count …).

        The random generator is not in here: who saves the env saves ``np_random`` beside it.

        Raises:
            StateMismatchError: the env keeps something that this cannot save.
        """
        world: Any = self.env.unwrapped
        plain = {name: value for name, value in vars(world).items() if name not in _KNOWN}
        odd = sorted(name for name, value in plain.items() if not _is_plain(value))
        if odd:
            raise StateMismatchError(f"{type(world).__name__} keeps {', '.join(odd)}, which no checkpoint can hold")
        return {
            "plain": {name: _encode(value) for name, value in plain.items()},
            "size": [world.grid.width, world.grid.height],
            "cells": [_pack(thing) for thing in world.grid.grid],
            "carrying": _pack(world.carrying),
            "mission": world.mission,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up a state that ``get_state`` of an env of the same id gave."""
        from minigrid.core.grid import Grid

        world: Any = self.env.unwrapped
        for name, value in state["plain"].items():
            setattr(world, name, _decode(value))
        world.grid = Grid(*state["size"])
        world.grid.grid = [_unpack(cell) for cell in state["cells"]]
        world.carrying = _unpack(state["carrying"])
        world.mission = state["mission"]


def _is_plain(value: Any) -> bool:
    """True for numbers, texts, arrays, and lists and tuples of these."""
    return all(map(_is_plain, value)) if isinstance(value, list | tuple) else isinstance(value, _PLAIN)


def _encode(value: Any) -> Any:
    """Marks tuples, which JSON would turn into lists, makes NumPy's numbers plain ones, copies the rest."""
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    return value.item() if isinstance(value, np.generic) else copy.deepcopy(value)


def _decode(value: Any) -> Any:
    return tuple(_decode(item) for item in value["tuple"]) if isinstance(value, dict) else copy.deepcopy(value)


def _pack(thing: Any) -> Any:
    """Turns a thing of the grid into a list: code, what it contains, where it began, where it is."""
    if thing is None:
        return None
    places = [None if place is None else [int(axis) for axis in place] for place in (thing.init_pos, thing.cur_pos)]
    return [[int(part) for part in thing.encode()], _pack(thing.contains), *places]


def _unpack(packed: Any) -> Any:
    """Builds the thing that ``_pack`` described."""
    if packed is None:
        return None
    from minigrid.core.world_object import WorldObj

    code, contains, began, now = packed
    thing: Any = WorldObj.decode(*code)
    thing.contains = _unpack(contains)
    thing.init_pos, thing.cur_pos = (None if place is None else tuple(place) for place in (began, now))
    return thing
