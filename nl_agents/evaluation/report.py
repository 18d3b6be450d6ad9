"""The page of one run: its life, its recoveries, its levels, its figures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nl_agents.evaluation import page, plots
from nl_agents.evaluation.figures import FIGURES, figure_of
from nl_agents.evaluation.lifetime import read_json
from nl_agents.evaluation.reference import describe_reference, suite_of
from nl_agents.evaluation.run_data import RunData

LAST_DECISIONS = 12
FOLDED = {
    "config": "all options of the agent",
    "observation_space": "observation space",
    "action_space": "action space",
    "versions": "versions",
    "levels": "",
    "nest": "",
    "format": "",
}


def write_report(run_dir: str | Path, *, reference: Any = None) -> Path:
    """Writes ``report.html`` into a run folder, adds the figures to its ``summary.json``; returns the page's path.

    Args:
        run_dir: folder of a run, finished or not.
        reference: as in ``lifelong_metrics``.

    Raises:
        RunFolderError: the folder cannot be read, or not be written.
    """
    run = RunData.read(run_dir, reference)
    folder = Path(run_dir)
    written = folder / "summary.json"
    summary = {
        **(read_json(written) if written.exists() else {}),
        "agent": run.config.get("agent"),
        "sequence": run.config.get("sequence"),
        "seed": run.config.get("seed"),
        "steps": run.life.steps,
        "planned_steps": run.config.get("steps"),
        "figures": {name: value if math.isfinite(value) else None for name, value in run.figures.items()},
    }
    page.write(written, json.dumps(summary, indent=1) + "\n")
    return page.write(folder / "report.html", page.page(_title(run), _run_body(run, reference)))


def _title(run: RunData) -> str:
    return f"{run.config.get('agent')} on {run.config.get('sequence')}"


def _run_body(run: RunData, reference: Any) -> Iterable[str]:
    life, visits = run.life, run.visits
    planned = int(run.config.get("steps") or life.steps)
    lived = f"{life.steps:,} env steps" + (f" of {planned:,}" if life.steps < planned else "")
    count = len(visits.begin) - 1
    switches = "1 task switch" if count == 1 else f"{count} task switches"
    yield page.header(
        "one life",
        _title(run),
        f"{lived} over {life.num_envs} streams, {switches}, {len(life):,} episodes, seed {run.config.get('seed')}.",
    )
    if run.levels is None:
        yield page.note(
            f"No random and expert returns are stored for {suite_of(str(run.config.get('sequence')))}, so figures that "
            "lie between the two are left out. docs/evaluation.md says how to make them.",
            "warn",
        )
    yield page.cards(_cards(run))
    yield _over_life(run)
    yield _recovery(run)
    yield _levels(run)
    yield page.section("Lifelong figures", _figure_table(run.figures), _where_from(run, reference))
    yield page.section("The learner", page.picture(plots.learning_curves(run), LEARNER, "learner metrics over life"))
    yield _settings(run)
    yield "<footer>nl_agents: every number on this page is computed from episodes.csv and the logs beside it.</footer>"


LEARNER = "Figures the learner logged on its way; docs/metrics.md explains each, TensorBoard shows the rest."


def _cards(run: RunData) -> list[tuple[str, str, str]]:
    wanted = ("normalised_return", "recovery_ratio", "recognition_step", "time_weighted_return")
    found = []
    for name in wanted:
        if name in run.figures:
            figure, value = FIGURES[name], run.figures[name]
            missing = {"recognition_step": "not yet", "recovery_ratio": "no revisit"}.get(name, "-")
            found.append((figure.format(value) if math.isfinite(value) else missing, figure.title, figure.unit))
    return found


def _over_life(run: RunData) -> str:
    caption = (
        "Return of the training episodes, in bins that restart at every switch; the shade is the task in force. A life "
        "that remembers shows ever smaller dents at the switches."
    )
    slow = (
        "The same between random (0) and the task's expert (1), averaged over a sliding tenth of the life. Is the "
        "agent getting better at living, task by task?"
    )
    return page.section(
        "Return over life",
        page.picture(plots.life_curve(run), caption, "return over life with task switches"),
        page.picture(plots.slow_curve(run), slow, "normalised return over life, per task"),
    )


def _recovery(run: RunData) -> str:
    visits = (
        "One mark a visit: env steps from the switch until the first episodes begun from there on (one per stream) "
        "reach 80 % of the expert. Marks on the floor mean the task was recognised at once."
    )
    since = "What the agent earns, by how long ago the switch was: the space between the curves is what memory saves."
    return page.section(
        "Recovery after each switch",
        page.picture(plots.recovery_by_visit(run), visits, "recovery time of every visit by task"),
        page.picture(plots.after_a_switch(run), since, "return by time since the switch, first and later visits"),
    )


def _levels(run: RunData) -> str:
    levels, nest = run.config.get("levels"), run.config.get("nest")
    tracks = (
        "How often each level learns (period) and how fast (rate); ticks on the floor are decisions of the "
        "meta-controller, which moves one setting at a time and logs it before it takes effect."
    )
    norms = "Size of the live memories. Memory that never clears should settle, not grow for ever."
    return page.section(
        "Levels: three time scales",
        _nest(str(levels)) if levels else None,
        page.folded("all that the agent keeps, as it was at birth", _nest(str(nest))) if nest else None,
        page.picture(plots.levels_over_time(run), tracks, "periods and rates of the levels over life"),
        _decision_table(run.decisions),
        page.picture(plots.memory_norms(run), norms, "norms of the memories over life"),
    )


def _nest(text: str) -> str:
    """The table that ``format_levels`` drew in fixed width, as a table again; other text stays as it is."""
    lines = text.splitlines()
    if len(lines) < 3 or set(lines[1]) != {"-", " "}:
        return page.preformatted(text)
    starts = [match.start() for match in re.finditer(r"-+", lines[1])]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    head, *rows = [[line[start:stop].strip() for start, stop in spans] for line in (lines[0], *lines[2:])]
    kinds = ["number" if name == "period" else "quiet" if index else "" for index, name in enumerate(head)]
    return page.table(head, rows, kinds)


def _decision_table(decisions: list[dict[str, Any]]) -> str | None:
    """The latest moves of the meta-controller, each with what its epoch brought."""
    rows = plots.moves(decisions)
    if not rows:
        return None
    credit = {row.get("decision"): row for row in decisions if row.get("kind") == "credit"}
    shown = [
        (f"{row['step']:,}", str(row["factor"]), _number(row["value"]), _outcome(credit.get(row["id"])), row["reason"])
        for row in rows[-LAST_DECISIONS:]
    ]
    words = f"The last {len(shown)} of {len(rows)} moves" if len(rows) > len(shown) else "All moves"
    head = ("step", "setting", "new value", "its epoch", "why")
    kinds = ("number", "", "number", "quiet", "quiet")
    return page.note(f"{words} of the meta-controller:") + page.table(head, shown, kinds)


def _outcome(credit: dict[str, Any] | None) -> str:
    """What the epoch of a decision brought, in words."""
    if credit is None:
        return "still running"
    if credit.get("void"):
        return f"void: {credit['void']}" if isinstance(credit["void"], str) else "void"
    mean, surprise = credit.get("mean"), credit.get("surprise")
    text = f"return {mean:.4g}" if isinstance(mean, int | float) else "no return"
    return text + (f", {surprise:+.2f} noise widths" if isinstance(surprise, int | float) else "")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure_table(figures: dict[str, float]) -> str:
    rows = []
    for name, value in figures.items():
        figure = figure_of(name)
        rows.append((figure.title, figure.format(value), figure.unit, figure.text))
    return page.table(("figure", "value", "unit", "what it says"), rows, ("", "number", "quiet", "quiet"))


def _where_from(run: RunData, reference: Any) -> str | None:
    if run.levels is None:
        return None
    levels = "; ".join(
        f"{task}: random {level.random:g}, expert {level.expert:g}" for task, level in run.levels.items()
    )
    name = reference if isinstance(reference, str) else run.config.get("sequence") if reference is None else None
    if name is None:
        return page.note(f"Reference levels given by hand. {levels}.")
    stored = describe_reference(str(name))
    return page.note(f"Reference levels, {levels}. Made by `{stored.get('command')}` at commit {stored.get('commit')}.")


def _settings(run: RunData) -> str:
    plain = {key: value for key, value in run.config.items() if key not in FOLDED}
    rows = [(key, json.dumps(value) if isinstance(value, dict | list) else str(value)) for key, value in plain.items()]
    return page.section(
        "Settings",
        page.table(("setting", "value"), rows, ("", "quiet")),
        *(
            page.preformatted(json.dumps(run.config[key], indent=2), words)
            for key, words in FOLDED.items()
            if words and key in run.config
        ),
    )
