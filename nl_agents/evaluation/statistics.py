"""Robust statistics over few runs: interquartile mean, bootstrap intervals, probability of improvement.

The measures are those of Agarwal et al. 2021 ("Deep reinforcement learning at the edge of the statistical precipice").
Two differences: every draw comes from a generator of our own, seeded by the caller; and beside their stratified
bootstrap there is a run-level one, because the tasks of one continual life are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nl_agents.evaluation.lifetime import Floats
from nl_agents.seeding import generator

Statistic = Callable[[Floats], Floats]
REPEATS = 2000
CHUNK = 1 << 22  # numbers held at once while resampling


class Interval(NamedTuple):
    """A point estimate with the ends of its percentile bootstrap interval."""

    estimate: float
    low: float
    high: float


def iqm(scores: ArrayLike) -> Floats:
    """Interquartile mean over the last axis: the mean of what is left after a quarter is trimmed at each end.

    Trims floor(n / 4) values a side, as ``scipy.stats.trim_mean(x, 0.25)`` does; with n < 4 it is the mean.

    Args:
        scores: [..., n], n >= 1.

    Returns:
        [...] means.
    """
    ordered = np.sort(np.asarray(scores, float), axis=-1)
    size = ordered.shape[-1]
    if size == 0:
        raise ValueError("iqm needs at least one score, got none; run at least one seed")
    trim = size // 4
    return np.asarray(ordered[..., trim : size - trim].mean(-1))


def mean(scores: ArrayLike) -> Floats:
    """Mean over the last axis [..., n] -> [...]; a ``Statistic`` like ``iqm``."""
    return np.asarray(np.asarray(scores, float).mean(-1))


def cluster_bootstrap(
    scores: ArrayLike, statistic: Statistic = iqm, *, repeats: int = REPEATS, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval from resampling whole runs: each draw takes runs with replacement and keeps their tasks together.

    Args:
        scores: [runs] or [runs, tasks].
        statistic: maps [..., n] to [...]; it sees all scores of a draw, runs and tasks pooled.
        repeats: bootstrap draws.
        level: coverage of the percentile interval, in (0, 1).
        seed: of the draws.
    """
    table = _table(scores)
    runs, tasks = table.shape
    random = generator(seed, "cluster bootstrap")
    draws = []
    for size in _batches(repeats, runs * tasks):
        rows = random.integers(runs, size=(size, runs))
        draws.append(statistic(table[rows].reshape(size, runs * tasks)))
    return _interval(statistic(table.reshape(-1)), np.concatenate(draws), level)


def stratified_bootstrap(
    scores: ArrayLike, statistic: Statistic = iqm, *, repeats: int = REPEATS, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval from resampling runs independently within each task (the stratum), as Agarwal et al. 2021 do.

    For the tasks of one continual life this treats dependent scores as independent and may be too narrow; the tables
    quote ``cluster_bootstrap``. Arguments as there.
    """
    table = _table(scores)
    runs, tasks = table.shape
    random = generator(seed, "stratified bootstrap")
    draws = []
    for size in _batches(repeats, runs * tasks):
        rows = random.integers(runs, size=(size, runs, tasks))
        draws.append(statistic(np.take_along_axis(table[None], rows, axis=1).reshape(size, runs * tasks)))
    return _interval(statistic(table.reshape(-1)), np.concatenate(draws), level)


def probability_of_improvement(
    ours: ArrayLike, theirs: ArrayLike, *, repeats: int = REPEATS, level: float = 0.95, seed: int = 0
) -> Interval:
    """P(a random run of ours scores above a random run of theirs), ties counted half; mean over tasks.

    The estimate is the Mann-Whitney U over n_x n_y; the interval resamples whole runs of both sides independently.

    Args:
        ours: [runs] or [runs, tasks].
        theirs: [runs'] or [runs', tasks].
        repeats: bootstrap draws.
        level: coverage of the percentile interval, in (0, 1).
        seed: of the draws.
    """
    left, right = _table(ours), _table(theirs)
    if left.shape[1] != right.shape[1]:
        raise ValueError(
            f"both sides need scores on the same tasks, got {left.shape[1]} and {right.shape[1]} columns; "
            "score both on one sequence"
        )
    wins = (np.sign(left[:, None] - right[None]) + 1).mean(-1) / 2  # [runs, runs']
    random = generator(seed, "probability of improvement")
    draws = []
    for size in _batches(repeats, wins.size):
        rows = random.integers(len(left), size=(size, len(left), 1))
        columns = random.integers(len(right), size=(size, 1, len(right)))
        draws.append(wins[rows, columns].mean((1, 2)))
    return _interval(wins.mean(), np.concatenate(draws), level)


def _table(scores: ArrayLike) -> Floats:
    table = np.asarray(scores, float)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"scores should be [runs] or [runs, tasks] and not empty, got shape {np.shape(scores)}")
    if not np.isfinite(table).all():
        raise ValueError(
            f"scores should be finite, got {int((~np.isfinite(table)).sum())} that are not; "
            "leave runs without the figure out, and say so"
        )
    return table


def _batches(repeats: int, numbers: int) -> list[int]:
    """Splits the draws so that no batch holds more than ``CHUNK`` numbers."""
    if repeats < 1:
        raise ValueError(f"repeats must be an integer >= 1, got {repeats}; 2000 is usual")
    size = max(1, min(repeats, CHUNK // max(numbers, 1)))
    return [min(size, repeats - start) for start in range(0, repeats, size)]


def _interval(estimate: Floats, draws: Floats, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}; 0.95 is usual")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high))
