"""How our figures look: one palette, quiet axes, and SVG text that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK, MUTED, RULE = "#1f2933", "#67727e", "#d9dee3"
TASKS = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#b7791f", "#c53030", "#2c7a7b", "#718096")
AGENTS = ("#b83280", "#2b6cb0", "#dd6b20", "#2f855a", "#6b46c1", "#b7791f", "#4a5568", "#2c7a7b")
WIDTH = 9.6  # inches; the page is 960 px wide

_LOOK: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.4,
    "svg.fonttype": "path",
    "svg.hashsalt": "nl-agents",
}


@contextmanager
def canvas(rows: int = 1, columns: int = 1, height: float = 3.0, **options: Any) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yields an empty figure of page width and its axes, row by row, under the house's look."""
    with matplotlib.rc_context(_LOOK):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        yield figure, list(axes.flat)


def to_uri(figure: Figure) -> str:
    """The figure as a ``data:`` address, so that a page needs no other file."""
    with matplotlib.rc_context(_LOOK):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def steps_axis(axes: Axes, label: str = "env steps over all streams") -> None:
    """Writes steps as 250k and 1.5M."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set_xlabel(label)


def short(value: float) -> str:
    """1500000 -> 1.5M, 25000 -> 25k, 0.5 -> 0.5."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def whole_numbers(axes: Axes) -> None:
    """Ticks of the x axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def colour(palette: Sequence[str], index: int) -> str:
    """The palette's colour of an index, round and round."""
    return palette[index % len(palette)]


def key_above(axes: Axes, columns: int = 6) -> None:
    """Puts the legend above the plot, left-aligned, where it hides nothing."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=columns, handlelength=1.4, columnspacing=1.4)
