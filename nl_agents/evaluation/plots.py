"""The figures of one run's page; each returns a ``data:`` address, or None where the run has nothing to show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from nl_agents.evaluation.bins import normalised, reference_arrays
from nl_agents.evaluation.lifetime import Floats, Ints
from nl_agents.evaluation.metrics import RECOVERED
from nl_agents.evaluation.run_data import RunData
from nl_agents.evaluation.style import (
    INK,
    MUTED,
    TASKS,
    canvas,
    colour,
    key_above,
    short,
    steps_axis,
    to_uri,
    whole_numbers,
)
from nl_agents.evaluation.visits import Visits

MANY_SWITCHES = 120  # beyond that, lines at switches would hide the curve


def shade_tasks(axes: Axes, visits: Visits, names: tuple[str, ...], *, key: bool = True) -> None:
    """Shades each visit in its task's colour and draws a line at every switch."""
    for begin, end, task in zip(visits.begin, visits.end, visits.task, strict=True):
        axes.axvspan(begin, end, color=colour(TASKS, task), alpha=0.13, linewidth=0)
    for task in np.unique(visits.task) if key else ():
        axes.bar([0], [0], color=colour(TASKS, task), alpha=0.45, label=names[task])
    if len(visits.begin) <= MANY_SWITCHES:
        for begin in visits.begin[1:]:
            axes.axvline(begin, color="white", linewidth=1.2)
    axes.set_xlim(0, float(visits.end[-1]))


def life_curve(run: RunData) -> str | None:
    """Return over life: binned, broken at switches, on the tasks' shades; the expert's level; a slow average."""
    if not np.isfinite(run.bins.value).any():
        return None
    middle = run.bins.begin + run.bins.width / 2
    with canvas(height=3.5) as (figure, (axes,)):
        shade_tasks(axes, run.visits, run.life.task_names)
        x, y = _broken(middle, run.bins.value, run.bins.visit)
        axes.plot(x, y, color=INK, linewidth=0.8, label="return (binned)")
        if run.levels is not None:
            _, high = reference_arrays(run.life, run.levels)
            for begin, end, task in zip(run.visits.begin, run.visits.end, run.visits.task, strict=True):
                axes.plot([begin, end], [high[task]] * 2, color=colour(TASKS, task), linewidth=1.6, alpha=0.9)
            axes.plot([], [], color=MUTED, linewidth=1.6, label="expert of the task")
        axes.set_ylabel("return of an episode")
        steps_axis(axes)
        key_above(axes)
        return to_uri(figure)


