"""The page that sets agents side by side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nl_agents.evaluation import comparison_plots, page
from nl_agents.evaluation.comparison import FIGURES as COMPARED
from nl_agents.evaluation.comparison import Given, compare, figure_cell, group_lives, two_lines
from nl_agents.evaluation.figures import FIGURES
from nl_agents.evaluation.reference import reference_for, suite_of


def write_comparison(
    lives: Given, out: str | Path, *, reference: Any = None, against: str | None = None, seed: int = 0
) -> tuple[list[dict[str, Any]], Path]:
    """Writes the page that sets agents side by side; returns the rows of ``compare`` and the page's path."""
    groups = group_lives(lives)
    rows = compare(groups, reference=reference, against=against, seed=seed)
    groups = {row["agent"]: groups[row["agent"]] for row in rows}
    first = next(iter(groups.values()))[0]
    levels = reference_for(first, reference)
    suite = str(first.meta.get("sequence") or "a sequence")
    target = Path(out) / "report.html" if Path(out).is_dir() else Path(out)
    body = _comparison_body(groups, rows, levels, suite, reference)
    return rows, page.write(target, page.page(f"Agents on {suite}", body))


def _comparison_body(groups: Any, rows: list[dict[str, Any]], levels: Any, suite: str, reference: Any) -> Iterable[str]:
    lives = sum(len(group) for group in groups.values())
    lengths = sorted({life.steps for group in groups.values() for life in group})
    span = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    yield page.header(
        "agents side by side", suite, f"{len(groups)} agents, {lives} lives of {span} env steps, learning all the way."
    )
    if any(row["preliminary"] for row in rows):
        yield page.note(
            "Preliminary: some agents have fewer than 10 seeds; intervals are wide and may mislead.", "warn"
        )
    if lengths[-1] > 1.01 * lengths[0]:
        yield page.note("The lives are of unequal length: figures of a short life leave its later part out.", "warn")
    if levels is None:
        yield page.note(
            f"No random and expert returns are stored for {suite_of(suite)}: raw returns are compared.", "warn"
        )
    main = "normalised_return" if levels is not None else "time_weighted_return"
    yield page.section(
        "Return over life",
        page.picture(comparison_plots.curves_over_life(groups, levels), CURVES, "mean curves with bands"),
        page.picture(
            comparison_plots.intervals(groups, rows, main, FIGURES[main].title, reference),
            "Bar: 95 % interval from resampling whole runs; line: interquartile mean; dots: the seeds.",
            "interval of each agent",
        ),
    )
    yield page.section(
        "Recovery",
        page.picture(comparison_plots.recovery_curves(groups, levels), RECOVERY, "recovery by visit and agent"),
    )
    yield page.section("Table", _comparison_table(rows), intro=TABLE)
    yield page.section("The runs", page.folded("every life on this page", _run_table(groups)))
    yield "<footer>nl_agents: computed from the episodes.csv of every run; equal calls give equal intervals.</footer>"


CURVES = (
    "Score averaged over a sliding tenth of each life, then over seeds; the band holds the mean in 95 % of resamplings "
    "of the seeds."
)
RECOVERY = (
    "Median over tasks and seeds, by how often the task was met before. An agent that relearns stays level; one that "
    "recognises drops to the floor."
)
TABLE = (
    "Agents with their number of seeds. Interquartile mean over seeds with 95 % intervals from resampling whole runs "
    "(mean for recognition, over the runs that ever recognised). P(better): chance that a run of this agent beats one "
    "of the named rival."
)


def _comparison_table(rows: list[dict[str, Any]]) -> str:
    """Figures down, agents across: an estimate with its interval below."""
    body = []
    for name in COMPARED:
        if any(row[name] is not None for row in rows):
            figure = FIGURES[name]
            body.append([f"{figure.title}\n{figure.unit}", *(figure_cell(name, row[name]) for row in rows)])
    body.append(["Recognised\nruns that ever did", *(f"{row['recognised']} of {row['seeds']}" for row in rows)])
    if len(rows) > 1:
        better = (f"{two_lines(row['improvement'])} over {row['improvement_over']}" for row in rows)
        body.append(["P(better)\nprobability", *better])
    head = ["", *(f"{row['agent']} ({row['seeds']})" for row in rows)]
    return page.table(head, body, ("", *["number"] * len(rows)))


def _run_table(groups: Any) -> str:
    rows = [
        (agent, str(life.meta.get("seed")), f"{life.steps:,}", f"{len(life):,}", str(life.meta.get("run_dir", "")))
        for agent, group in groups.items()
        for life in group
    ]
    return page.table(("agent", "seed", "env steps", "episodes", "folder"), rows, ("", *["number"] * 3, "quiet"))
