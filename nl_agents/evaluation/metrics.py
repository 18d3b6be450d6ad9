"""Lifelong figures of one life, computed from its training episodes alone; there is no separate evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nl_agents.evaluation.bins import Bins, bin_returns, normalised, reference_arrays, weighted_mean
from nl_agents.evaluation.lifetime import Floats, Lifetime
from nl_agents.evaluation.recovery import recognition_step, recoveries
from nl_agents.evaluation.reference import Levels, reference_for, require_reference
from nl_agents.evaluation.visits import Visits, find_visits

RECOVERED = 0.8


def revisit_savings(visits: Visits, bins: Bins, score: Floats) -> float:
    """1 - deficit(later visit) / deficit(first visit), averaged over later visits, then over tasks.

    The deficit is the area between the expert's level and the life's score, over as many bins as both visits have.
    NaN for a life without revisits, and for tasks whose first visit has no deficit.
    """
    per_task = []
    for task in np.unique(visits.task):
        rows = np.flatnonzero(visits.task == task)
        curves = [1.0 - score[bins.visit == row] for row in rows]
        savings = []
        for curve in curves[1:]:
            common = min(len(curve), len(curves[0]))
            both = np.isfinite(curve[:common]) & np.isfinite(curves[0][:common])
            before = curves[0][:common][both].sum()
            if both.any() and before > 1e-9:
                savings.append(1.0 - curve[:common][both].sum() / before)
        if savings:
            per_task.append(np.mean(savings))
    return float(np.mean(per_task)) if per_task else float("nan")


def time_weighted_return(life: Lifetime) -> float:
    """Sum of R * length over the sum of length: the return of the episode that a random env step belongs to."""
    total = life.length.sum()
    return float((life.returns * life.length).sum() / total) if total else float("nan")


def end_of_visit(visits: Visits, bins: Bins, score: Floats) -> Floats:
    """[V] mean score over the last tenth of each visit (its last two bins when it has 20)."""
    values = np.full(len(visits.begin), np.nan)
    for visit in range(len(values)):
        curve = score[bins.visit == visit]
        tail = curve[-max(1, round(len(curve) / 10)) :]
        values[visit] = tail[np.isfinite(tail)].mean() if np.isfinite(tail).any() else np.nan
    return values


def switch_regret(visits: Visits, bins: Bins, score: Floats) -> float:
    """Env steps of life at the expert's level that a switch costs: mean over switches of sum (1 - score) * width.

    Counted over at most one median task length after each switch; the beginning of life is not a switch.
    """
    near = (bins.begin - visits.begin[bins.visit] < visits.task_length) & np.isfinite(score) & (bins.visit > 0)
    loss = np.bincount(bins.visit[near], weights=((1 - score) * bins.width)[near], minlength=len(visits.begin))
    seen = np.bincount(bins.visit[near], minlength=len(visits.begin)) > 0
    return float(loss[seen].mean()) if seen.any() else float("nan")


def task_scores(life: Lifetime, reference: str | Mapping[str, object] | None = None) -> dict[str, float]:
    """Normalised lifelong return of each task by itself: the row of a [runs, tasks] table for the statistics."""
    levels = require_reference(life, reference)
    bins = bin_returns(life, find_visits(life))
    score = normalised(bins.value, bins.task, life, levels)
    return {
        name: weighted_mean(score[bins.task == index], bins.width[bins.task == index])
        for index, name in enumerate(life.task_names)
    }


def lifelong_metrics(life: Lifetime, reference: str | Mapping[str, object] | None = None) -> dict[str, float]:
    """The named figures of one life (docs/metrics.md explains each).

    Args:
        life: the record.
        reference: random and expert return of every task: a suite's name, or ``{task: {"random": r, "expert": e}}``;
            None looks for the suite that ``life.meta["sequence"]`` names.

    Returns:
        Figures by name. Those that need a reference are absent when ``reference`` is None and the life's sequence has
        none (``nl_agents.evaluation.load_reference`` says how to make one).

    Raises:
        ReferenceMissingError: a suite was named that has no reference.
        ConfigError: the reference lacks a task of the life.
    """
    levels = reference_for(life, reference)
    visits = find_visits(life)
    figures = {
        "time_weighted_return": time_weighted_return(life),
        "episodes": float(len(life)),
        "switches": float(len(visits.begin) - 1),
    }
    bins = bin_returns(life, visits)
    figures["coverage"] = float(bins.width[np.isfinite(bins.value)].sum() / max(bins.width.sum(), 1.0))
    for name, value in zip(life.task_names, _last_ends(visits, bins, len(life.task_names)), strict=True):
        figures[f"end_return/{name}"] = value
    return figures if levels is None else {**_normalised_figures(life, visits, bins, levels), **figures}


def _last_ends(visits: Visits, bins: Bins, tasks: int) -> list[float]:
    ends = end_of_visit(visits, bins, bins.value)
    known = [ends[(visits.task == task) & np.isfinite(ends)] for task in range(tasks)]
    return [float(values[-1]) if len(values) else float("nan") for values in known]


def _normalised_figures(life: Lifetime, visits: Visits, bins: Bins, levels: Mapping[str, Levels]) -> dict[str, float]:
    score = normalised(bins.value, bins.task, life, levels)
    low, high = reference_arrays(life, levels)
    threshold = low + RECOVERED * (high - low)
    recovery = recoveries(life, visits, threshold)
    first = _median_over_tasks(recovery.steps, visits, visits.number == 1)
    later = _median_over_tasks(recovery.steps, visits, visits.number > 1)
    observed = recovery.observed
    figures = {
        "normalised_return": weighted_mean(score, bins.width),
        "recovery_first": first,
        "recovery_later": later,
        "recovery_ratio": later / first if first > 0 else float("nan"),
        "recovery_censored": float(recovery.censored[observed].mean()) if observed.any() else float("nan"),
        "recovery_observed": float(observed.mean()),
        "recognition_step": recognition_step(visits, recovery.first_return, threshold),
        "revisit_savings": revisit_savings(visits, bins, score),
        "switch_regret": switch_regret(visits, bins, score),
    }
    for index, name in enumerate(life.task_names):
        mine = bins.task == index
        figures[f"normalised_return/{name}"] = weighted_mean(score[mine], bins.width[mine])
    return figures


def _median_over_tasks(steps: Floats, visits: Visits, rows: NDArray[np.bool_]) -> float:
    """Median over tasks of each task's median over the given visits, observed ones only."""
    known = rows & np.isfinite(steps)
    medians = [np.median(steps[known & (visits.task == task)]) for task in np.unique(visits.task[known])]
    return float(np.median(medians)) if medians else float("nan")
