"""Tuning trials: the same number for every agent, whole lives on seeds that no published table uses.

    python -m benchmarks.tuning --sequence cartpole-flip --jobs 2

Every agent gets the same trials (learning rates around the default). Each trial is kept as one small file in
``benchmarks/results/tuning/<sequence>/``, those that are there already are left out, and ``benchmarks/lifelong.py``
lives its published lives with each agent's best trial. ``python -m benchmarks.tables`` draws the table of trials.
"""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import tyro

from benchmarks.lifelong import live_one
from benchmarks.tuning_record import RESULTS, tuning_table
from nl_agents.evaluation import lifelong_metrics

TRIALS = {
    "lr-1e-3": ("--optimizer.lr", "1e-3"),
    "lr-5e-4": ("--optimizer.lr", "5e-4"),
    "lr-2e-3": ("--optimizer.lr", "2e-3"),
}


@dataclass
class Options:
    """Which trials to make."""

    sequence: str
    """suite, or suite:preset"""
    agents: tuple[str, ...] = ("hope", "ppo", "recurrent-ppo", "rl2", "reset-at-switch")
    """agents by name"""
    seed: int = 100
    """of agent and sequence; published tables use 0 to 29"""
    jobs: int = 2
    """lives at the same time, one thread each"""


def make_trial(options: Options, agent: str, trial: str) -> str:
    """Lives one trial and keeps its figures, unless they are there; returns what to print."""
    kept = RESULTS / options.sequence.replace(":", "-") / f"{agent}-{trial}-seed{options.seed}.json"
    if kept.exists():
        return f"{kept.name}: there already"
    try:
        life = live_one(options.sequence, agent, options.seed, TRIALS[trial])
    except RuntimeError as error:
        return f"{kept.name}: {error}"
    figures = {name: value if math.isfinite(value) else None for name, value in lifelong_metrics(life).items()}
    record = {
        "agent": agent,
        "trial": trial,
        "arguments": list(TRIALS[trial]),
        "seed": options.seed,
        "figures": figures,
        **{name: life.meta[name] for name in ("command", "commit", "seconds", "versions")},
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return f"{kept.name}: {figures['normalised_return']:.3f} in {life.meta['seconds']:.0f} s"


def main(options: Options) -> None:
    """Makes all trials and prints their table."""
    if options.seed < 30:
        raise SystemExit(f"tune on seeds from 30 on: seed {options.seed} belongs to the published tables")
    pairs = [(agent, trial) for trial in TRIALS for agent in options.agents]
    with ThreadPoolExecutor(options.jobs) as pool:
        for line in pool.map(lambda pair: make_trial(options, *pair), pairs):
            print(line, flush=True)
    print(tuning_table(f"tuning_{options.sequence.replace(':', '-')}"))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
