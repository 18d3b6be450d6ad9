"""The record of one life: which episodes were lived, when, on which task; nothing about how they were learned."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nl_agents.errors import RunFolderError
from nl_agents.types import Episode

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FORMAT = 1
ARRAYS = ("step", "stream", "task", "returns", "length", "begin")


@dataclass(frozen=True)
class Lifetime:
    """One agent's life on one task sequence, as columns of equal length E (finished episodes).

    Attributes:
        step: [E] clock (valid env steps over all streams) when the episode ended.
        stream: [E] index of the stream, 0 .. num_envs - 1.
        task: [E] index into ``task_names`` of the task in force on the stream when the episode ended.
        returns: [E] undiscounted sum of rewards.
        length: [E] valid env steps of the episode.
        begin: [E] clock when the episode began.
        task_names: names, in the order of first appearance.
        task_log: scheduled switches ``(step, task name)`` from step 0 on.
        effective_log: ``(clock, stream, task name)``: when a switch reached a stream. May be empty.
        steps: length of the life, env steps over all streams.
        num_envs: streams.
        meta: where it came from (agent, sequence, seed, settings ...), plain JSON values.
    """

    step: Ints
    stream: Ints
    task: Ints
    returns: Floats
    length: Ints
    begin: Ints
    task_names: tuple[str, ...]
    task_log: tuple[tuple[int, str], ...]
    effective_log: tuple[tuple[int, int, str], ...] = ()
    steps: int = 0
    num_envs: int = 1
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) for name in ARRAYS}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"a Lifetime needs columns of one length, got {sizes}; record every field of an episode")
        if not self.task_log or self.task_log[0][0] != 0:
            raise ValueError(
                f"task_log must start with (0, first task), got {list(self.task_log[:2])}; "
                "take it from the sequence's task_log after reset"
            )
        if len(self.stream) and (self.stream.min() < 0 or self.stream.max() >= self.num_envs):
            raise ValueError(
                f"stream indices must lie in 0..{self.num_envs - 1}, got {self.stream.min()}..{self.stream.max()}; "
                "pass the num_envs of the run that recorded the episodes"
            )

    def __len__(self) -> int:
        """Number of finished episodes."""
        return len(self.step)

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[Episode],
        task_log: Sequence[tuple[int, str]],
        *,
        steps: int,
        num_envs: int,
        effective_log: Sequence[tuple[int, int, str]] = (),
        meta: dict[str, Any] | None = None,
    ) -> Lifetime:
        """Builds the record from a list of ``types.Episode`` and the two logs of the sequence.

        Args:
            episodes: finished episodes in any order.
            task_log: ``(step, task)`` switches, the first at step 0.
            steps: env steps lived, over all streams.
            num_envs: streams.
            effective_log: ``(clock, stream, task)`` where a switch reached a stream, if it was logged.
            meta: plain JSON values to keep beside the arrays.
        """
        rows = list(episodes)
        names = tuple(dict.fromkeys([name for _, name in task_log] + [row.task for row in rows]))
        index = {name: number for number, name in enumerate(names)}
        return cls(
            step=np.array([row.step for row in rows], np.int64),
            stream=np.array([row.stream for row in rows], np.int64),
            task=np.array([index[row.task] for row in rows], np.int64),
            returns=np.array([row.return_ for row in rows], np.float64),
            length=np.array([row.length for row in rows], np.int64),
            begin=np.array([row.begin for row in rows], np.int64),
            task_names=names,
            task_log=tuple((int(step), str(name)) for step, name in task_log),
            effective_log=tuple((int(clock), int(stream), str(name)) for clock, stream, name in effective_log),
            steps=int(steps),
            num_envs=int(num_envs),
            meta=dict(meta or {}),
        )

    @classmethod
    def from_run_folder(cls, path: str | Path) -> Lifetime:
        """Reads ``config.json``, ``episodes.csv``, ``task_log.csv`` and, where it is there, ``effective_log.csv``.

        A last line cut short by a kill is passed over; any other unreadable line is an error.

        Raises:
            RunFolderError: the folder or one of its files is missing or not readable as such.
        """
        folder = Path(path)
        config = read_json(folder / "config.json")
        task_log = [(int(step), name) for step, name in read_csv(folder / "task_log.csv", (int, str))]
        kinds = (int, int, str, float, int, int)
        episodes = [Episode(*row) for row in read_csv(folder / "episodes.csv", kinds)]
        effective: list[tuple[int, int, str]] = []
        if (folder / "effective_log.csv").exists():
            effective = [(row[0], row[1], row[2]) for row in read_csv(folder / "effective_log.csv", (int, int, str))]
        lived = max((row.step for row in episodes), default=0)
        reached = _steps_reached(folder)
        return cls.from_episodes(
            episodes,
            task_log,
            steps=max(lived, reached),
            num_envs=int(config["num_envs"]),
            effective_log=effective,
            meta={**config, "run_dir": str(folder)},
        )

    def save(self, path: str | Path) -> Path:
        """Writes ``<path>.npz`` (columns) and ``<path>.json`` (logs, counts, meta); returns the ``.npz`` path."""
        base = _base(path)
        base.parent.mkdir(parents=True, exist_ok=True)
        columns: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        np.savez_compressed(base.with_name(base.name + ".npz"), **columns)
        text = {
            "format": FORMAT,
            "task_names": self.task_names,
            "task_log": self.task_log,
            "effective_log": self.effective_log,
            "steps": self.steps,
            "num_envs": self.num_envs,
            "meta": self.meta,
        }
        base.with_name(base.name + ".json").write_text(json.dumps(text, indent=1) + "\n")
        return base.with_name(base.name + ".npz")

    @classmethod
    def load(cls, path: str | Path) -> Lifetime:
        """Reads what ``save`` wrote; ``path`` with or without its ending."""
        base = _base(path)
        text = read_json(base.with_name(base.name + ".json"))
        if text.get("format") != FORMAT:
            raise RunFolderError(
                f"{base}.json should be a lifetime record of format {FORMAT}, its format is {text.get('format')!r}; "
                "write it again with Lifetime.save of this version"
            )
        with np.load(base.with_name(base.name + ".npz")) as columns:
            arrays = {name: columns[name] for name in ARRAYS}
        return cls(
            **arrays,
            task_names=tuple(text["task_names"]),
            task_log=tuple((int(step), name) for step, name in text["task_log"]),
            effective_log=tuple((int(clock), int(stream), name) for clock, stream, name in text["effective_log"]),
            steps=int(text["steps"]),
            num_envs=int(text["num_envs"]),
            meta=text["meta"],
        )


def read_json(path: Path) -> dict[str, Any]:
    """Reads one JSON object or says which file is missing or spoilt."""
    if not path.exists():
        raise RunFolderError(f"expected {path.name} in {path.parent}, found none; give the folder of a finished run")
    try:
        value = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{path} should hold JSON, but {error}; restore it or run again") from error
    if not isinstance(value, dict):
        raise RunFolderError(f"{path} should hold a JSON object, got {type(value).__name__}; is it a run's file?")
    return value


def read_csv(path: Path, kinds: Sequence[Callable[[str], Any]]) -> list[tuple[Any, ...]]:
    """Reads a headed CSV file into tuples of the given kinds; a last line cut short by a kill is left out."""
    if not path.exists():
        raise RunFolderError(f"expected {path.name} in {path.parent}, found none; give the folder of a finished run")
    with path.open(newline="") as file:
        text = file.read()
    whole = text.endswith("\n")
    rows = list(csv.reader(text.splitlines()))
    table: list[tuple[Any, ...]] = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            table.append(tuple(kind(cell) for kind, cell in zip(kinds, row, strict=True)))
        except ValueError as error:
            if number == len(rows) and not whole:
                break
            raise RunFolderError(
                f"{path} line {number}: expected {len(kinds)} fields ({rows[0]}), got {row}; "
                "the file was changed by hand or by another program: restore it or run again"
            ) from error
    return table


def _steps_reached(folder: Path) -> int:
    """Clock of the newest row of progress.csv, 0 without: an unfinished life is as long as it was lived."""
    path = folder / "progress.csv"
    if not path.exists():
        return 0
    with path.open(newline="") as file:
        cells = [row.get("time/steps") for row in csv.DictReader(file)]
    return max((int(float(cell)) for cell in cells if cell), default=0)


def _base(path: str | Path) -> Path:
    """Drops a trailing ``.npz`` or ``.json``; other dots belong to the name."""
    whole = Path(path)
    return whole.with_suffix("") if whole.suffix in (".npz", ".json") else whole
