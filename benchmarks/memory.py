"""What each memory core can keep: every core on every probe, at spans far beyond its training.

    python -m benchmarks.memory
    python -m benchmarks.memory --tasks parity needle --cores hope:chunk=1 gated-delta lstm:scope=never --seeds 0 1 2
    python -m benchmarks.memory --quick        # a smoke test of seconds, not a measurement

Every core gets the same budget: one trial for each learning rate, on a seed of its own, then its runs with the rate
whose trial closed with the lowest training loss. A trained core is asked at the spans of
``benchmarks/probing/plans.py`` with its state carried from segment to segment. Each trial and run is kept as one small
file in ``benchmarks/results/memory/<task>/``; those that are there already are left out, so the command may be run
again.
``python -m benchmarks.tables`` draws the tables (``memory_<task>``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.probing.cell import Cell, run_cell
from benchmarks.probing.cores import CoreSpec, parse_core
from benchmarks.probing.plans import PLANS, QUICK_PLANS, QUICK_SETTINGS, Settings
from benchmarks.probing.records import PREFIX, Record, best_rate, find, has_runs, keep, memory_table
from benchmarks.speed import ROOT, provenance
from nl_agents.errors import NlAgentsError, UnknownNameError

RESULTS = ROOT / "benchmarks" / "results" / "memory"
TRIAL_SEED = 100
Advance = Callable[[Cell, int], None]  # called with the updates that a cell has made since the last call


@dataclass(frozen=True)
class Options(Settings):
    """Which cores on which probes, and the budget that all of them get."""

    tasks: tuple[str, ...] = tuple(PLANS)
    """probes by name"""
    cores: tuple[str, ...] = (
        "hope",
        "hope:chunk=1",
        "hope:projection_retention=50",
        "cms:scope=never",
        "self-modifying:scope=never",
        "gated-delta",
        "titans",
        "attention:scope=never",
        "diagonal:scope=never",
        "lstm:scope=never",
        "gru:scope=never",
        "feed-forward",
        "mlp",
    )
    """cores of the registry, each with options behind a colon: hope:chunk=1,heads=8"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of the runs, below 100 (the trials' seed)"""
    jobs: int = 1
    """trials and runs at the same time, one process and one thread each"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where cores live"""
    results: Path | None = None
    """folder of the records; default benchmarks/results/memory, a folder that is thrown away with --quick"""
    quick: bool = False
    """two updates of tiny cores, short spans, the first seed: shows that everything runs"""

    def budget(self) -> Settings:
        """The settings, or those of a smoke test."""
        return QUICK_SETTINGS if self.quick else Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})


@dataclass(frozen=True)
class Bench:
    """The benchmark at work: a budget, a folder, and a way to make what is missing there."""

    options: Options
    results: Path

    def run(self, cores: Iterable[CoreSpec]) -> list[str]:
        """Makes all trials, then all runs; returns what failed."""
        options, cores = self.options, list(cores)
        pairs = [(task, core) for task in options.tasks for core in cores]
        rates = options.budget().rates
        trials = [Cell(t, c, TRIAL_SEED, rate, is_trial=True) for t, c in pairs for rate in rates if len(rates) > 1]
        made, failed = self._make(trials, "trials")
        runs = []
        for seed in (
            options.seeds[:1] if options.quick else options.seeds
        ):  # seeds first, so that a table of few seeds is whole early
            for task, core in pairs:
                tried = [made[cell] for cell in trials if (cell.task, cell.core) == (task, core) and cell in made]
                if len(tried) == len(rates):
                    runs.append(Cell(task, core, seed, best_rate(tried)))
                elif len(rates) == 1:
                    runs.append(Cell(task, core, seed, rates[0]))
        return failed + self._make(runs, "runs")[1]

    def _make(self, cells: list[Cell], title: str) -> tuple[dict[Cell, Record], list[str]]:
        """Makes the records that are missing; returns all records and what failed."""
        plans, budget = (QUICK_PLANS if self.options.quick else PLANS), self.options.budget()
        found = {cell: find(self.results / cell.path, asdict(plans[cell.task]), asdict(budget)) for cell in cells}
        made = {cell: record for cell, record in found.items() if record is not None}
        missing = [cell for cell in cells if cell not in made]
        failed: list[str] = []
        if not missing:
            return made, failed
        known = provenance(self.options.device)
        with progress(title, len(missing) * budget.updates) as advance:
            work = partial(run_cell, settings=budget, device=self.options.device)
            for cell, outcome in self._outcomes(missing, plans, work, advance):
                if isinstance(outcome, Exception):
                    failed.append(f"{cell.path}: {type(outcome).__name__}: {outcome}")
                    continue
                made[cell] = outcome | known
                keep(made[cell], self.results / cell.path)
        return made, failed

    def _outcomes(self, cells: list[Cell], plans: Any, work: Any, advance: Advance) -> Iterator[tuple[Cell, Any]]:
        """Gives every cell with its record or with what it raised, as they come."""
        updates = self.options.budget().updates
        if self.options.jobs == 1:
            for cell in cells:
                try:
                    yield cell, work(cell, plans[cell.task], report=lambda _, cell=cell: advance(cell, 1))
                except Exception as error:
                    yield cell, error
            return
        with ProcessPoolExecutor(self.options.jobs, get_context("spawn")) as pool:
            waiting = {pool.submit(work, cell, plans[cell.task]): cell for cell in cells}
            for future in as_completed(waiting):
                advance(waiting[future], updates)
                yield waiting[future], future.exception() or future.result()


@contextmanager
def progress(title: str, updates: int) -> Iterator[Advance]:
    """A bar over all updates to come, on stderr."""
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, *times, console=Console(stderr=True)) as bar:
        line = bar.add_task(title, total=updates, now="")
        yield lambda cell, count: bar.update(line, advance=count, now=f"{cell.task} · {cell.core.label}")


def check(options: Options) -> list[CoreSpec]:
    """Reads the cores; SystemExit with a line for whatever cannot work."""
    try:
        for task in options.tasks:
            if task not in PLANS:
                raise UnknownNameError("task", task, PLANS)
        cores = [parse_core(text) for text in options.cores]
    except NlAgentsError as error:
        raise SystemExit(str(error)) from None
    late = [seed for seed in options.seeds if seed >= TRIAL_SEED]
    if late or not options.seeds:
        raise SystemExit(f"runs need seeds from 0 to {TRIAL_SEED - 1}: {TRIAL_SEED} and up are for trials; got {late}")
    if not options.rates or options.jobs < 1:
        raise SystemExit(f"expected a learning rate and jobs >= 1, got rates {options.rates} and jobs {options.jobs}")
    return cores


def main(options: Options) -> None:
    """Makes what is missing and prints a table for each task; exit 1 if a trial or run failed."""
    cores = check(options)
    with tempfile.TemporaryDirectory() as thrown_away:
        results = options.results or (Path(thrown_away) if options.quick else RESULTS)
        try:
            failed = Bench(options, results).run(cores)
            for task in options.tasks:
                if has_runs(results, task):
                    print(f"\n## {task}\n\n{memory_table(PREFIX + task, results)}", flush=True)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        except KeyboardInterrupt:
            print("\nstopped; what is finished is kept, the same command goes on from here")
            raise SystemExit(130) from None
    if options.quick:
        print("\nA smoke test: these figures measure nothing.")
    if failed:
        raise SystemExit("\n".join(["failed:", *failed]))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
