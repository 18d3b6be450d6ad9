"""Lives made by hand or by simulation, for the tests of evaluation."""

from __future__ import annotations

import numpy as np

from nl_agents.evaluation import Lifetime
from nl_agents.types import Episode

LEVELS = {"a": {"random": 0.0, "expert": 1.0}, "b": {"random": 0.0, "expert": 1.0}}


def life_of(
    rows: list[tuple[int, int, str, float, int]],
    task_log: list[tuple[int, str]],
    steps: int,
    num_envs: int,
    effective_log: list[tuple[int, int, str]] | None = None,
) -> Lifetime:
    """Builds a life from ``(begin, end, task, return, stream)`` rows."""
    episodes = [
        Episode(end, stream, task, value, (end - begin) // num_envs, begin) for begin, end, task, value, stream in rows
    ]
    return Lifetime.from_episodes(
        episodes, task_log, steps=steps, num_envs=num_envs, effective_log=effective_log or [], meta={"agent": "x"}
    )


def blocks(length: int, count: int, tasks: str = "ab") -> list[tuple[int, str]]:
    """A task log of ``count`` blocks of equal length that cycle through one-letter tasks."""
    return [(number * length, tasks[number % len(tasks)]) for number in range(count)]


def simulated_life(
    seed: int = 0, block: int = 6400, count: int = 6, num_envs: int = 4, level: float | None = None
) -> Lifetime:
    """Episodes of random length that follow each other on every stream; returns rise within a visit, or ``level``."""
    random = np.random.default_rng(seed)
    steps = block * count
    log = blocks(block, count)
    episodes = []
    for stream in range(num_envs):
        clock = 0
        while True:
            end = clock + int(random.integers(5, 200)) * num_envs
            if end > steps:
                break
            visit = min((end - 1) // block, count - 1)
            value = level if level is not None else float((clock % block) / block + 0.1 * random.normal())
            episodes.append(Episode(end, stream, log[visit][1], value, (end - clock) // num_envs, clock))
            clock = end
    return Lifetime.from_episodes(episodes, log, steps=steps, num_envs=num_envs, meta={"agent": "x", "seed": seed})
