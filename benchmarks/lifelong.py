"""Whole lives of several agents and seeds on one suite: the raw data behind the published tables.

    python -m benchmarks.lifelong --sequence cartpole-flip --jobs 2

Every life is one process, ``nl-agents train``, on the same sequence seed for every agent, with the agent's own defaults
and above them what its best tuning trial on this sequence had set (``benchmarks/tuning.py``). What is kept of a life
(episodes, task log, options, wall-clock) goes to ``benchmarks/results/lifelong/<sequence>/``; lives that are already
there are left out, so the command may be run again. ``python -m benchmarks.tables`` draws the tables.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.tuning_record import tuned
from nl_agents.evaluation.lifetime import Lifetime

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "lifelong"
PRIVILEGED = ("reset-at-switch",)


@dataclass
class Options:
    """Which lives to live."""

    sequence: str
    """suite, or suite:preset"""
    agents: tuple[str, ...] = ("hope", "ppo", "recurrent-ppo", "rl2", "reset-at-switch")
    """agents by name"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """seeds, disjoint from those used for tuning (100 and up)"""
    steps: int | None = None
    """env steps of a life; None means the preset's"""
    jobs: int = 2
    """lives at the same time, one thread each"""
    label: str = ""
    """suffix of the agents' names, for variants"""
    extra: tuple[str, ...] = ()
    """more arguments of ``train``, for variants: --extra --replay.ratio 0"""


def live(options: Options, agent: str, seed: int) -> str:
    """Lives one life and keeps its record, unless it is there; returns what to print."""
    kept = RESULTS / options.sequence.replace(":", "-") / f"{agent}{options.label}-seed{seed}"
    if kept.with_suffix(".npz").exists():
        return f"{kept.name}: there already"
    extra = (*tuned(options.sequence, agent), *options.extra)
    try:
        life = live_one(options.sequence, agent, seed, extra, options.steps)
    except RuntimeError as error:
        return f"{kept.name}: {error}"
    life.meta["agent"] = f"{agent}{options.label}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    life.save(kept)
    return f"{kept.name}: {life.meta['seconds']:.0f} s"


def live_one(sequence: str, agent: str, seed: int, extra: Iterable[str] = (), steps: int | None = None) -> Lifetime:
    """Lives one life in a process of its own, with one thread.

    Args:
        sequence: suite, or suite:preset.
        agent: by name.
        seed: of agent and sequence.
        extra: more arguments of ``train``.
        steps: env steps; None means the preset's.

    Raises:
        RuntimeError: the process failed; says what it printed.
    """
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = ["train.py", "--agent", agent, "--sequence", sequence, "--seed", str(seed)]
        command += ["--run-dir", str(run), "--device", "cpu", *extra]
        command += ["--steps", str(steps)] if steps else []
        command += ["--privileged"] if agent in PRIVILEGED else []
        started = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, env=environment, check=False
        )
        if result.returncode:
            raise RuntimeError(f"failed\n{result.stdout[-1000:]}{result.stderr[-2000:]}")
        life = Lifetime.from_run_folder(run)
        seconds = time.perf_counter() - started
        config = json.loads((run / "config.json").read_text())
    del life.meta["run_dir"]  # a folder that is gone
    shown = [word if word != str(run) else "RUN" for word in command]
    life.meta.update(
        seconds=round(seconds, 1),
        command="python " + " ".join(shown),
        commit=commit.stdout.strip(),
        config=config["config"],
        versions=config["versions"],
    )
    return life


def main(options: Options) -> None:
    """Lives all lives, seeds first, so that a table of few seeds is whole early."""
    pairs = [(agent, seed) for seed in options.seeds for agent in options.agents]
    with ThreadPoolExecutor(options.jobs) as pool:
        for line in pool.map(lambda pair: live(options, *pair), pairs):
            print(line, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
