"""Return over life in bins that restart at every switch, and its place between random and expert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nl_agents.errors import ConfigError
from nl_agents.evaluation.lifetime import Floats, Ints, Lifetime
from nl_agents.evaluation.reference import Levels
from nl_agents.evaluation.visits import Visits

BINS_PER_TASK = 20


@dataclass(frozen=True)
class Bins:
    """Return over life in N bins that restart at every switch.

    Attributes:
        begin: [N] first env step of the bin.
        width: [N] env steps; the last bin of a visit is as short as the visit leaves it.
        visit: [N] visit of the bin.
        task: [N] task index.
        value: [N] mean return, averaged per stream, then over streams; NaN where no stream has one.
    """

    begin: Floats
    width: Floats
    visit: Ints
    task: Ints
    value: Floats


def bin_returns(life: Lifetime, visits: Visits, bins_per_task: int = BINS_PER_TASK) -> Bins:
    """Bins the returns of a life (design: bins of 1/20 of the median task length, restarted at every switch).

    Per bin and stream: the mean return of the episodes that ended in the bin and were begun under the current task. A
    bin in which none ended takes the stream's last value; the bins before a stream's first value take that first value,
    since its episode was the one then running. Nothing is carried over a switch. A stream that finished no such episode
    in a visit is left out of it, and a visit in which no stream did is left out of the mean (``coverage`` says how much
    of the life is measured). So an agent at the expert's level scores 1 however long its episodes are.

    Args:
        life: the record.
        visits: its visits.
        bins_per_task: bins in a visit of median length.
    """
    width = max(visits.task_length / bins_per_task, 1.0)
    count = np.maximum(np.ceil(visits.length / width - 1e-9).astype(np.int64), 1)  # [V]
    offset = np.concatenate([[0], np.cumsum(count)])  # [V + 1]
    visit = np.repeat(np.arange(len(count)), count)  # [N]
    begin = visits.begin[visit] + (np.arange(offset[-1]) - offset[visit]) * width
    widths = np.minimum(begin + width, visits.end[visit]) - begin

    kept = np.flatnonzero(visits.of_episode >= 0)
    home = visits.of_episode[kept]
    inside = np.ceil((life.step[kept] - visits.begin[home]) / width - 1e-9).astype(np.int64) - 1  # (b, b + width]
    row = offset[home] + np.clip(inside, 0, count[home] - 1)
    cell = row * life.num_envs + life.stream[kept]
    shape = (int(offset[-1]), life.num_envs)
    total = np.bincount(cell, weights=life.returns[kept], minlength=shape[0] * shape[1]).reshape(shape)
    number = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    mean = np.divide(total, number, out=np.full(shape, np.nan), where=number > 0)
    filled = _carry(mean, offset[visit], offset[visit + 1])
    known = np.isfinite(filled)
    streams = known.sum(1)
    value = np.divide(np.where(known, filled, 0.0).sum(1), streams, out=np.full(shape[0], np.nan), where=streams > 0)
    return Bins(begin, widths, visit, visits.task[visit], value)


def _carry(values: Floats, first: Ints, stop: Ints) -> Floats:
    """Carries values [N, B] forward, and the first one backward, inside the row ranges ``[first, stop)`` [N]."""
    rows = np.arange(len(values))[:, None]
    known = np.isfinite(values)
    last = np.maximum.accumulate(np.where(known, rows, -1), axis=0)
    following = np.minimum.accumulate(np.where(known, rows, len(values))[::-1], axis=0)[::-1]
    source = np.where(last >= first[:, None], last, following)
    found = (source >= first[:, None]) & (source < stop[:, None])
    return np.where(found, np.take_along_axis(values, np.clip(source, 0, len(values) - 1), axis=0), np.nan)


def normalised(value: Floats, task: Ints, life: Lifetime, reference: Mapping[str, Levels]) -> Floats:
    """(R - R_random) / (R_expert - R_random), with the levels of each entry's task; shapes of all arrays alike."""
    low, high = reference_arrays(life, reference)
    return (value - low[task]) / (high[task] - low[task])


def reference_arrays(life: Lifetime, reference: Mapping[str, Levels]) -> tuple[Floats, Floats]:
    """[tasks] random and expert return, in the order of ``life.task_names``."""
    missing = [name for name in life.task_names if name not in reference]
    if missing:
        raise ConfigError(
            f"the reference has levels for {sorted(reference)}, but the life also visits {missing}; "
            "add {task: {'random': ..., 'expert': ...}} for every task"
        )
    low = np.array([reference[name].random for name in life.task_names], float)
    high = np.array([reference[name].expert for name in life.task_names], float)
    return low, high


def weighted_mean(values: Floats, weights: Floats) -> float:
    """Mean of the finite values under the weights; NaN if there is none."""
    known = np.isfinite(values)
    total = weights[known].sum()
    return float((values[known] * weights[known]).sum() / total) if total > 0 else float("nan")
