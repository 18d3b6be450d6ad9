"""What every lifelong figure is called, counted in, and means: one text for terminal, page and docs."""

from __future__ import annotations

import math
from typing import NamedTuple


class Figure(NamedTuple):
    """A figure of ``lifelong_metrics`` in words.

    Attributes:
        name: its key.
        title: as a heading.
        unit: of the number.
        digits: after the point; small values of figures that have any get three.
        better: ``high``, ``low`` or ``""`` for neither.
        text: one sentence that teaches what it says.
    """

    name: str
    title: str
    unit: str
    digits: int
    better: str
    text: str

    def format(self, value: float) -> str:
        """The number as a reader wants it; a dash where there is none."""
        return f"{value:,.{self.digits_of(value)}f}" if math.isfinite(value) else "-"

    def digits_of(self, value: float) -> int:
        """Digits after the point for a number of this size."""
        return max(self.digits, 3) if self.digits and abs(value) < 10 else self.digits


FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure(
            "normalised_return",
            "Normalised lifelong return",
            "0 = random, 1 = expert",
            3,
            "high",
            "Mean over the whole life of where the return lay between a random policy and each task's expert, in bins "
            "of 1/20 of a task that restart at every switch.",
        ),
        Figure(
            "time_weighted_return",
            "Time-weighted return",
            "reward per episode",
            1,
            "high",
            "Return of the episode that a randomly chosen env step belongs to; needs no reference.",
        ),
        Figure(
            "recovery_first",
            "Recovery, first visits",
            "env steps",
            0,
            "low",
            "From meeting a task for the first time to 80 % of its expert, median over tasks.",
        ),
        Figure(
            "recovery_later",
            "Recovery, later visits",
            "env steps",
            0,
            "low",
            "The same when the task returns: what memory saves shows here.",
        ),
        Figure(
            "recovery_ratio",
            "Later over first recovery",
            "ratio",
            3,
            "low",
            "1 = learns every task anew; the goal is 0.2 or less.",
        ),
        Figure(
            "recovery_censored",
            "Visits never recovered",
            "share",
            2,
            "low",
            "Share of the observed visits that ended before 80 % was reached; they count with their full length.",
        ),
        Figure(
            "recovery_observed",
            "Visits observed",
            "share",
            2,
            "",
            "Share of the visits in which at least half of the streams finished an episode.",
        ),
        Figure(
            "recognition_step",
            "Recognises from step",
            "env steps",
            0,
            "low",
            "From here on three revisits in a row of every task began at 80 % of the expert with their first episodes.",
        ),
        Figure(
            "revisit_savings",
            "Revisit savings",
            "share",
            3,
            "high",
            "How much of the first visit's shortfall later visits are spared: 0 = none, 1 = all.",
        ),
        Figure(
            "switch_regret",
            "Regret of a switch",
            "env steps of expert life",
            0,
            "low",
            "What one switch costs, as env steps at the expert's level.",
        ),
        Figure("coverage", "Life measured", "share", 2, "", "Share of the life whose bins have a finished episode."),
        Figure("episodes", "Episodes", "count", 0, "", "Finished training episodes."),
        Figure("switches", "Switches", "count", 0, "", "Task switches within the life."),
    )
}


def figure_of(name: str) -> Figure:
    """Describes any key of ``lifelong_metrics``, those that name a task included."""
    if name in FIGURES:
        return FIGURES[name]
    kind, _, task = name.partition("/")
    if kind == "end_return":
        return Figure(
            name,
            f"Return at the end, {task}",
            "reward per episode",
            2,
            "high",
            f"Last tenth of the last visit to {task}.",
        )
    if kind == "normalised_return":
        return Figure(
            name, f"Normalised return, {task}", "0 = random, 1 = expert", 3, "high", f"The bins of {task} alone."
        )
    raise KeyError(f"no figure is called {name!r}; lifelong_metrics gives {', '.join(FIGURES)}")
