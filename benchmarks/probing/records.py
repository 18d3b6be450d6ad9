"""Records of the memory benchmark: kept as one small file a cell, drawn as tables core x span."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PREFIX = "memory_"
Record = dict[str, Any]


def keep(record: Mapping[str, Any], path: Path) -> None:
    """Writes a record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    half.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    half.replace(path)


def find(path: Path, plan: Mapping[str, Any], settings: Mapping[str, Any]) -> Record | None:
    """Reads a record; None if there is none.

    Raises:
        ValueError: it was made with another plan or budget, so it belongs to another table.
    """
    if not path.is_file():
        return None
    record: Record = json.loads(path.read_text("utf-8"))
    for what, wanted in (("plan", plan), ("settings", settings)):
        plain = json.loads(json.dumps(wanted))
        other = {name: value for name, value in record[what].items() if plain.get(name) != value}
        if other:
            raise ValueError(
                f"{path.name} was made with other {what}: {', '.join(f'{key} {other[key]}' for key in other)}; delete "
                "it, or keep this table elsewhere with --results"
            )
    return record


def best_rate(trials: Iterable[Record]) -> float:
    """The learning rate of the trial with the lowest closing loss; the lowest such rate where they are equal."""

    def key(trial: Record) -> tuple[float, float]:
        loss = trial["closing_loss"]
        return float("inf") if loss is None else loss, trial["rate"]

    return float(min(trials, key=key)["rate"])


def read_runs(results: Path, task: str) -> dict[str, list[Record]]:
    """Reads the runs on a task, core -> runs in the order of their seeds; trials are left out.

    Args:
        results: the folder ``benchmarks/results/memory``.
        task: name of a probe.

    Raises:
        ValueError: there are none, or they were made with different budgets.
    """
    groups: dict[str, list[Record]] = {}
    for path in sorted((results / task).glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        if record["kind"] == "run":
            groups.setdefault(record["core"], []).append(record)
    if not groups:
        known = ", ".join(sorted(folder.name for folder in results.glob("*") if folder.is_dir())) or "none"
        raise ValueError(
            f"no runs on {task!r} in {results}: run python -m benchmarks.memory --tasks {task}; tasks there: {known}"
        )
    budgets = {json.dumps([run["settings"], run["plan"]], sort_keys=True) for runs in groups.values() for run in runs}
    if len(budgets) > 1:
        raise ValueError(f"the runs on {task!r} in {results} had different budgets; one table shows one budget")
    return {core: sorted(runs, key=lambda run: int(run["seed"])) for core, runs in groups.items()}


def has_runs(results: Path, task: str) -> bool:
    """Whether there is more than trials on a task."""
    return any("-trial-" not in path.name for path in (results / task).glob("*.json"))


def accuracy(run: Record, span: int) -> float:
    """Share of right answers at a span."""
    found = next(result for result in run["results"] if result["span"] == span)
    return float(found["right"] / found["asked"])


def memory_table(name: str, results: Path) -> str:
    """Draws the record ``memory_<task>``: one row a core, best mean over all spans first, then how to read it.

    ``memory_overview`` is the table of all tasks that have runs.

    Args:
        name: of the record.
        results: the folder ``benchmarks/results/memory``.
    """
    if name == PREFIX + "overview":
        return overview(results)
    groups = read_runs(results, name.removeprefix(PREFIX))
    one = next(iter(groups.values()))[0]
    spans = one["plan"]["evaluate"]
    heads = [*(f"{span:,}" for span in spans), "state floats a stream", "parameters", "rate", "seeds"]
    lines = [f"| core | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]

    def merit(runs: list[Record]) -> float:
        return sum(accuracy(run, span) for run in runs for span in spans) / len(runs)

    for core, runs in sorted(groups.items(), key=lambda group: -merit(group[1])):
        cells = [_spread([accuracy(run, span) for run in runs]) for span in spans]
        rates = ", ".join(f"{rate:g}" for rate in sorted({run["rate"] for run in runs}))
        cells += [f"{runs[0]['state_floats']:,}", f"{runs[0]['parameters']:,}", rates, str(len(runs))]
        lines.append(f"| {core} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n" + " ".join(_notes(one, groups))


def overview(results: Path) -> str:
    """Draws all tasks in one table: mean accuracy at the longest span of training, and at the longest of all."""
    tasks = [folder.name for folder in sorted(results.glob("*")) if has_runs(results, folder.name)]
    groups = {task: read_runs(results, task) for task in tasks}
    if not groups:
        raise ValueError(f"no runs in {results}: run python -m benchmarks.memory")
    heads, ends = [], {}
    for task, runs in groups.items():
        spans = next(iter(runs.values()))[0]["plan"]["evaluate"]
        ends[task] = (spans[0], spans[-1])
        heads.append(f"{task}, {spans[0]:,} → {spans[-1]:,}")
    lines = [f"| core | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for core in sorted({core for runs in groups.values() for core in runs}):
        cells = []
        for task, runs in groups.items():
            values = [[accuracy(run, span) for run in runs.get(core, [])] for span in ends[task]]
            means = [f"{sum(part) / len(part):.2f}" for part in values if part]
            cells.append(" → ".join(means) or "-")
        lines.append(f"| {core} | {' | '.join(cells)} |")
    chances = {task: next(iter(runs.values()))[0]["chance"] for task, runs in groups.items()}
    shown = ", ".join(f"{task} {chance:.3f}" for task, chance in chances.items())
    return "\n".join(lines) + f"\n\nMean accuracy over seeds at the first and the last span. Chance: {shown}."


def _spread(values: list[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.3f}" if len(values) == 1 else f"{mean:.3f} [{min(values):.3f}–{max(values):.3f}]"


def _notes(one: Record, groups: dict[str, list[Record]]) -> Iterable[str]:
    """What a reader of the table must know, sentence by sentence."""
    plan, settings, unit = one["plan"], one["settings"], one["span_unit"]
    runs = [run for group in groups.values() for run in group]
    counts = {len(group) for group in groups.values()}
    if min(counts) < 3 or len(counts) > 1:
        yield "**Preliminary**: fewer than 3 seeds a core, or not the same number for all."
    yield (
        f"Accuracy over asked steps by {unit}, mean [lowest–highest] over seeds; trained on {plan['low']} to "
        f"{plan['high']} {unit}, chance is {one['chance']:.3f}. Width {settings['width']}, {settings['updates']:,} "
        f"updates of {settings['streams']} streams, {len(settings['rates'])} learning-rate trials for every core."
    )
    fewest = {result["span"]: result["asked"] for result in one["results"]}
    few = [f"{fewest[span]:,} at {span:,}" for span in plan["evaluate"] if fewest[span] < 1000]
    if few:
        yield f"Answers a seed: {', '.join(few)}."
    refused = sum(run["refused_updates"] for run in runs)
    if refused:
        yield f"{refused} updates were refused because their gradient was not finite."
    yield f"Commit {', '.join(sorted({str(run['commit'])[:10] for run in runs}))}."