def slow_curve(run: RunData) -> str | None:
    """Score between random and expert, averaged over a sliding tenth of the life: is the agent getting better?"""
    if run.levels is None or not np.isfinite(run.bins.value).any():
        return None
    score = normalised(run.bins.value, run.bins.task, run.life, run.levels)
    middle = run.bins.begin + run.bins.width / 2
    with canvas(height=2.3) as (figure, (axes,)):
        shade_tasks(axes, run.visits, run.life.task_names, key=False)
        grid = np.linspace(0, run.life.steps, 200)
        everything = sliding_mean(middle, score, run.bins.width, grid, run.life.steps / 10)
        axes.plot(grid, everything, color=INK, linewidth=2, label="all tasks")
        for task, name in enumerate(run.life.task_names):
            mine = run.bins.task == task
            values = sliding_mean(middle[mine], score[mine], run.bins.width[mine], grid, run.life.steps / 10)
            axes.plot(grid, values, color=colour(TASKS, task), label=name)
        axes.axhline(1, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_ylim(min(0.0, float(np.nanmin(everything)) - 0.05), 1.08)
        axes.set_ylabel("0 random, 1 expert")
        steps_axis(axes)
        key_above(axes)
        return to_uri(figure)


def sliding_mean(at: Floats, values: Floats, weights: Floats, grid: Floats, window: float) -> Floats:
    """Weighted mean of the finite values within window / 2 of each grid point; NaN where there is none."""
    known = np.isfinite(values)
    at, values, weights = at[known], values[known], weights[known]
    order = np.argsort(at, kind="stable")
    at, values, weights = at[order], values[order], weights[order]
    sums = np.concatenate([[0.0], np.cumsum(values * weights)])
    total = np.concatenate([[0.0], np.cumsum(weights)])
    low = np.searchsorted(at, grid - window / 2, side="left")
    high = np.searchsorted(at, grid + window / 2, side="right")
    size = total[high] - total[low]
    return np.asarray(np.divide(sums[high] - sums[low], size, out=np.full(len(grid), np.nan), where=size > 0))


def recovery_by_visit(run: RunData) -> str | None:
    """Recovery time of every visit, task by task; hollow marks never recovered."""
    found = run.recovery
    if found is None or not found.observed.any():
        return None
    tasks = np.unique(run.visits.task)
    with canvas(1, len(tasks), height=2.7, sharey=True) as (figure, all_axes):
        for axes, task in zip(all_axes, tasks, strict=True):
            mine = (run.visits.task == task) & found.observed
            visit, steps, never = run.visits.number[mine], found.steps[mine], found.censored[mine]
            tint = colour(TASKS, task)
            axes.vlines(visit, 0, steps, color=tint, linewidth=1, alpha=0.35)
            axes.plot(visit[~never], steps[~never], "o", color=tint, markersize=4.5)
            axes.plot(visit[never], steps[never], "o", markerfacecolor="white", markeredgecolor=tint, markersize=4.5)
            first = steps[visit == 1]
            if len(first) and first[0] > 0:
                axes.axhline(0.2 * first[0], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.set_title(run.life.task_names[task])
            axes.set_xlabel("visit")
            axes.set_xlim(0.3, max(run.visits.number) + 0.7)
            whole_numbers(axes)
        all_axes[0].set_ylim(bottom=0)
        all_axes[0].yaxis.set_major_formatter(lambda value, _: short(value))
        all_axes[0].set_ylabel("env steps until recovered")
        marks = [
            Line2D([], [], color=MUTED, marker="o", linestyle="", label=f"{RECOVERED:.0%} of the expert"),
            Line2D([], [], color=MUTED, marker="o", markerfacecolor="white", linestyle="", label="never in this visit"),
            Line2D([], [], color=MUTED, linestyle=(0, (4, 3)), label="goal: a fifth of the first visit"),
        ]
        figure.legend(handles=marks, loc="outside upper left", ncols=3)
        return to_uri(figure)


def after_a_switch(run: RunData) -> str | None:
    """Mean return by time since the switch: first visits, the early later ones, the last third."""
    groups = _visit_groups(run.visits.number)
    if len(groups) < 2:
        return None
    tasks = np.unique(run.visits.task)
    since = (run.bins.begin - run.visits.begin[run.bins.visit]) + run.bins.width / 2
    position = np.round(since / run.visits.task_length * 20 - 0.5).astype(int)
    with canvas(1, len(tasks), height=2.6, sharey=True) as (figure, all_axes):
        for axes, task in zip(all_axes, tasks, strict=True):
            for rank, (label, numbers) in enumerate(groups):
                rows = (run.bins.task == task) & np.isin(run.visits.number[run.bins.visit], numbers)
                curve = _mean_by(position[rows], run.bins.value[rows], 20)
                style = ((0, (3, 2)), "-", "-")[rank]
                grid = (np.arange(20) + 0.5) / 20 * run.visits.task_length
                tint = (MUTED, colour(TASKS, task), INK)[rank]
                axes.plot(grid, curve, color=tint, linestyle=style, label=label, linewidth=1.8)
            axes.set_title(run.life.task_names[task])
            axes.set_xlim(0, run.visits.task_length)
            steps_axis(axes, "env steps since the switch")
        all_axes[0].set_ylabel("return of an episode")
        handles = [
            Line2D([], [], color=(MUTED, "#8895a3", INK)[rank], linestyle=((0, (3, 2)), "-", "-")[rank], label=label)
            for rank, (label, _) in enumerate(groups)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
        return to_uri(figure)


def levels_over_time(run: RunData) -> str | None:
    """Period and rate of every level over life, with the meta-controller's decisions as ticks below."""
    if not run.tracks:
        return None
    with canvas(2, 1, height=3.8, sharex=True, height_ratios=(3, 2)) as (figure, (top, bottom)):
        for index, (name, track) in enumerate(run.tracks.items()):
            step = np.append(track.step, run.life.steps)
            for axes, values in ((top, track.period), (bottom, track.rate)):
                y = np.append(values, values[-1])
                axes.step(step, y, where="post", color=colour(TASKS, index), label=name, alpha=0.9, linewidth=1.8)
        _ratio_axis(top, [track.period for track in run.tracks.values()])
        _ratio_axis(bottom, [track.rate for track in run.tracks.values()])
        top.set_ylabel("period (units of the level)")
        bottom.set_ylabel("rate")
        moments = [float(row["step"]) for row in moves(run.decisions)]
        floor = bottom.get_xaxis_transform()
        bottom.plot(moments, np.full(len(moments), 0.03), "|", color=INK, transform=floor, markersize=8)
        top.set_xlim(0, run.life.steps)
        steps_axis(bottom)
        key_above(top, 4)
        return to_uri(figure)


def moves(decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The decisions that moved a setting, out of all records of the audit log."""
    return [row for row in decisions if row.get("kind") == "decision" and row.get("factor") is not None]


def _ratio_axis(axes: Axes, values: list[Floats]) -> None:
    """Doublings as equal steps, ticks at powers of two times the least, and room around a constant."""
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    if not len(known) or known.min() <= 0:
        return
    low, high = known.min(), known.max()
    axes.set_yscale("log", base=2)
    axes.set_ylim(low / 1.8, high * 1.8)
    doublings = np.arange(0, math.ceil(math.log2(high / low)) + 1)
    axes.set_yticks(low * 2.0 ** doublings[:: max(1, len(doublings) // 5)])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.yaxis.set_minor_locator(NullLocator())


def memory_norms(run: RunData) -> str | None:
    """Norms of the live memories over life: what the agent carries between episodes and tasks."""
    found = run.columns("memory/", "/norm")
    if not found:
        return None
    with canvas(height=2.8) as (figure, (axes,)):
        shade_tasks(axes, run.visits, run.life.task_names, key=False)
        for index, (name, (steps, values)) in enumerate(found.items()):
            axes.plot(steps, values, color=colour(TASKS, index + 2), label=name)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("norm, mean over streams")
        steps_axis(axes)
        key_above(axes, 4)
        return to_uri(figure)


def learning_curves(run: RunData) -> str | None:
    """A few of the learner's own figures: entropy, losses, speed."""
    wanted = (
        "train/entropy",
        "train/prediction_loss",
        "train/approx_kl",
        "train/explained_variance",
        "optimizer/gate",
        "replay/age_mean",
    )
    found = [(key, run.columns(key)[""]) for key in wanted if "" in run.columns(key)]
    if not found:
        return None
    columns = min(3, len(found))
    rows = math.ceil(len(found) / columns)
    with canvas(rows, columns, height=1.9 * rows, sharex=True) as (figure, all_axes):
        for axes, (key, pair) in zip(all_axes, found, strict=False):
            axes.plot(*pair, color=TASKS[0], linewidth=1.1)
            axes.set_title(key)
            axes.xaxis.set_major_formatter(lambda value, _: short(value))
        for axes in all_axes[len(found) :]:
            axes.set_visible(False)
        return to_uri(figure)


def _broken(x: Floats, y: Floats, group: Ints) -> tuple[Floats, Floats]:
    """Inserts a gap wherever the group changes."""
    cuts = np.flatnonzero(np.diff(group)) + 1
    return np.insert(x, cuts, np.nan), np.insert(y, cuts, np.nan)


def _visit_groups(number: Ints) -> list[tuple[str, Ints]]:
    """First visits; later ones in two halves where there are enough."""
    top = int(number.max())
    groups = [("first visit", np.array([1]))]
    if top == 2:
        groups.append(("second visit", np.array([2])))
    elif top > 2:
        half = (top + 2) // 2
        spans = [(2, half), (half + 1, top)]
        groups += [(f"visit {a}" if a == b else f"visits {a}-{b}", np.arange(a, b + 1)) for a, b in spans]
    return groups


def _mean_by(position: Ints, values: Floats, size: int) -> Floats:
    known = np.isfinite(values) & (position >= 0) & (position < size)
    total = np.bincount(position[known], weights=values[known], minlength=size)
    count = np.bincount(position[known], minlength=size)
    return np.asarray(np.divide(total, count, out=np.full(size, np.nan), where=count > 0))
