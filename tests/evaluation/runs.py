"""Run folders as training leaves them, made without training: for tests, and for looking at the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nl_agents.evaluation import Lifetime
from nl_agents.types import Episode, LevelInfo, format_levels

NEST = format_levels(
    [
        LevelInfo("core.memory.never", "4 x 16 x 16 floats", "env step", "L2 of the value", 1, "env step", "never"),
        LevelInfo("core.cms.fast", "64 x 8 floats", "8 env steps", "next input and reward", 8, "env step", "never"),
        LevelInfo("core.cms.slow", "16 640 weights", "16 minibatches", "PPO loss", 16, "learner update", "life"),
        LevelInfo("optimizer.memory", "3 x 61 000 floats", "gradients", "next gradient", 1, "learner update", "life"),
        LevelInfo("controller", "12 arms", "returns of epochs", "long-horizon return", 1, "decision epoch", "life"),
    ]
)


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_run(
    folder: Path,
    life: Lifetime,
    *,
    agent: str = "hope",
    sequence: str = "a-suite-without-reference",
    seed: int = 0,
    planned: int | None = None,
    full: bool = False,
) -> Path:
    """Writes the files that evaluation reads; ``full`` adds levels, decisions and a long progress.csv."""
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "agent": agent,
        "sequence": sequence,
        "steps": planned or life.steps,
        "seed": seed,
        "num_envs": life.num_envs,
        "device": "cpu",
        "threads": 1,
        "config": {"width": 64, "memory": {"heads": 4, "chunk": 16}, "optimizer": {"name": "deep-momentum"}},
        "versions": {"nl_agents": "0.1.0", "torch": "2.13.0"},
    }
    if full:
        config["levels"] = NEST
    (folder / "config.json").write_text(json.dumps(config))
    names = life.task_names
    columns = (life.step, life.stream, life.task, life.returns, life.length, life.begin)
    rows = [
        (int(step), int(stream), names[task], float(value), int(length), int(begin))
        for step, stream, task, value, length, begin in zip(*columns, strict=True)
    ]
    write_rows(folder / "episodes.csv", ("step", "stream", "task", "return", "length", "begin"), rows)
    write_rows(folder / "task_log.csv", ("step", "task"), life.task_log)
    write_rows(folder / "effective_log.csv", ("step", "stream", "task"), life.effective_log)
    _write_progress(folder, life, np.random.default_rng(seed), full)
    if full:
        _write_levels(folder, life, np.random.default_rng(seed + 1))
    return folder


def _write_progress(folder: Path, life: Lifetime, random: np.random.Generator, full: bool) -> None:
    steps = np.linspace(life.steps / 60, life.steps, 60).astype(int)
    columns: dict[str, Any] = {"time/steps": steps, "rollout/episodes": np.arange(60)}
    if full:
        columns["memory/matrix/norm"] = 4 + 3 * np.sin(steps / life.steps * 20) ** 2
        columns["memory/fast/norm"] = 3 + 0.3 * random.normal(size=60)
        columns["memory/level/norm"] = 2 * (1 - np.exp(-steps / life.steps * 8))
        columns["train/approx_kl"] = np.abs(0.01 * random.normal(size=60))
        columns["optimizer/gate"] = 0.5 + 0.2 * random.normal(size=60)
        columns["train/entropy"] = 0.69 - 0.4 * steps / life.steps
    write_rows(folder / "progress.csv", list(columns), zip(*columns.values(), strict=True))


def _write_levels(folder: Path, life: Lifetime, random: np.random.Generator) -> None:
    rows: list[tuple[Any, ...]] = []
    records: list[dict[str, Any]] = []
    period, rate = {"core.slow.0": 16, "weights": 4, "core.slow.1": 64}, {"core.slow.0": 3e-4, "weights": 1e-3}
    for number, step in enumerate(np.linspace(0, life.steps, 15).astype(int).tolist()):
        name = list(period)[number % 3]
        if number:
            period[name] = int(np.clip(period[name] * random.choice([0.5, 2]), 2, 128))
            decision = {"kind": "decision", "id": number, "step": step, "factor": f"level.{name}.period"}
            reason = "drawn from the posterior of its neighbours"
            records.append({**decision, "value": period[name], "position": 1, "reason": reason})
            credit = {"kind": "credit", "decision": number, "step": step + 9, "episodes": 40, "void": None}
            records.append({**credit, "mean": 300.0 + number, "surprise": float(random.normal())})
        rows += [(step, level, value, rate.get(level, 3e-4)) for level, value in period.items()]
    records[9] |= {"void": "shift", "mean": None, "surprise": None}
    idle = {"kind": "decision", "id": 99, "step": life.steps, "factor": None, "value": None, "reason": "default"}
    write_rows(folder / "levels.csv", ("step", "level", "period", "rate"), rows)
    lines = (json.dumps(row) + "\n" for row in [*records, idle])
    (folder / "decisions.jsonl").write_text("".join(lines))


def cartpole_life(
    seed: int, *, skill: float, savings: float, steps: int = 1_500_000, num_envs: int = 16, mean_task: int = 60_000
) -> Lifetime:
    """A made-up cartpole-flip life: return rises within a visit, and later visits start where memory lets them."""
    random = np.random.default_rng(seed)
    log, step, number = [(0, "standard")], 0, 0
    while (step := step + int(random.geometric(1 / mean_task))) < steps:
        number += 1
        log.append((step, ("standard", "flipped")[number % 2]))
    starts = np.array([start for start, _ in log] + [steps])
    episodes = []
    for stream in range(num_envs):
        clock = 0
        while clock < steps:
            visit = int(np.searchsorted(starts, clock, side="right")) - 1
            age = (clock - starts[visit]) / mean_task
            memory = 1 - np.exp(-savings * clock / steps)
            level = skill * (memory + (1 - memory) * (1 - np.exp(-1.5 * age)))
            length = int(np.clip(random.normal(20 + 480 * level, 20 + 60 * level), 9, 500))
            end = clock + length * num_envs
            if end > steps:
                break
            task = log[int(np.searchsorted(starts, end, side="left")) - 1][1]
            episodes.append(Episode(end, stream, task, float(length), length, clock))
            clock = end
    return Lifetime.from_episodes(episodes, log, steps=steps, num_envs=num_envs, meta={"seed": seed})
