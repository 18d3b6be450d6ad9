"""Table and curve of whole lives, drawn from what ``benchmarks/lifelong.py`` keeps.

A record ``lifelong_<suite>`` is the folder ``benchmarks/results/lifelong/<suite>/``, one ``.npz`` and ``.json`` a life.
The table sets its agents side by side (``nl_agents.evaluation.compare``); the curve goes to ``docs/figures``. A curve
carries a digest of the lives that it shows, so that a check can tell whether it is of today without drawing it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nl_agents.evaluation import Interval, Lifetime, compare, lifelong_metrics
from nl_agents.evaluation.comparison import SEEDS_FOR_A_TABLE, describe
from nl_agents.evaluation.comparison_plots import plot_curves
from nl_agents.evaluation.reference import reference_for
from nl_agents.evaluation.style import canvas

PREFIX = "lifelong_"
DIGEST = "Lives"  # the keyword of a figure's digest
COLUMNS = (
    "agent",
    "normalised lifelong return",
    "recovery, first visits",
    "recovery, later visits",
    "visits not recovered",
    "recognises from step",
    "time-weighted return",
    "seeds",
    "minutes a life",
)


def read_lives(results: Path, name: str) -> dict[str, list[Lifetime]]:
    """Reads the lives of a record, agent -> lives in the order of their seeds.

    Args:
        results: the folder ``benchmarks/results``.
        name: of the record, ``lifelong_<suite>``.

    Raises:
        ValueError: there is no life of that name.
    """
    folder = results / "lifelong" / name.removeprefix(PREFIX)
    groups: dict[str, list[Lifetime]] = {}
    for path in _paths(folder):
        life = Lifetime.load(path)
        groups.setdefault(str(life.meta["agent"]), []).append(life)
    if not groups:
        known = ", ".join(sorted(PREFIX + found.name for found in folder.parent.glob("*"))) or "none"
        raise ValueError(
            f"no lives for {name!r} in {folder}: run python -m benchmarks.lifelong --sequence "
            f"{name.removeprefix(PREFIX)}; records of lives there: {known}"
        )
    return {agent: sorted(lives, key=lambda life: int(life.meta["seed"])) for agent, lives in groups.items()}


def lifelong_table(results: Path, name: str, reference: Any = None) -> str:
    """Draws a record of lives: one row an agent, best normalised lifelong return first, then how to read it.

    Args:
        results: the folder ``benchmarks/results``.
        name: of the record.
        reference: as in ``nl_agents.evaluation.compare``; None is the suite's own.
    """
    groups = read_lives(results, name)
    rows = [_cells(row, groups[row["agent"]], reference) for row in compare(groups, reference=reference)]
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n\n" + " ".join(_notes(groups, reference))


def draw_figure(results: Path, name: str, path: Path, reference: Any = None) -> None:
    """Draws the mean score over life of every agent, with 95 % bands, into a PNG.

    Agents come in the order of their names, so that the figures of two suites give one agent one colour.
    """
    groups = dict(sorted(read_lives(results, name).items()))
    levels = reference_for(next(iter(groups.values()))[0], reference)
    path.parent.mkdir(parents=True, exist_ok=True)
    with canvas(height=3.8) as (figure, (axes,)):
        plot_curves(axes, groups, levels)
        metadata: dict[str, Any] = {"Software": None, DIGEST: digest(results, name, reference)}
        figure.savefig(path, format="png", dpi=144, metadata=metadata)


def figure_is_current(results: Path, name: str, path: Path, reference: Any = None) -> bool:
    """Whether ``path`` was drawn from the lives and the reference that are there now."""
    if not path.is_file():
        return False
    with Image.open(path) as image:
        return bool(image.info.get(DIGEST) == digest(results, name, reference))


def digest(results: Path, name: str, reference: Any = None) -> str:
    """SHA-256 over the names and contents of a record's files and over its reference returns."""
    groups = read_lives(results, name)
    levels = reference_for(next(iter(groups.values()))[0], reference)
    found = hashlib.sha256(json.dumps(levels, sort_keys=True).encode())
    for path in _paths(results / "lifelong" / name.removeprefix(PREFIX)):
        for part in (path, path.with_suffix(".json")):
            found.update(part.name.encode() + part.read_bytes())
    return found.hexdigest()


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz"))


def _cells(row: dict[str, Any], lives: list[Lifetime], reference: Any) -> list[str]:
    """One agent's cells, in the order of ``COLUMNS``."""
    figures = [lifelong_metrics(life, reference) for life in lives]
    minutes = [life.meta["seconds"] / 60 for life in lives if "seconds" in life.meta]
    return [
        row["agent"] + (" †" if any(map(_was_told, lives)) else ""),
        describe(row["normalised_return"], 3),
        describe(row["recovery_first"], 0),
        describe(row["recovery_later"], 0),
        _share([found.get("recovery_censored", float("nan")) for found in figures]),
        _recognition(row["recognition_step"], row["recognised"], row["seeds"], "recognition_step" in figures[0]),
        describe(row["time_weighted_return"], 2),
        str(row["seeds"]),
        f"{np.median(minutes):,.1f}" if minutes else "-",
    ]


def _was_told(life: Lifetime) -> bool:
    return "--privileged" in str(life.meta.get("command", "")).split()


def _share(values: Iterable[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    return f"{np.mean(known):.0%}" if known else "-"


def _recognition(step: Interval | None, recognised: int, seeds: int, measured: bool) -> str:
    """Mean step over the runs that ever recognised, and how many those are."""
    if not measured:
        return "-"
    return "never" if step is None else f"{describe(step, 0)}, {recognised} of {seeds} runs"


def _notes(groups: dict[str, list[Lifetime]], reference: Any) -> Iterable[str]:
    """What a reader of the table must know, sentence by sentence."""
    lives = [life for group in groups.values() for life in group]
    if min(map(len, groups.values())) < SEEDS_FOR_A_TABLE:
        yield f"**Preliminary**: fewer than {SEEDS_FOR_A_TABLE} seeds an agent."
    shortest, longest = min(life.steps for life in lives), max(life.steps for life in lives)
    span = f"{shortest:,}" if longest <= 1.01 * shortest else f"{shortest:,} to {longest:,} (unequal!)"
    yield (
        f"Lives of {span} env steps over {lives[0].num_envs} streams, learning all the way. Interquartile mean over "
        "seeds [95 % interval from resampling runs]. Recovery: env steps to 80 % of the expert; a visit not recovered "
        "counts with its whole length. The recognition step is the mean of the runs that have one."
    )
    if reference_for(lives[0], reference) is None:
        yield "No reference returns are stored for this suite, so figures between random and expert are missing."
    if any(map(_was_told, lives)):
        yield "† a privileged control: told where tasks change."
    commits = ", ".join(sorted({str(life.meta.get("commit", "unknown"))[:10] for life in lives}))
    yield f"Minutes: wall-clock, median of lives that ran beside others. Commit {commits}."
