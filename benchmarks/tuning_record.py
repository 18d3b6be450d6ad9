"""What tuning trials gave: one file a trial, and from them each agent's setting for the published lives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "tuning"


def read_trials(sequence: str, results: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """Reads the trials on a sequence, agent -> trials in the order of their names; empty where none were made."""
    trials: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((results / sequence.replace(":", "-")).glob("*.json")):
        trial = json.loads(path.read_text("utf-8"))
        trials.setdefault(trial["agent"], []).append(trial)
    return trials


def tuned(sequence: str, agent: str, results: Path = RESULTS) -> list[str]:
    """Arguments of ``train`` of the agent's best trial on a sequence: the highest normalised lifelong return."""
    trials = read_trials(sequence, results).get(agent, [])
    best = max(trials, key=lambda trial: float(trial["figures"]["normalised_return"]), default={"arguments": []})
    return list(best["arguments"])


def tuning_table(name: str, results: Path = RESULTS) -> str:
    """Draws the record ``tuning_<sequence>``: one row a trial, best first within an agent.

    Raises:
        ValueError: there are no trials of that name.
    """
    trials = read_trials(name.removeprefix("tuning_"), results)
    if not trials:
        raise ValueError(f"no trials for {name!r} in {results}: run python -m benchmarks.tuning")
    lines = ["| agent | trial | normalised lifelong return | recognises from step | seed |", "|---|---|---:|---:|---:|"]
    for agent, group in sorted(trials.items()):
        for trial in sorted(group, key=lambda trial: -trial["figures"]["normalised_return"]):
            step = trial["figures"].get("recognition_step")
            shown = "never" if step is None else f"{step:,.0f}"
            what = " ".join(trial["arguments"]) or "defaults"
            score = trial["figures"]["normalised_return"]
            lines.append(f"| {agent} | `{what}` | {score:.3f} | {shown} | {trial['seed']} |")
    commits = ", ".join(sorted({trial["commit"][:10] for group in trials.values() for trial in group}))
    return "\n".join(lines) + f"\n\nWhole lives on a seed that no published table uses. Commit {commits}."
