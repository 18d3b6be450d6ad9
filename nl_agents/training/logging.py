"""Metrics over a run: ``progress.csv`` and TensorBoard, both able to continue after a kill.

Built on the writers of Stable-Baselines3, so that its loggers, its callbacks and ours are interchangeable. Two things
are better than there: a resumed run appends to its table instead of erasing it, and columns have a fixed order.
"""

from __future__ import annotations

import ast
import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat, filter_excluded_keys

from nl_agents.errors import RunFolderError
from nl_agents.training.checkpoint_format import write_durably
from nl_agents.training.records import append_at, refused

STEPS = "time/steps"  # the clock of a row: valid env steps over all streams
_KEY = re.compile(r"[a-z0-9_]+(/[A-Za-z0-9_.<>-]+)+")


class MetricLogger:
    """Collects named figures and writes them as one row.

    Args:
        folder: where ``progress.csv`` and the TensorBoard events live.
        tensorboard: False writes the table alone.
        purge_step: on resume, TensorBoard hides earlier events from this step on (``SummaryWriter``'s meaning: the
            clock of the checkpoint + 1).
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, tensorboard: bool = True, purge_step: int | None = None
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.table = ProgressTable(self.folder / "progress.csv")
        formats: list[KVWriter] = [self.table]
        if tensorboard:
            formats.append(_TensorBoard(self.folder, purge_step))
        self.sb3 = Logger(str(self.folder), formats)

    def record(self, key: str, value: Any, exclude: str | tuple[str, ...] | None = None) -> None:
        """Sets the figure ``key`` of the next row; a tensor is read (and waited for) only when the row is written.

        Args:
            key: ``area/name``, explained in docs/metrics.md.
            value: number, one-element tensor, or text.
            exclude: writers to leave out, ``csv`` or ``tensorboard``.

        Raises:
            ValueError: the key is not of that form.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"a metric key must be area/name in lower case, got {key!r}; for example 'loss/policy'")
        self.sb3.record(key, value, exclude)

    def record_all(self, values: Mapping[str, Any]) -> None:
        """Records every item of ``values``."""
        for key, value in values.items():
            self.record(key, value)

    def dump(self, step: int) -> None:
        """Writes the row of clock ``step`` and starts an empty one.

        Raises:
            RunFolderError: the system refused; rows already written are kept.
        """
        self.sb3.record(STEPS, step)
        row: dict[str, Any] = self.sb3.name_to_value
        row.update({key: value.item() for key, value in row.items() if isinstance(value, torch.Tensor)})
        try:
            self.sb3.dump(step)
        except OSError as error:
            raise refused(self.folder, error, "rows already written are kept") from error

    def positions(self) -> dict[str, int]:
        """Returns what a checkpoint stores of the table: its rows and columns."""
        return {"rows": len(self.table.rows), "columns": len(self.table.columns)}

    def rewind(self, positions: Mapping[str, int]) -> None:
        """Cuts the table back to what it was at a checkpoint.

        Raises:
            RunFolderError: the table has fewer rows or columns than that.
        """
        self.table.rewind(positions["rows"], positions["columns"])

    def close(self) -> None:
        """Closes the writers."""
        self.sb3.close()


class ProgressTable(KVWriter):
    """``progress.csv``: one row a dump; a figure that appears later becomes a new last column, older rows keep theirs.

    A new row is appended. A new column rewrites the table into a sibling and renames it, so that no kill loses rows. It
    is kept in memory too (a few hundred rows of a few dozen cells).

    Args:
        path: continued where it exists; a last line cut short by a kill is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.rows: list[list[str]] = []
        self._written = 0
        if path.exists():
            text = path.read_text("utf-8")
            whole = text[: text.rfind("\n") + 1]
            table = list(csv.reader(io.StringIO(whole)))
            self.columns, self.rows = (table[0], table[1:]) if table else ([], [])
            self._written = len(whole.encode())

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Appends one row; called by SB3's logger."""
        values = filter_excluded_keys(key_values, key_excluded, "csv")
        new = sorted(values.keys() - set(self.columns), key=lambda key: (key != STEPS, key))
        columns = [*self.columns, *new]
        row = [_cell(values.get(key)) for key in columns]
        if new:
            rows = [[*old, *[""] * (len(columns) - len(old))] for old in self.rows]
            self._rewrite(columns, [*rows, row])
        else:
            line = _lines([row])
            append_at(self.path, self._written, line)
            self._written += len(line)
            self.rows.append(row)

    def rewind(self, rows: int, columns: int) -> None:
        """Keeps the first ``rows`` rows and ``columns`` columns."""
        if rows > len(self.rows) or columns > len(self.columns):
            raise RunFolderError(
                f"{self.path} has {len(self.rows)} rows and {len(self.columns)} columns, its checkpoint expects {rows} "
                f"and {columns}: it was edited; restore it, or start a new run"
            )
        self._rewrite(self.columns[:columns], [row[:columns] for row in self.rows[:rows]])

    def close(self) -> None:
        """Nothing is held open."""

    def _rewrite(self, columns: list[str], rows: list[list[str]]) -> None:
        half = self.path.with_name(f".{self.path.name}.half-written")
        content = _lines([columns, *rows]) if columns else b""
        write_durably(half, content)
        os.replace(half, self.path)
        self.columns, self.rows, self._written = columns, rows, len(content)


class _TensorBoard(TensorBoardOutputFormat):
    """SB3's TensorBoard writer, told from which step on earlier events are void."""

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.writer = SummaryWriter(log_dir=str(folder), purge_step=purge_step)
        self._is_closed = False


def recorded_keys(source: str) -> set[str]:
    """Finds the metric keys in Python source: string literals handed to ``record(...)`` and keys of ``record_all({})``.

    The braces of an f-string become ``<name>``: ``f"level/{name}/period"`` gives ``level/<name>/period``.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            literals: Iterable[ast.expr | None] = ()
            if called in ("record", "record_mean"):
                literals = node.args[:1]
            elif called == "record_all" and isinstance(node.args[0], ast.Dict):
                literals = node.args[0].keys
            found.update(key for literal in literals for key in _literal(literal) if _KEY.fullmatch(key))
    return found


def undocumented_keys(keys: Iterable[str], documentation: str) -> list[str]:
    """Returns the keys that the text of docs/metrics.md does not explain.

    A key is explained where it stands in back-quotes; ``<anything>`` in it stands for one part of a name, so that
    `` `level/<level>/period` `` explains ``level/core.memory.never/period``.

    Args:
        keys: metric keys, as logged or as ``recorded_keys`` finds them.
        documentation: markdown.
    """
    explained = [re.sub(r"<[^<>/]*>", "\0", key) for key in re.findall(r"`([^`\s]+/[^`\s]+)`", documentation)]
    patterns = [re.compile(re.escape(key).replace("\0", "[^/]+").replace("\\[^/]+", "[^/]+")) for key in explained]
    return sorted({key for key in keys if not any(pattern.fullmatch(key) for pattern in patterns)})


def _literal(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else f"<{_name(part)}>" for part in node.values)


def _name(part: ast.expr) -> str:
    text = ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""
    return re.sub(r"[^A-Za-z0-9_.-]", "", text) or "name"


def _cell(value: Any) -> str:
    """Writes a value so that a float reads back exactly; an absent or not finite one as nothing or its name."""
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return repr(float(value)) if isinstance(value, float) else str(value)


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()
