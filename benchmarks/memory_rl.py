"""What a memory core is worth to an agent that is paid for remembering: every core on tasks that need memory.

    python -m benchmarks.memory_rl                                   # all that are missing
    python -m benchmarks.memory_rl --tasks within-100 RepeatPreviousEasy --cores hope gru --seeds 0
    python -m benchmarks.memory_rl --quick                           # a smoke test of seconds, not a measurement

The agent is ``recurrent-ppo`` with its core changed and nothing else: no replay, no deep optimizer, no controller, the
options that a suite recommends to every agent, one learning rate for all, tuned for none. Tasks: the suite ``needle``
one task at a time, MiniGrid-MemoryS7, and POPGym's RepeatPrevious, CountRecall, Autoencode and Concentration where
POPGym is installed (``pip install popgym``). Every run is kept as one small file in
``benchmarks/results/memory_rl/<task>/``; those that are there are left out.
``python -m benchmarks.tables`` draws the table (``rl_memory``).
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

from benchmarks.one_life import one_life
from benchmarks.probing.records import Record, keep
from benchmarks.speed import ROOT, provenance
from nl_agents import envs
from nl_agents.envs.popgym_tasks import make_popgym, popgym_is_installed
from nl_agents.errors import UnknownNameError
from nl_agents.evaluation.lifetime import Lifetime
from nl_agents.tasks import TaskSequence

RESULTS = ROOT / "benchmarks" / "results" / "memory_rl"
POPGYM = ("RepeatPreviousEasy", "CountRecallEasy", "AutoencodeEasy", "ConcentrationEasy")
STEPS = {
    "within-10": 200_000,
    "within-100": 200_000,
    "across-10": 200_000,
    "MemoryS7": 1_000_000,
    **dict.fromkeys(POPGYM, 300_000),
}
# "hope" has heads of both kinds; a peer forgets at every episode unless the question is about the episode before.
CORES = ("hope", "gated-delta", "lstm", "gru", "feed-forward")
RATE = 2e-3
STREAMS = 16
BINS = 20


@dataclass(frozen=True)
class Options:
    """Which cores on which tasks."""

    tasks: tuple[str, ...] = tuple(STEPS)
    """tasks by name"""
    cores: tuple[str, ...] = CORES
    """cores of the registry"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """one run each"""
    results: Path | None = None
    """folder of the records; default benchmarks/results/memory_rl, a folder that is thrown away with --quick"""
    quick: bool = False
    """two rollouts of the first seed on each task: shows that everything runs"""


def make_task(name: str, seed: int) -> TaskSequence:
    """A life of one task.

    Raises:
        UnknownNameError: not a task of this benchmark.
        ModuleNotFoundError: a POPGym task without POPGym.
    """
    if name not in STEPS:
        raise UnknownNameError("task", name, STEPS)
    if name in POPGYM:
        return make_popgym(name, num_envs=STREAMS, seed=seed)
    suite = "minigrid-memory" if name.startswith("Memory") else "needle"
    return envs.SUITES[suite].task_env(name, num_envs=STREAMS, seed=seed)


def run(task: str, core: str, seed: int, steps: int) -> Record:
    """Lives once; returns the curve of training returns and the mean over the last tenth of the life."""
    torch.set_num_threads(1)
    env = make_task(task, seed)
    scope = "never" if task.startswith("across") else "episode"
    options = {"memory.core": core, "memory.scope": scope, "optimizer.lr": RATE}
    begun = time.perf_counter()
    life = one_life("recurrent-ppo", env, seed, steps, options)
    return {
        "task": task,
        "core": core,
        "seed": seed,
        "steps": steps,
        "rate": RATE,
        "scope": scope,
        "final": _mean(life.returns[life.step > 0.9 * steps]),
        "curve": [_mean(life.returns[part]) for part in _bins(life, steps)],
        "episodes": len(life.returns),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def _bins(life: Lifetime, steps: int) -> Iterator[Any]:
    edges = np.linspace(0, steps, BINS + 1)
    for low, high in itertools.pairwise(edges):
        yield (life.step > low) & (life.step <= high)


def _mean(returns: Any) -> float | None:
    return round(float(returns.mean()), 4) if len(returns) else None


def table(results: Path) -> str:
    """Draws all runs: one row a core, one column a task, mean [lowest, highest] return over seeds.

    Raises:
        ValueError: there are no runs.
    """
    runs: dict[tuple[str, str], list[Record]] = {}
    for path in sorted(results.glob("*/*.json")):
        record = json.loads(path.read_text("utf-8"))
        runs.setdefault((record["task"], record["core"]), []).append(record)
    if not runs:
        raise ValueError(f"no runs in {results}: run python -m benchmarks.memory_rl")
    tasks = [task for task in STEPS if any(task == known for known, _ in runs)]
    cores = [core for core in CORES if any(core == known for _, known in runs)]
    cores += sorted({core for _, core in runs} - set(cores))
    lines = [f"| core | {' | '.join(tasks)} |", "|---|" + "---:|" * len(tasks)]
    for core in cores:
        cells = [_cell([run["final"] for run in runs.get((task, core), [])]) for task in tasks]
        lines.append(f"| {core} | {' | '.join(cells)} |")
    budgets = ", ".join(f"{task} {runs[next(k for k in runs if k[0] == task)][0]['steps']:,}" for task in tasks)
    counts = sorted({len(group) for group in runs.values()})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seed{'s' * (counts[0] > 1)}"
    commits = ", ".join(sorted({str(run["commit"])[:10] for group in runs.values() for run in group}))
    few = "**Preliminary**: fewer than 3 seeds a core. " if counts[0] < 3 else ""
    return "\n".join(lines) + (
        f"\n\n{few}Return of the training episodes in the last tenth of a life, mean [lowest, highest] over {seeds}; "
        f"env steps: {budgets}. recurrent-ppo, width 64, rate {RATE:g} for all, {STREAMS} streams. Commit {commits}."
    )


def _cell(finals: list[float]) -> str:
    if not finals:
        return "–"
    mean = f"{np.mean(finals):.2f}"
    return mean if len(finals) == 1 else f"{mean} [{min(finals):.2f}, {max(finals):.2f}]"


def main(options: Options) -> None:
    """Makes what is missing, seeds first, and prints the table."""
    console = Console()
    with tempfile.TemporaryDirectory() as thrown_away:
        results = options.results or (Path(thrown_away) if options.quick else RESULTS)
        known = provenance("cpu")
        for seed in options.seeds[:1] if options.quick else options.seeds:
            for task in options.tasks:
                if task in POPGYM and not popgym_is_installed():
                    console.print(f"{task} is left out: POPGym is not installed (pip install popgym)")
                    continue
                for core in options.cores:
                    path = results / task / f"{core}-{seed}.json"
                    if not path.is_file():
                        steps = 2 * 128 * STREAMS if options.quick else STEPS.get(task, 0)
                        keep(run(task, core, seed, steps) | known, path)
                        console.print(f"{task}, {core}, seed {seed}: {json.loads(path.read_text())['final']}")
        console.print(table(results), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
