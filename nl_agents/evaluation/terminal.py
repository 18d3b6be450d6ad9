"""Tables for the terminal: the end of a run, a comparison, an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nl_agents.errors import ReferenceMissingError
from nl_agents.evaluation.comparison import figure_cell, two_lines
from nl_agents.evaluation.figures import FIGURES, figure_of
from nl_agents.evaluation.lifetime import Lifetime
from nl_agents.evaluation.metrics import lifelong_metrics
from nl_agents.evaluation.reference import load_reference, suite_of
from nl_agents.types import Episode

COMPARED = ("normalised_return", "time_weighted_return", "recovery_later", "recognition_step")


def print_lifelong(run: str | Path, console: Console | None = None) -> None:
    """Prints the lifelong figures of a run folder."""
    console = console or Console()
    life = Lifetime.from_run_folder(run)
    figures = lifelong_metrics(life)
    title = f"{life.meta.get('agent')} on {life.meta.get('sequence')}: {life.steps:,} env steps"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("lifelong figure", style="cyan", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("unit", style="dim", no_wrap=True)
    for name, value in figures.items():
        figure = figure_of(name)
        table.add_row(figure.title, figure.format(value), figure.unit)
    console.print(table)
    if "normalised_return" not in figures:
        console.print(
            f"no reference is stored for {suite_of(str(life.meta.get('sequence')))}: figures between random and expert "
            "are left out (docs/evaluation.md says how to make one)",
            style="yellow",
        )


def print_comparison(rows: Sequence[dict[str, Any]], console: Console | None = None) -> None:
    """Prints the rows of ``compare``: IQM over seeds, with 95 % intervals from resampling runs below."""
    console = console or Console()
    table = Table(title="IQM over seeds [95 % interval]", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("agent", style="cyan", no_wrap=True)
    table.add_column("seeds", justify="right")
    names = [name for name in COMPARED if any(row[name] is not None for row in rows)]
    for name in names:
        table.add_column(FIGURES[name].title.lower(), justify="right")
    table.add_column("P(better)", justify="right")
    for row in rows:
        cells = [figure_cell(name, row[name]) for name in names]
        better = f"{two_lines(row['improvement'])}\nthan {row['improvement_over']}" if "improvement" in row else "-"
        table.add_row(row["agent"], str(row["seeds"]) + "*" * row["preliminary"], *map(escape, [*cells, better]))
    console.print(table)
    if any(row["preliminary"] for row in rows):
        console.print("* preliminary: fewer than 10 seeds", style="yellow")


def print_evaluation(episodes: Sequence[Episode], sequence: str, console: Console | None = None) -> None:
    """Prints mean and spread of the returns per task, beside random and expert where a reference is stored."""
    console = console or Console()
    try:
        levels = load_reference(sequence)
    except ReferenceMissingError:
        levels = {}
    table = Table(title=f"evaluation on {sequence}", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for number, name in enumerate(("task", "episodes", "return", "least", "most", "steps")):
        table.add_column(name, style="cyan" if number == 0 else None, justify="right" if number else "left")
    for name in ("random", "expert") if levels else ():
        table.add_column(name, justify="right", style="dim")
    for task in dict.fromkeys(episode.task for episode in episodes):
        mine = [episode for episode in episodes if episode.task == task]
        returns = np.array([episode.return_ for episode in mine])
        cells = [f"{returns.mean():.2f} ± {returns.std():.2f}", f"{returns.min():.2f}", f"{returns.max():.2f}"]
        known = [f"{level:.2f}" for level in levels[task]] if task in levels else ["-"] * (2 * bool(levels))
        table.add_row(task, str(len(mine)), *cells, f"{np.mean([episode.length for episode in mine]):.0f}", *known)
    console.print(table)
