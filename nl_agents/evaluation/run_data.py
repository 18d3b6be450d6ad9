"""Everything that the page of one run shows, read once from its folder."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nl_agents.evaluation.bins import Bins, bin_returns, reference_arrays
from nl_agents.evaluation.lifetime import Floats, Lifetime, read_csv
from nl_agents.evaluation.metrics import RECOVERED, lifelong_metrics
from nl_agents.evaluation.recovery import Recoveries, recoveries
from nl_agents.evaluation.reference import Levels, reference_for
from nl_agents.evaluation.visits import Visits, find_visits


@dataclass(frozen=True)
class LevelTrack:
    """Period and rate of one level over life, as steps in the K records of levels.csv."""

    step: Floats
    period: Floats
    rate: Floats


@dataclass(frozen=True)
class RunData:
    """One run, measured.

    Attributes:
        life: the record of its episodes.
        visits: its stretches between switches.
        bins: return over life.
        figures: ``lifelong_metrics``.
        levels: random and expert return per task, None where no reference is known.
        recovery: recovery per visit, None where no reference is known.
        tracks: periods and rates by level.
        decisions: rows of decisions.jsonl.
        progress: columns of progress.csv, NaN where a cell is empty.
        config: config.json.
    """

    life: Lifetime
    visits: Visits
    bins: Bins
    figures: dict[str, float]
    levels: dict[str, Levels] | None
    recovery: Recoveries | None
    tracks: dict[str, LevelTrack]
    decisions: list[dict[str, Any]]
    progress: dict[str, Floats]
    config: dict[str, Any]

    @classmethod
    def read(cls, folder: str | Path, reference: Any = None) -> RunData:
        """Reads a run folder; files that a run may lack (levels, decisions, progress) may be missing."""
        path = Path(folder)
        life = Lifetime.from_run_folder(path)
        visits = find_visits(life)
        levels = reference_for(life, reference)
        recovery = None
        if levels is not None:
            low, high = reference_arrays(life, levels)
            recovery = recoveries(life, visits, low + RECOVERED * (high - low))
        return cls(
            life=life,
            visits=visits,
            bins=bin_returns(life, visits),
            figures=lifelong_metrics(life, reference),
            levels=levels,
            recovery=recovery,
            tracks=_read_tracks(path / "levels.csv"),
            decisions=_read_decisions(path / "decisions.jsonl"),
            progress=_read_progress(path / "progress.csv"),
            config=life.meta,
        )

    def columns(self, start: str, end: str = "") -> dict[str, tuple[Floats, Floats]]:
        """(steps, values) of the progress columns whose key starts and ends so; keyed by what lies between."""
        steps = self.progress.get("time/steps")
        if steps is None:
            return {}
        found = {}
        for key, values in self.progress.items():
            known = np.isfinite(values) & np.isfinite(steps)
            if key.startswith(start) and key.endswith(end) and known.any():
                found[key[len(start) : len(key) - len(end)]] = (steps[known], values[known])
        return found


def _read_tracks(path: Path) -> dict[str, LevelTrack]:
    if not path.exists():
        return {}
    rows = read_csv(path, (int, str, float, _number))
    tracks = {}
    for name in dict.fromkeys(row[1] for row in rows):
        mine = np.array([(row[0], row[2], row[3]) for row in rows if row[1] == name], float)
        tracks[name] = LevelTrack(mine[:, 0], mine[:, 1], mine[:, 2])
    return tracks


def _read_decisions(path: Path) -> list[dict[str, Any]]:
    """Reads the audit log; a last line cut by a kill is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    lines = text.splitlines()
    whole = lines if text.endswith("\n") else lines[:-1]
    return [json.loads(line) for line in whole if line.strip()]


def _read_progress(path: Path) -> dict[str, Floats]:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [key for key in (rows[0] if rows else {}) if key]
    return {key: np.array([_number(row.get(key) or "") for row in rows], float) for key in keys}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
