"""Random and expert return per task: the two levels between which lifelong returns are normalised."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from nl_agents.errors import ConfigError, ReferenceMissingError
from nl_agents.evaluation.lifetime import Lifetime, read_json

FORMAT = 1


class Levels(NamedTuple):
    """Mean undiscounted episode return of the uniform random policy and of the task's expert."""

    random: float
    expert: float


def suite_of(sequence: str) -> str:
    """``suite`` of ``suite`` or ``suite:preset``: presets of a suite share tasks, hence the reference."""
    return sequence.split(":", 1)[0]


def available_references() -> list[str]:
    """Names of the suites whose reference ships with the package."""
    folder = resources.files("nl_agents.evaluation").joinpath("references")
    return sorted(item.name.removesuffix(".json") for item in folder.iterdir() if item.name.endswith(".json"))


def load_reference(name: str) -> dict[str, Levels]:
    """Loads the stored levels of a suite, by ``suite`` or ``suite:preset``, or by the path of a ``.json`` file.

    Raises:
        ReferenceMissingError: there is none; the text says how to make one.
        ConfigError: the file does not fit the schema of ``write_reference``.
    """
    return parse_reference(_read(name)["tasks"], name)


def describe_reference(name: str) -> dict[str, Any]:
    """The whole stored file: levels, and the command, commit and notes that say where they come from."""
    return _read(name)


def _read(name: str) -> dict[str, Any]:
    if name.endswith(".json"):
        found = read_json(Path(name))
    else:
        file = resources.files("nl_agents.evaluation").joinpath("references", f"{suite_of(name)}.json")
        if not file.is_file():
            raise ReferenceMissingError(
                f"no stored reference for {suite_of(name)!r} (stored: {', '.join(available_references()) or 'none'}); "
                "measure the mean return per task of a random policy and of a trained expert, then pass "
                "reference={'task': {'random': r, 'expert': e}} or store them with nl_agents.evaluation.write_reference"
            )
        found = json.loads(file.read_text())
    if found.get("format") != FORMAT or not isinstance(found.get("tasks"), dict):
        raise ConfigError(
            f"reference {name!r} should be format {FORMAT} with 'tasks', got format {found.get('format')!r} and keys "
            f"{sorted(found)}; write it with nl_agents.evaluation.write_reference"
        )
    return found


def parse_reference(tasks: Mapping[str, object], name: str = "given") -> dict[str, Levels]:
    """Checks ``{task: {"random": r, "expert": e}}`` (or ``(r, e)`` pairs) and returns it as ``Levels``."""
    levels: dict[str, Levels] = {}
    for task, value in tasks.items():
        try:
            pair = (value["random"], value["expert"]) if isinstance(value, Mapping) else value
            low, high = (float(level) for level in pair)  # type: ignore[attr-defined]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"reference {name!r}, task {task!r}: expected {{'random': number, 'expert': number}}, got {value!r}; "
                "give both returns"
            ) from error
        if not (math.isfinite(low) and math.isfinite(high) and high > low):
            raise ConfigError(
                f"reference {name!r}, task {task!r}: the expert must be finite and above random, got random {low} and "
                f"expert {high}; measure them again with more episodes"
            )
        levels[task] = Levels(low, high)
    return levels


def write_reference(
    path: str | Path, suite: str, tasks: Mapping[str, object], *, command: str, commit: str, notes: str = ""
) -> Path:
    """Stores levels together with what made them.

    Args:
        path: file to write, ``<suite>.json``.
        suite: name of the suite.
        tasks: ``{task: {"random": r, "expert": e, ...}}``; further keys (episodes, seeds) are kept as they are.
        command: the command line that measured them.
        commit: commit of the code that ran.
        notes: protocol in words.
    """
    parse_reference(tasks, suite)
    if not command.strip() or not commit.strip():
        raise ConfigError(f"a reference needs the command and the commit that made it, got {command!r} and {commit!r}")
    text = {"format": FORMAT, "suite": suite, "command": command, "commit": commit, "notes": notes, "tasks": tasks}
    Path(path).write_text(json.dumps(text, indent=1) + "\n")
    return Path(path)


def require_reference(life: Lifetime, reference: str | Mapping[str, object] | None) -> dict[str, Levels]:
    """Resolves what a caller gave: levels, a suite's name, or None for the suite of the life's own sequence.

    Raises:
        ReferenceMissingError: the suite has none, or the life names no suite.
    """
    if isinstance(reference, Mapping):
        return parse_reference(reference)
    name = reference if reference is not None else str(life.meta.get("sequence") or "")
    if not name:
        raise ReferenceMissingError(
            "the life's meta names no sequence whose reference could be looked up; pass "
            "reference={'task': {'random': r, 'expert': e}}"
        )
    return load_reference(name)


def reference_for(life: Lifetime, reference: str | Mapping[str, object] | None) -> dict[str, Levels] | None:
    """As ``require_reference``, but None where nothing was named and the life's own sequence has no reference.

    Nor has it one where it lacks levels of a task that the life visits.
    """
    if reference is not None:
        return require_reference(life, reference)
    try:
        levels = require_reference(life, None)
    except ReferenceMissingError:
        return None
    return levels if levels.keys() >= set(life.task_names) else None
