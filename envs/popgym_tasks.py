"""POPGym's memory tasks as lives of one task, where POPGym is installed (``pip install popgym``).

Examples:
    env = make_popgym("RepeatPreviousEasy", num_envs=16, seed=0)  # a gymnasium.vector.VectorEnv, as make_sequence gives

Each task has spaces of its own, so they stand alone instead of in a suite. What is no plain ``Discrete`` observation is
flattened to float32 (one-hot for each part).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, TransformObservation

from nl_agents.errors import UnknownNameError
from nl_agents.tasks import Constant, Task, TaskSequence
from nl_agents.tasks.python_backend import PythonBackend
from nl_agents.tasks.sequence import Autoreset

KINDS = ("RepeatPrevious", "CountRecall", "Autoencode", "Concentration")
TASKS = tuple(f"{kind}{size}" for kind in KINDS for size in ("Easy", "Medium", "Hard"))


def popgym_is_installed() -> bool:
    """True if POPGym can be imported; it is optional."""
    return importlib.util.find_spec("popgym") is not None


def make_popgym_env(name: str) -> gym.Env[Any, Any]:
    """Builds one env of POPGym.

    Raises:
        UnknownNameError: not one of ``TASKS``.
        ModuleNotFoundError: POPGym is not installed.
    """
    if name not in TASKS:
        raise UnknownNameError("POPGym task", name, TASKS)
    if not popgym_is_installed():
        raise ModuleNotFoundError(
            f"the task {name!r} needs POPGym: pip install popgym (RepeatPrevious and key-value recall without it: "
            "nl_agents.probes, envs.make_sequence('needle'))"
        )
    importlib.import_module("popgym")  # registers the ids
    env = gym.make(f"popgym-{name}-v0", disable_env_checker=True)
    if isinstance(env.observation_space, spaces.Discrete):
        return env
    flat = FlattenObservation(env)
    space = spaces.Box(0.0, 1.0, flat.observation_space.shape, np.float32)
    return TransformObservation(flat, lambda seen: seen.astype(np.float32), space)


def make_popgym(name: str, *, num_envs: int = 16, seed: int = 0, autoreset: Autoreset = "next-step") -> TaskSequence:
    """Builds a life of one of POPGym's tasks; episodes cannot be saved exactly, they are re-created at checkpoints.

    Args:
        name: one of ``TASKS``: RepeatPrevious, CountRecall, Autoencode or Concentration with Easy, Medium or Hard.
        num_envs: streams.
        seed: seed of the life.
        autoreset: as in ``make_sequence``.

    Raises:
        UnknownNameError: not one of ``TASKS``.
        ModuleNotFoundError: POPGym is not installed.
    """
    backend = PythonBackend([Task(name, make_popgym_env, {"name": name})], num_envs)
    return TaskSequence(backend, [name], Constant(), seed=seed, autoreset=autoreset)
