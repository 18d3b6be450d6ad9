"""Is what a preset asks for learnable at all? A plain agent alone on each task, for as long as the preset gives it.

    python -m benchmarks.alone                          # every suite's default preset, whatever is missing
    python -m benchmarks.alone --suites needle --seeds 2001
    python -m benchmarks.alone --quick                  # a smoke test of a minute, not a measurement
    python -m benchmarks.alone --suites minigrid-memory --seeds 1001 --set ppo.num_epochs=4 --results runs/tried

One agent lives on one task that never shifts: PPO, with a memory where the task needs one (``benchmarks.references``
says which), with the options that the suite recommends to every agent. It lives for all the env steps that the preset
spends on that task. A task is learnt with the first twentieth of that life whose episodes come, in the mean, 90 % of
the way from random to expert (the suite's stored reference). Tasks that are one another's image for a learner are lived
once. Seeds are none of those on which settings were chosen. Records: ``benchmarks/results/alone``, one a life;
``python -m benchmarks.tables`` draws the table (``alone``).
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from benchmarks.one_life import curve_of_20, one_life
from benchmarks.probing.records import Record, keep
from benchmarks.references import PLANS, Plan
from benchmarks.speed import ROOT, provenance
from nl_agents import envs
from nl_agents.errors import ConfigError
from nl_agents.evaluation.reference import Levels, load_reference
from nl_agents.tasks import Blocks, PerEpisode, Preset

RESULTS = ROOT / "benchmarks" / "results" / "alone"
# of needle no reference is measured: it has a closed form
LIVED = PLANS | {"needle": Plan(400_000, "recurrent-ppo", others={"across": "rl2"})}
STREAMS = 16
WAY = 0.9  # from random to expert


@dataclass(frozen=True)
class Options:
    """Which suites, how often."""

    suites: tuple[str, ...] = tuple(LIVED)
    """names"""
    seeds: tuple[int, ...] = (2001, 2002, 2003)
    """one life a task each"""
    results: Path | None = None
    """folder of the records; default benchmarks/results/alone, a folder that is thrown away with --quick"""
    set: tuple[str, ...] = ()
    """options of the agent to try, area.name=value; needs --results"""
    steps: int | None = None
    """env steps of every life; default: what the preset spends on the task; needs --results"""
    quick: bool = False
    """two rollouts of the first seed on each task: shows that everything runs"""


def share(preset: Preset, task: int) -> int:
    """Env steps that a preset spends on a task; where its switches are drawn or counted in episodes, an even share."""
    if not isinstance(preset.schedule, Blocks):
        return preset.steps // len(preset.tasks)
    switches = preset.schedule.switches(0, len(preset.tasks))  # may go on for ever
    begins = [*itertools.takewhile(lambda begin: begin[0] < preset.steps, switches), (preset.steps, -1)]
    return sum(end - begin for (begin, lived), (end, _) in itertools.pairwise(begins) if lived == task)


def block(preset: Preset, task: int) -> str:
    """One visit of a task, in words."""
    schedule = preset.schedule
    if isinstance(schedule, PerEpisode):
        return f"{schedule.schedule.shortest_block():,.0f} episodes"
    if isinstance(schedule, Blocks):
        return f"{next(length for lived, length in schedule.blocks if lived == task):,}"
    return f"{getattr(schedule, 'mean', schedule.shortest_block()):,.0f} on average"


def tasks_of(suite: str) -> Iterator[tuple[str, int]]:
    """The tasks of the default preset that are lived, with their place in it."""
    preset = envs.SUITES[suite].presets[envs.SUITES[suite].default_preset]
    lived: set[str] = set()
    for place, task in enumerate(preset.tasks):
        judge = LIVED[suite].like(task)
        if judge not in lived:
            lived.add(judge)
            yield judge, place


def learnt_at(life: Mapping[str, Any], levels: Levels) -> int | None:
    """Env steps after the first twentieth of a recorded life that came ``WAY`` of the way; None: none did."""
    goal, curve = levels.random + WAY * (levels.expert - levels.random), life["curve_of_20"]
    there = (place for place, mean in enumerate(curve, start=1) if mean is not None and mean >= goal)
    return next((round(life["steps"] * place / len(curve)) for place in there), None)


def live(suite: str, task: str, seed: int, steps: int, options: Mapping[str, Any]) -> Record:
    """One life, kept as the mean return of each of its twentieths."""
    env = envs.SUITES[suite].task_env(task, num_envs=STREAMS, seed=seed)
    agent = LIVED[suite].agent_of(task)
    life = one_life(agent, env, seed, steps, options)
    return {
        "suite": suite,
        "task": task,
        "agent": agent,
        "options": {**env.recommended, **options},
        "seed": seed,
        "steps": life.steps,
        "curve_of_20": curve_of_20(life),
    }


def tried(options: Options) -> dict[str, Any]:
    """The agent's options that were given by ``--set``, name -> value.

    Raises:
        ConfigError: not of the form name=value, or the lives would stand among those of the table.
    """
    if (options.set or options.steps) and options.results is None and not options.quick:
        raise ConfigError("lives of other options or lengths do not belong into the table; give a folder by --results")
    bad = [given for given in options.set if "=" not in given]
    if bad:
        raise ConfigError(f"--set expects area.name=value, for example ppo.num_epochs=4; got {bad[0]!r}")
    return {name: _value(text) for name, _, text in (given.partition("=") for given in options.set)}


def is_kept(path: Path, options: Mapping[str, Any]) -> bool:
    """Whether a life has been lived.

    Raises:
        ConfigError: it has, with other options of the agent, so it would stand for what it is not.
    """
    if not path.is_file():
        return False
    found = json.loads(path.read_text("utf-8"))["options"]
    if found != dict(options):
        raise ConfigError(
            f"{path.name} was lived with {found}, not {dict(options)}; delete it, or give other --results"
        )
    return True


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def table(results: Path) -> str:
    """Draws the records: one row a task.

    Raises:
        ValueError: there are none.
    """
    rows, commits = [], set()
    for suite in LIVED:
        preset = envs.SUITES[suite].presets[envs.SUITES[suite].default_preset]
        for task, place in tasks_of(suite):
            files = [file for file in (results / suite).glob("*.json") if file.stem.rpartition("-")[0] == task]
            lives = sorted((json.loads(file.read_text("utf-8")) for file in files), key=lambda life: int(life["seed"]))
            if lives:
                rows.append(_row(suite, task, lives, block(preset, place)))
                commits |= {life["commit"][:10] for life in lives}
    if not rows:
        raise ValueError(f"no lives in {results}: run python -m benchmarks.alone")
    heads = "suite", "task", "agent", "learnt after env steps", "at the end", "random", "expert", "one visit", "lived"
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|---:|---:|---:|---:|", *rows]
    return "\n".join([*lines, "", f"{STREAMS} streams; commits {', '.join(sorted(commits))}."])


def _row(suite: str, task: str, lives: list[dict[str, Any]], visit: str) -> str:
    levels = load_reference(suite)[task]
    found = [learnt_at(life, levels) for life in lives]
    when = " / ".join("**not**" if steps is None else f"{steps:,}" for steps in found)
    ends = " / ".join(f"{life['curve_of_20'][-1]:.3g}" for life in lives)
    agent, lived = lives[0]["agent"], max(life["steps"] for life in lives)
    return (
        f"| {suite} | {task} | {agent} | {when} | {ends} | {levels.random:.3g} | {levels.expert:.3g} | {visit} "
        f"| {lived:,} |"
    )


def main(options: Options) -> None:
    """Lives what is missing, seeds first, and prints the table."""
    torch.set_num_threads(1)
    console, others = Console(), tried(options)
    with tempfile.TemporaryDirectory() as thrown_away:
        results = options.results or (Path(thrown_away) if options.quick else RESULTS)
        known = provenance("cpu")
        for seed in options.seeds[:1] if options.quick else options.seeds:
            for suite in options.suites:
                preset = envs.SUITES[suite].presets[envs.SUITES[suite].default_preset]
                for task, place in tasks_of(suite):
                    path = results / suite / f"{task}-{seed}.json"
                    if is_kept(path, {**envs.SUITES[suite].recommended, **others}):
                        continue
                    steps = 2 * 128 * STREAMS if options.quick else options.steps or share(preset, place)
                    record = live(suite, task, seed, steps, others)
                    keep(record | known, path)
                    when = learnt_at(record, load_reference(suite)[task])
                    console.print(f"{suite}, {task}, seed {seed}: learnt after {when} of {record['steps']} env steps")
        console.print(table(results), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
