"""What the sequence layer costs: µs a vector step of the whole sequence against the bare vector env below it.

    python -m benchmarks.env_speed
    python -m benchmarks.env_speed --streams 16 --rounds 2 --window-seconds 0.05        # a smoke test

Up to three rows a suite and number of streams: ``bare`` is the innermost physics in the shortest loop that resets what
ended (next step, as the sequence does); ``shifts`` the same with the shifts around it; ``sequence`` the whole, with
clock, schedule and info. A ratio is the median over rounds of the ratios within a round (A B C A B C ...). Actions are
random and drawn beforehand.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

from nl_agents import envs
from nl_agents.tasks import Constant, ShiftedBackend, TaskSequence
from nl_agents.tasks.backend import Backend
from nl_agents.tasks.envpool_backend import envpool_is_installed

CASES = {
    "cartpole-flip": "auto",
    "control-obs-shift": "auto",
    "permute-long": "auto",
    "control-drift": "auto",
    "minigrid-recurring": "envpool",
}


@dataclass
class Options:
    """What to measure."""

    streams: tuple[int, ...] = (16, 256, 1024)
    """numbers of parallel environments"""
    suites: tuple[str, ...] = tuple(CASES)
    """which suites, their last task each"""
    rounds: int = 5
    """windows of each row"""
    window_seconds: float = 0.5
    """least length of a window"""


@dataclass
class Row:
    """One measured thing.

    Attributes:
        name: suite, streams and what was stepped.
        step: does one vector step.
        micros: µs a vector step, one a round.
    """

    name: str
    step: Callable[[], None]
    micros: list[float]

    def window(self, seconds: float) -> None:
        """Steps for at least ``seconds`` and notes what a step took."""
        count, begin = 0, time.perf_counter()
        while (taken := time.perf_counter() - begin) < seconds:
            for _ in range(32):
                self.step()
            count += 32
        self.micros.append(1e6 * taken / count)

    def ratio(self, other: Row) -> float:
        """Median of the ratios within a round."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.micros, other.micros, strict=True))


def stepper(env: TaskSequence | Backend, actions: np.ndarray) -> Callable[[], None]:
    """Returns a function that makes one vector step with the next of ``actions`` [N, B, ...]."""
    at = 0

    def sequence_step() -> None:
        nonlocal at
        env.step(actions[at := (at + 1) % len(actions)])  # type: ignore[union-attr, call-arg]

    if isinstance(env, TaskSequence):
        env.reset(seed=0)
        return sequence_step
    tasks = np.zeros(env.num_envs, dtype=np.int64)
    env.begin_life(0)
    env.reset(np.arange(env.num_envs), tasks)
    ended = np.zeros(env.num_envs, dtype=np.bool_)

    def bare_step() -> None:
        nonlocal at, ended
        waiting = ended if ended.any() else None
        _, terminated, truncated = env.step(actions[at := (at + 1) % len(actions)], waiting)
        ended = terminated | truncated
        if waiting is not None:
            env.reset(waiting.nonzero()[0], tasks)
        env.observations()

    return bare_step


def rows_of(suite: str, streams: int) -> list[Row]:
    """Builds the rows of one suite: bare, with shifts where there are any, and the whole sequence."""
    task, backend = envs.preset(suite)[1].tasks[-1], CASES[suite]
    built: list[tuple[str, Any]] = []
    for _ in range(3):
        built.append(("", envs.SUITES[suite].make_backend((task,), streams, backend)))
    bare, shifted, whole = (physics for _, physics in built)
    found: list[tuple[str, Any]] = [("bare", bare.inner if isinstance(bare, ShiftedBackend) else bare)]
    if isinstance(shifted, ShiftedBackend):
        found.append(("shifts", shifted))
    found.append(("sequence", TaskSequence(whole, (task,), Constant())))
    space = whole.single_action_space
    space.seed(0)
    actions = np.array([[space.sample() for _ in range(streams)] for _ in range(64)])
    return [Row(f"{suite} × {streams}: {what}", stepper(env, actions), []) for what, env in found]


def main(options: Options) -> str:
    """Measures and returns a table."""
    lines = ["| what | µs a vector step | × bare |", "|---|---:|---:|"]
    for suite in options.suites:
        if CASES[suite] == "envpool" and not envpool_is_installed():
            continue
        for streams in options.streams:
            rows = rows_of(suite, streams)
            for _ in range(options.rounds + 1):
                for row in rows:
                    row.window(options.window_seconds)
            for row in rows:
                del row.micros[0]  # warming up
                lines.append(f"| {row.name} | {statistics.median(row.micros):.1f} | {row.ratio(rows[0]):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main(tyro.cli(Options)))
