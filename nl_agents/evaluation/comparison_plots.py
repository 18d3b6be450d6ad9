"""The figures of the page that sets agents side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from nl_agents.evaluation.bins import bin_returns, normalised, reference_arrays
from nl_agents.evaluation.lifetime import Floats, Lifetime
from nl_agents.evaluation.metrics import RECOVERED, lifelong_metrics
from nl_agents.evaluation.plots import sliding_mean
from nl_agents.evaluation.recovery import recoveries
from nl_agents.evaluation.reference import Levels
from nl_agents.evaluation.style import (
    AGENTS,
    INK,
    MUTED,
    canvas,
    colour,
    key_above,
    short,
    steps_axis,
    to_uri,
    whole_numbers,
)
from nl_agents.evaluation.visits import find_visits
from nl_agents.seeding import generator

Groups = Mapping[str, list[Lifetime]]
GRID = 150
REPEATS = 500


def curves_over_life(groups: Groups, levels: dict[str, Levels] | None) -> str:
    """Score over life as an SVG address: ``plot_curves`` on a figure of its own."""
    with canvas(height=3.8) as (figure, (axes,)):
        plot_curves(axes, groups, levels)
        return to_uri(figure)


def plot_curves(axes: Axes, groups: Groups, levels: dict[str, Levels] | None) -> None:
    """Score over life, averaged over a sliding tenth; mean over seeds, with a 95 % band from resampling seeds."""
    length = min(life.steps for group in groups.values() for life in group)
    grid = np.linspace(0, length, GRID)
    for index, (agent, group) in enumerate(groups.items()):
        curves = np.array([_curve(life, levels, grid) for life in group])
        tint = colour(AGENTS, index)
        low, high = _band(curves)
        axes.fill_between(grid, low, high, color=tint, alpha=0.14, linewidth=0)
        seeds = f"{len(group)} seed{'s' * (len(group) > 1)}"
        axes.plot(grid, _mean(curves), color=tint, linewidth=2, label=f"{agent} ({seeds})")
    if levels is not None:
        axes.axhline(1, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_ylabel("0 random, 1 expert" if levels else "return of an episode")
    axes.set_xlim(0, length)
    steps_axis(axes)
    key_above(axes, 5)


def _curve(life: Lifetime, levels: dict[str, Levels] | None, grid: Floats) -> Floats:
    bins = bin_returns(life, find_visits(life))
    values = bins.value if levels is None else normalised(bins.value, bins.task, life, levels)
    return sliding_mean(bins.begin + bins.width / 2, values, bins.width, grid, life.steps / 10)


def _mean(curves: Floats) -> Floats:
    known = np.isfinite(curves)
    count = known.sum(0)
    total = np.where(known, curves, 0.0).sum(0)
    return np.asarray(np.divide(total, count, out=np.full(curves.shape[1], np.nan), where=count > 0))


def _band(curves: Floats) -> tuple[Floats, Floats]:
    """95 % percentile band of the mean curve, resampling runs; of zero width with one run."""
    rows = generator(0, "band").integers(len(curves), size=(REPEATS, len(curves)))
    means = np.stack([_mean(curves[row]) for row in rows])
    known = np.isfinite(means).all(0)
    low, high = np.full((2, curves.shape[1]), np.nan)
    low[known], high[known] = np.quantile(means[:, known], [0.025, 0.975], axis=0)
    return low, high


def intervals(groups: Groups, rows: list[dict[str, Any]], figure_name: str, label: str, reference: Any) -> str | None:
    """One line an agent: interval over seeds, IQM as a bar, every seed as a dot."""
    shown = [row for row in rows if row[figure_name] is not None]
    if not shown:
        return None
    order = list(groups)
    with canvas(height=0.55 * len(shown) + 0.85) as (figure, (axes,)):
        for place, row in enumerate(shown):
            agent, interval = row["agent"], row[figure_name]
            tint = colour(AGENTS, order.index(agent))
            values = np.array([lifelong_metrics(life, reference)[figure_name] for life in groups[agent]])
            axes.barh(place, interval.high - interval.low, left=interval.low, height=0.42, color=tint, alpha=0.25)
            axes.plot([interval.estimate] * 2, [place - 0.21, place + 0.21], color=tint, linewidth=2.4)
            axes.plot(values, np.full(len(values), place), "o", color=tint, markersize=3.5, alpha=0.8)
        axes.set_yticks(range(len(shown)), [row["agent"] for row in shown], color=INK)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.set_xlabel(label)
        return to_uri(figure)


def recovery_curves(groups: Groups, levels: dict[str, Levels] | None) -> str | None:
    """Median recovery time over tasks and seeds, by number of the visit."""
    if levels is None:
        return None
    found = {agent: _recovery_by_number(group, levels) for agent, group in groups.items()}
    if not any(len(numbers) for numbers, _ in found.values()):
        return None
    with canvas(height=3.0) as (figure, (axes,)):
        for index, (agent, (numbers, medians)) in enumerate(found.items()):
            tint = colour(AGENTS, index)
            axes.plot(numbers, medians, "o-", color=tint, markersize=4, label=agent)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: short(value))
        whole_numbers(axes)
        axes.set_xlabel("visit of the task")
        axes.set_ylabel(f"env steps to {RECOVERED:.0%} of the expert")
        key_above(axes)
        return to_uri(figure)


def _recovery_by_number(group: list[Lifetime], levels: dict[str, Levels]) -> tuple[Floats, Floats]:
    """Visit numbers seen in at least half of the lives, and their median recovery times."""
    pooled: dict[int, list[float]] = {}
    for life in group:
        visits = find_visits(life)
        low, high = reference_arrays(life, levels)
        found = recoveries(life, visits, low + RECOVERED * (high - low))
        for number, steps in zip(visits.number.tolist(), found.steps.tolist(), strict=True):
            if np.isfinite(steps):
                pooled.setdefault(number, []).append(steps)
    numbers = sorted(number for number, steps in pooled.items() if 2 * len(steps) >= len(group))
    return np.array(numbers, float), np.array([np.median(pooled[number]) for number in numbers])
