"""Env steps per second, learning included, as ratios to five opponents on the same machine in the same minutes.

    python -m benchmarks.speed --env cartpole
    python -m benchmarks.speed --env doorkey --contestants hope-core hand-lstm
    python -m benchmarks.speed --env cartpole --device cuda --streams 16 256 4096
    python -m benchmarks.speed --env cartpole --quick        # a smoke test, not a measurement

Every contestant has its own process, learns for ``--warmup-steps`` first, and is then timed in windows that go round
(A B A B ...). A ratio is the median over rounds of the ratios within a round. Writes
benchmarks/results/speed_<env>[_cuda].json with every window, the machine, the versions and the commit.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks.contestants import CONTESTANTS, DEFAULT
from benchmarks.opponents.settings import Settings
from benchmarks.windows import Runner, Turn, Window

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("torch", "numpy", "gymnasium", "minigrid", "envpool", "stable-baselines3", "sb3-contrib")
AGAINST = ("stock", "fused", "hand-lstm", "hand-mlp")


@dataclass
class Options:
    """What to measure."""

    env: Literal["cartpole", "doorkey", "doorkey-python"] = "cartpole"
    """native vector CartPole, MiniGrid-DoorKey-5x5 on EnvPool for all, or on Python MiniGrid for all"""
    streams: tuple[int, ...] = (16,)
    """numbers of parallel environments, one table each"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where nets live; environments stay on the CPU"""
    threads: int = 1
    """torch threads of each contestant"""
    contestants: tuple[str, ...] = DEFAULT
    """keys of benchmarks.contestants.CONTESTANTS"""
    warmup_steps: int = 50_000
    """env steps of learning before the clock starts"""
    window_steps: int = 8192
    """least env steps of a window (at least one update)"""
    window_seconds: float = 2.0
    """least seconds of a window"""
    rounds: int = 5
    """windows for each contestant"""
    width: int = 128
    """units of encoder and memory"""
    seed: int = 0
    """seed of nets and environments"""
    quick: bool = False
    """one short window after one update: shows that everything runs"""
    out: Path | None = None
    """the JSON file; default benchmarks/results/speed_<env>[_cuda].json, none with --quick"""


@dataclass
class Row:
    """One contestant's figures at one number of streams."""

    name: str
    streams: int
    parameters: int
    windows: list[Window] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Env steps a second, a window each."""
        return [window.speed for window in self.windows]

    def ratio(self, other: Row) -> float:
        """Median over rounds of our speed through the other's, measured next to each other."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.speeds, other.speeds, strict=True))


def measure(options: Options, streams: int) -> list[Row]:
    """Warms every contestant up, then goes round."""
    settings = Settings(num_envs=streams, width=options.width, seed=options.seed, device=options.device)
    runners: list[Runner] = []
    try:
        for name in options.contestants:
            print(f"{streams} streams: {name} learns for {options.warmup_steps:,} steps", file=sys.stderr)
            runner = Runner(name, options.env, settings, threads=options.threads, warmup_steps=options.warmup_steps)
            runners.append(runner)
        rows = [Row(runner.name, streams, runner.parameters) for runner in runners]
        for index in range(options.rounds):
            for runner, row in zip(runners, rows, strict=True):
                row.windows.append(runner.window(Turn(options.window_steps, options.window_seconds)))
            print(f"{streams} streams: round {index + 1} of {options.rounds}", file=sys.stderr)
    finally:
        for runner in runners:
            runner.stop()
    return rows


def table(rows: list[Row], warmup_steps: int) -> str:
    """Draws rows of one number of streams as a markdown table."""
    by_name = {row.name: row for row in rows}
    against = [name for name in AGAINST if name in by_name]
    heads = ["contestant", "env steps/s: median [lowest–highest]", *(f"× ({CONTESTANTS[n].letter})" for n in against)]
    lines = [" | ".join(["", *heads, "parameters", "other load", ""]).strip()]
    lines.append("|" + "---|" * (len(heads) + 2))
    for row in rows:
        who, speeds = CONTESTANTS[row.name], row.speeds
        cells = [f"({who.letter}) {who.label}" if who.letter else f"**{who.label}**"]
        cells.append(f"{statistics.median(speeds):,.0f} [{min(speeds):,.0f}–{max(speeds):,.0f}]")
        cells += [f"{row.ratio(by_name[name]):.2f}" for name in against]
        loads = [window.other_load for window in row.windows if window.other_load is not None]
        cells += [f"{row.parameters:,}", f"{statistics.median(loads):.2f}" if loads else "?"]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"{CONTESTANTS[row.name].label}: {CONTESTANTS[row.name].note}." for row in rows]
    head = f"{rows[0].streams} streams, {len(rows[0].windows)} windows each after {warmup_steps:,} steps of learning."
    return "\n".join([head, "", *lines, "", *(f"- {note}" for note in notes)])


def processor() -> str:
    """Model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def provenance(device: str) -> dict[str, Any]:
    """Machine, versions and commit of a measurement."""
    import torch

    def git(*words: str) -> str:
        finished = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return finished.stdout.strip()

    versions = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    machine = {"cpu": processor(), "cores": os.cpu_count(), "system": platform.platform()}
    machine["gpu"] = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "machine": machine,
        "versions": versions,
        "commit": git("rev-parse", "HEAD") or "unknown",
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
    }


def main(options: Options) -> None:
    """Measures, prints the tables, writes the record."""
    unknown = [name for name in options.contestants if name not in CONTESTANTS]
    if unknown:
        raise SystemExit(f"unknown contestants {', '.join(unknown)}: known are {', '.join(CONTESTANTS)}")
    if options.quick:
        options = replace(options, warmup_steps=1, window_steps=1, window_seconds=0.0, rounds=1)
    rows = []
    for streams in options.streams:
        measured = measure(options, streams)
        print("\n" + table(measured, options.warmup_steps) + "\n", flush=True)
        rows += measured
    out = options.out
    if out is None and not options.quick:
        suffix = "_cuda" if options.device == "cuda" else ""
        out = ROOT / "benchmarks" / "results" / f"speed_{options.env}{suffix}.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        options = replace(options, out=None)
        record = provenance(options.device) | {"options": asdict(options), "rows": [asdict(row) for row in rows]}
        out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        print(f"written: {out}", file=sys.stderr)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
