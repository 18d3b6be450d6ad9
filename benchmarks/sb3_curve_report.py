"""Table and figures of the learning curves that ``benchmarks/sb3_curves.py`` keeps.

Claims are judged against margins that were set before their runs; LSTMs count as equivalent where the interval (Welch,
95 %) of the difference lies within the margin. Seeds 0 to 4: mean final return, within 25 of 500, one twentieth of
the largest. There single runs differed by 200, because trained policies fall from 500 and come back. So seeds 5 to 14,
of which none had been run when this was written: mean return over the whole of training, within 50, one tenth. That
missed by 1.8 (-0.9 [-51.8, +50.0]), for want of seeds. So a second and last look, written before any of seeds 15 to 34
had been run: the same measure and margin over seeds 5 to 34, with an interval of 97.5 %, wider because it is a second
look at ten of them; both looks together err in at most 3.75 % of cases, less than the 5 % that are usual for tests of
equivalence. Curves are shown with the lowest and the highest seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nl_agents.evaluation.style import AGENTS, canvas, steps_axis

MARGIN = 25.0
SEEDS = 5
LATER = range(5, 15)
LATER_MARGIN = 50.0
LAST = range(5, 35)
LAST_LEVEL = 0.975
ORDER = {"cartpole-novel": ("stock-lstm", "our-lstm", "our-lstm-as-torch-begins"), "memory-s7": ("hope", "lstm", "gru")}
STOCK = "stock-lstm"
CLAIMS = ("our-lstm", "our-lstm-as-torch-begins")
TITLES = {"cartpole-novel": "CartPole-v1 without velocities", "memory-s7": "MiniGrid-MemoryS7-v0"}


def read(results: Path, task: str) -> dict[str, list[dict[str, Any]]]:
    """Records of a task, entrant -> runs in the order of their seeds."""
    groups: dict[str, list[dict[str, Any]]] = {entrant: [] for entrant in ORDER[task]}
    for path in sorted((results / task).glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        groups[record["entrant"]].append(record)
    return {entrant: sorted(runs, key=lambda run: int(run["seed"])) for entrant, runs in groups.items() if runs}


def final_table(groups: dict[str, list[dict[str, Any]]]) -> str:
    """One row an entrant: seeds, final returns, and the mean of the curve."""
    lines = ["| entrant | seeds | final return, mean [lowest, highest] | mean over the curve |", "|---|---:|---:|---:|"]
    for entrant, runs in groups.items():
        final = np.array([run["final"]["mean"] for run in runs])
        area = float(np.mean([np.mean(_curve(run)) for run in runs]))
        digits = 1 if final.max() > 10 else 3
        spread = f"{final.mean():.{digits}f} [{final.min():.{digits}f}, {final.max():.{digits}f}]"
        lines.append(f"| `{entrant}` | {len(runs)} | {spread} | {area:.{digits}f} |")
    return "\n".join(lines)


def difference(first: Iterable[float], second: Iterable[float], level: float = 0.95) -> tuple[float, float, float]:
    """Second mean less first, with Welch's interval; of no width where neither varies."""
    a, b = np.array(list(first)), np.array(list(second))
    apart = float(b.mean() - a.mean())
    if not a.std() and not b.std():
        return apart, apart, apart
    interval = stats.ttest_ind(b, a, equal_var=False).confidence_interval(level)
    return apart, float(interval.low), float(interval.high)


def verdict(groups: dict[str, list[dict[str, Any]]], entrant: str) -> str:
    """What the final returns of seeds 0 to 4 say of the equivalence of an entrant and the stock LSTM."""
    stock, ours = ([run["final"]["mean"] for run in groups[name] if run["seed"] < SEEDS] for name in (STOCK, entrant))
    return f"{entrant} less stock, final return: {_judged(stock, ours, MARGIN)}"


def later_verdict(
    groups: dict[str, list[dict[str, Any]]], entrant: str, seeds: range = LATER, level: float = 0.95
) -> str:
    """The same by the mean return over the whole of training, on other seeds."""
    stock, ours = (
        [float(np.mean(_curve(run))) for run in groups[name] if run["seed"] in seeds] for name in (STOCK, entrant)
    )
    counts = f"{len(stock)} and {len(ours)} of the {len(seeds)} seeds from {seeds.start} on"
    if min(len(stock), len(ours)) < 2:
        return f"{entrant} less stock, mean over training: {counts}"
    return f"{entrant} less stock, mean over training, {counts}: {_judged(stock, ours, LATER_MARGIN, level)}"


def _judged(stock: list[float], ours: list[float], margin: float, level: float = 0.95) -> str:
    apart, low, high = difference(stock, ours, level)
    word = "equivalent" if low >= -margin and high <= margin else "equivalence not shown"
    return f"{apart:+.1f} [{low:+.1f}, {high:+.1f}] ({level:.1%}), margin {margin:.0f}: {word}"


def draw(groups: dict[str, list[dict[str, Any]]], task: str, path: Path) -> None:
    """Mean training return over env steps, with the span of the seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with canvas(height=3.4) as (figure, (axes,)):
        for index, (entrant, runs) in enumerate(groups.items()):
            shown = np.array([_curve(run) for run in runs])
            at = np.arange(1, shown.shape[1] + 1) * runs[0]["bin"]
            axes.plot(at, shown.mean(0), color=AGENTS[index], label=f"{entrant} ({len(runs)} seeds)")
            axes.fill_between(at, shown.min(0), shown.max(0), color=AGENTS[index], alpha=0.14, linewidth=0)
        axes.set_title(f"{TITLES[task]}: return of training episodes")
        axes.legend()
        steps_axis(axes)
        figure.savefig(path, format="png", dpi=144, metadata={"Software": None})


def report(results: Path, figures: Path) -> str:
    """Draws a figure for every task whose seeds are complete; returns tables, verdict and what is missing."""
    parts = []
    for task in ORDER:
        groups = read(results, task)
        expected = tuple(groups) if task == "cartpole-novel" and groups else ORDER[task]
        missing = [f"{name}: {SEEDS - len(groups.get(name, []))}" for name in expected]
        whole = all(len(groups.get(name, [])) >= SEEDS for name in expected)
        parts.append(f"{TITLES[task]}" + ("" if whole else f" (incomplete; runs missing: {', '.join(missing)})"))
        if groups:
            parts.append(final_table(groups))
        if whole:
            draw(groups, task, figures / f"sb3_{task}.png")
        for entrant in CLAIMS:
            if min(len(groups.get(name, [])) for name in (STOCK, entrant)) > 1:
                parts += [verdict(groups, entrant), later_verdict(groups, entrant)]
                parts.append(later_verdict(groups, entrant, LAST, LAST_LEVEL))
    return "\n\n".join(parts)


def _curve(run: dict[str, Any]) -> NDArray[np.float64]:
    return np.array(run["curve"], float)
