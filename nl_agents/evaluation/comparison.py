"""Sets agents side by side: one row an agent, every figure with an interval over its seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nl_agents.errors import ConfigError
from nl_agents.evaluation.figures import figure_of
from nl_agents.evaluation.lifetime import Lifetime
from nl_agents.evaluation.metrics import lifelong_metrics, task_scores
from nl_agents.evaluation.reference import reference_for, suite_of
from nl_agents.evaluation.statistics import Interval, cluster_bootstrap, iqm, mean, probability_of_improvement

SEEDS_FOR_A_TABLE = 10
WORST = -1e300  # a life without the figure: below every other, equal to its like
Life = Lifetime | str | Path
Given = Iterable[Life] | Mapping[str, Iterable[Life]]

FIGURES = (
    "normalised_return",
    "time_weighted_return",
    "recovery_first",
    "recovery_later",
    "recovery_ratio",
    "recognition_step",
    "revisit_savings",
    "switch_regret",
)


def group_lives(lives: Given) -> dict[str, list[Lifetime]]:
    """Reads what is a path and groups by agent: by the mapping's keys, or by ``meta["agent"]``.

    Raises:
        ConfigError: no life at all, one without a known agent, or lives of different suites.
    """
    groups: dict[str, list[Lifetime]] = {}
    if isinstance(lives, Mapping):
        groups = {name: [_read(life) for life in group] for name, group in lives.items()}
    else:
        for life in map(_read, lives):
            if not life.meta.get("agent"):
                raise ConfigError(
                    f"a life does not say which agent lived it (meta keys: {sorted(life.meta)}); "
                    "pass {'agent name': [lives]} instead of a list"
                )
            groups.setdefault(str(life.meta["agent"]), []).append(life)
    if not any(groups.values()):
        raise ConfigError("compare needs at least one life, got none; give run folders or Lifetime records")
    suites = {suite_of(str(life.meta.get("sequence") or "")) for group in groups.values() for life in group}
    if len(suites) > 1:
        raise ConfigError(f"compare sets lives of one suite side by side, got {sorted(suites)}; compare each by itself")
    return {name: group for name, group in groups.items() if group}


def compare(
    lives: Given,
    *,
    reference: str | Mapping[str, object] | None = None,
    against: str | None = None,
    seed: int = 0,
    repeats: int = 2000,
) -> list[dict[str, Any]]:
    """Compares agents over their seeds.

    Args:
        lives: lifetimes or run folders, grouped by the agent that their meta names, or a mapping agent -> lives.
        reference: as in ``lifelong_metrics``.
        against: agent that ``improvement`` is measured against; None is the best of the others, row by row.
        seed: of the bootstrap.
        repeats: bootstrap draws.

    Returns:
        One row an agent, best normalised lifelong return first: ``agent``, ``seeds``, ``steps`` (shortest life),
        ``preliminary`` (fewer than 10 seeds), one ``Interval`` for each figure of ``FIGURES`` (IQM over seeds; mean for
        recognition, with ``recognised`` = how many runs ever did), and ``improvement``, the probability that a run of
        this agent has the higher normalised lifelong return than one of ``improvement_over``. A figure that no run has
        is None. Intervals are 95 %, from resampling runs.
    """
    groups = group_lives(lives)
    if against is not None and against not in groups:
        raise ConfigError(f"against={against!r} is not among the agents compared, {sorted(groups)}; name one of them")
    rows = [_row(name, group, reference, seed, repeats) for name, group in groups.items()]
    rows.sort(key=lambda row: row["normalised_return"] or row["time_weighted_return"] or (-math.inf,), reverse=True)
    if len(groups) > 1:
        scores = {name: _life_scores(group, reference) for name, group in groups.items()}
        for row in rows:
            others = [str(other["agent"]) for other in rows if other["agent"] != row["agent"]]
            rival = against if against is not None and against in others else others[0]
            row["improvement_over"] = rival
            row["improvement"] = probability_of_improvement(
                scores[row["agent"]], scores[rival], repeats=repeats, seed=seed
            )
    return rows


def task_table(lives: Iterable[Lifetime], reference: str | Mapping[str, object] | None = None) -> np.ndarray[Any, Any]:
    """[runs, tasks] normalised lifelong return, for the stratified statistics; columns by task name, sorted."""
    scores = [task_scores(life, reference) for life in lives]
    names = sorted({name for score in scores for name in score})
    return np.array([[score.get(name, math.nan) for name in names] for score in scores], float)


def _row(
    name: str, group: list[Lifetime], reference: str | Mapping[str, object] | None, seed: int, repeats: int
) -> dict[str, Any]:
    figures = [lifelong_metrics(life, reference) for life in group]
    row: dict[str, Any] = {
        "agent": name,
        "seeds": len(group),
        "steps": min(life.steps for life in group),
        "preliminary": len(group) < SEEDS_FOR_A_TABLE,
    }
    for figure in FIGURES:
        values = [found[figure] for found in figures if math.isfinite(found.get(figure, math.nan))]
        statistic = mean if figure == "recognition_step" else iqm
        row[figure] = cluster_bootstrap(values, statistic, repeats=repeats, seed=seed) if values else None
    row["recognised"] = sum(math.isfinite(found.get("recognition_step", math.nan)) for found in figures)
    return row


def _life_scores(group: list[Lifetime], reference: str | Mapping[str, object] | None) -> list[float]:
    """One number a life: the normalised lifelong return, or the time-weighted return where there is no reference."""
    figure = "time_weighted_return" if reference_for(group[0], reference) is None else "normalised_return"
    values = [lifelong_metrics(life, reference)[figure] for life in group]
    return [value if math.isfinite(value) else WORST for value in values]


def _read(life: Life) -> Lifetime:
    if isinstance(life, Lifetime):
        return life
    path = Path(life)
    return Lifetime.from_run_folder(path) if path.is_dir() else Lifetime.load(path)


def describe(value: Interval | None, digits: int = 2) -> str:
    """``0.71 [0.64, 0.78]``, or a dash where no run has the figure."""
    if value is None:
        return "-"
    return f"{value.estimate:,.{digits}f} [{value.low:,.{digits}f}, {value.high:,.{digits}f}]"


def two_lines(value: Interval | None, digits: int = 2) -> str:
    """``describe`` with the interval on a line of its own, for narrow tables."""
    return describe(value, digits).replace(" [", "\n[", 1)


def figure_cell(name: str, value: Interval | None) -> str:
    """A figure of ``compare`` on two lines, with as many digits as it deserves."""
    return two_lines(value, figure_of(name).digits_of(value.estimate) if value else 0)
