"""Measures the two levels between which lifelong returns are normalised: a random policy, and an expert of each task.

    python -m benchmarks.references --suite cartpole-flip

Random: uniform actions, 400 episodes. Expert: PPO alone on that task for four times its budget, stochastic policy, mean
of its last 200 training episodes, best of three seeds (decision: the expert is a level, not a contestant). The result
is written where the package reads it: ``nl_agents/evaluation/references/<suite>.json``.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from nl_agents import agents, envs
from nl_agents.evaluation.lifetime import Lifetime
from nl_agents.evaluation.reference import write_reference

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "nl_agents" / "evaluation" / "references"
EXPERT_STEPS = {"cartpole-flip": 400_000, "minigrid-recurring": 400_000}


@dataclass
class Options:
    """What to measure."""

    suite: str
    """name of the suite"""
    seeds: tuple[int, ...] = (1001, 1002, 1003)
    """seeds of the experts"""
    tasks: tuple[str, ...] = ()
    """only these tasks; empty means all of the suite"""


def random_return(suite: str, task: str, episodes: int = 400) -> float:
    """Mean return of uniform actions over the first ``episodes`` episodes of every stream alike."""
    env = envs.SUITES[suite].task_env(task, num_envs=16, seed=999)
    actions = np.random.default_rng(999)
    env.reset()
    totals, running, waits = [[] for _ in range(16)], np.zeros(16), np.zeros(16, bool)
    while min(map(len, totals)) < episodes // 16:
        choice = actions.integers(0, env.single_action_space.n, 16)
        _, reward, terminated, truncated, _ = env.step(choice)
        running += np.where(waits, 0.0, reward)
        waits = terminated | truncated
        for stream in np.flatnonzero(waits):
            totals[stream].append(running[stream])
            running[stream] = 0.0
    return float(np.mean([total[: episodes // 16] for total in totals]))


def expert_return(suite: str, task: str, seed: int, steps: int) -> float:
    """Mean return of the last 200 training episodes of PPO alone on one task."""
    env = envs.SUITES[suite].task_env(task, num_envs=16, seed=seed)
    agent = agents.make("ppo", env, seed=seed, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        agent.learn(steps, run_dir=Path(folder) / "run")
        life = Lifetime.from_run_folder(Path(folder) / "run")
    return float(life.returns[-200:].mean())


def main(options: Options) -> None:
    """Measures and writes."""
    torch.set_num_threads(1)
    suite = envs.SUITES[options.suite]
    steps = EXPERT_STEPS[options.suite]
    tasks: dict[str, object] = {}
    for task in options.tasks or suite.tasks:
        experts = [expert_return(options.suite, task, seed, steps) for seed in options.seeds]
        tasks[task] = {"random": random_return(options.suite, task), "expert": max(experts), "seeds": experts}
        print(task, tasks[task], flush=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    command = "python -m benchmarks.references " + shlex.join(sys.argv[1:])
    notes = (
        f"random: uniform actions, 400 episodes; expert: agent 'ppo' alone on the task for {steps} env steps, mean of "
        "its last 200 training episodes (stochastic policy), best of the listed seeds"
    )
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{options.suite}.json"
    print(write_reference(path, options.suite, tasks, command=command, commit=commit.stdout.strip(), notes=notes))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
