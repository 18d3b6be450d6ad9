"""Lives very long lives and watches the process's memory: nothing may grow but the logs, which are counted.

    python -m benchmarks.soak                              # every suite that runs here, ten million env steps each
    python -m benchmarks.soak --agent ppo --suites cartpole-flip --streams 16       # with an agent that learns

Memory is the resident size after a collection of garbage, at every tenth of the life. ``growth`` is the last minus the
one after the first fifth, by when everything has been built that a life builds. Results: ``benchmarks/results/soak``.
"""

from __future__ import annotations

import gc
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from nl_agents import agents, envs

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "soak"
POINTS = 10
SLOW = {"minigrid-goal-reversal", "minigrid-memory-switch", "mujoco-slippery"}
"""Suites on Python envs: a tenth of the steps."""


@dataclass
class Options:
    """What to live."""

    suites: tuple[str, ...] = ()
    """names; empty means all that run here"""
    steps: int = 10_000_000
    """env steps over all streams; suites on Python envs get a tenth"""
    streams: int = 256
    """parallel environments"""
    agent: str = ""
    """an agent that learns; empty: random actions, no agent"""


def resident_mb() -> float:
    """Resident memory of this process in MB (Linux)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def random_life(env: Any) -> Callable[[int], None]:
    """Returns a function that steps ``env`` with random actions until its clock has reached a number."""
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    place = 0

    def until(clock: int) -> None:
        nonlocal place
        while env.clock < clock:
            env.step(actions[place := (place + 1) % len(actions)])

    return until


def learning_life(env: Any, name: str) -> Callable[[int], None]:
    """Returns a function that lets an agent live until its clock has reached a number."""
    agent = agents.make(name, env, seed=0, device="cpu")

    def until(clock: int) -> None:
        if clock > agent.num_timesteps:
            agent.learn(clock - agent.num_timesteps)

    return until


def soak(suite: str, options: Options) -> dict[str, Any]:
    """Lives one life; returns what was seen."""
    steps = options.steps // 10 if suite in SLOW and not options.agent else options.steps
    env = envs.make_sequence(suite, num_envs=options.streams, seed=0)
    until = learning_life(env, options.agent) if options.agent else random_life(env)
    seen, started = [resident_mb()], time.perf_counter()
    for point in range(1, POINTS + 1):
        until(steps * point // POINTS)
        seen.append(resident_mb())
    logged = len(env.task_log) + len(env.effective_log)
    env.close()
    return {
        "suite": suite,
        "agent": options.agent or "random actions",
        "streams": options.streams,
        "steps": steps,
        "megabytes": [round(value, 2) for value in seen],
        "growth_mb": round(seen[-1] - seen[2], 2),
        "log_entries": logged,
        "seconds": round(time.perf_counter() - started, 1),
    }


def main(options: Options) -> None:
    """Lives and records."""
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    for suite in options.suites or tuple(name for name, found in envs.SUITES.items() if found.runs_here):
        record = {**soak(suite, options), "commit": commit.stdout.strip()}
        label = f"{suite}-{options.agent}" if options.agent else suite
        (RESULTS / f"{label}.json").write_text(json.dumps(record) + "\n")
        print(f"{label:36} {record['steps']:>12,} steps  growth {record['growth_mb']:6.2f} MB  "
              f"log {record['log_entries']:,} entries  {record['seconds']:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
