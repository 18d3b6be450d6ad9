"""Append-only records that resume exactly: text files whose length goes into every checkpoint.

Resuming cuts a record back to that length: what a killed life had written after its last checkpoint will be lived
again, so a finished run holds the same bytes whether it was interrupted or not.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nl_agents.errors import RunFolderError

_BUFFERED = 1 << 16  # bytes a record keeps back before it writes unasked


class Record:
    """An append-only text file of rows; the base of ``CsvRecord`` and ``JsonRecord``.

    Args:
        path: created with its header where it is missing; a last line cut short by a kill is dropped.
        header: bytes that come first.
    """

    def __init__(self, path: Path, header: bytes = b"") -> None:
        self.path, self._header = path, header
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._written = _whole_lines(path)
        self.rewind(self._written)

    def position(self) -> int:
        """Returns the length in bytes, what is not yet flushed included."""
        return self._written + self._pending_size

    def flush(self) -> None:
        """Writes all rows to the disk and waits for it.

        Raises:
            RunFolderError: the system refused; rows already written stay, the others are kept for the next try.
        """
        if not self._pending:
            return
        data = b"".join(self._pending)
        try:
            append_at(self.path, self._written, data)
        except OSError as error:
            raise refused(self.path, error, "rows already written are kept") from error
        self._written += len(data)
        self._pending, self._pending_size = [], 0

    def rewind(self, position: int) -> None:
        """Cuts the file back to ``position`` bytes; 0 starts it anew with its header.

        Raises:
            RunFolderError: the file is shorter than that, or the system refused.
        """
        self._pending, self._pending_size = [], 0
        if position > self._written:
            raise RunFolderError(
                f"{self.path} has {self._written} bytes, its checkpoint expects {position}: rows were lost or the file "
                "was edited; restore it, or start a new run"
            )
        header = self._header if position == 0 else b""
        try:
            append_at(self.path, position, header)
        except OSError as error:
            raise refused(self.path, error, "nothing was lost") from error
        self._written = position + len(header)

    def _append(self, line: bytes) -> None:
        self._pending.append(line)
        self._pending_size += len(line)
        if self._pending_size > _BUFFERED:
            self.flush()


class CsvRecord(Record):
    """Rows of fixed columns; floats are written so that they read back exactly."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        super().__init__(path, csv_line(columns))

    def write_rows(self, rows: Iterable[Sequence[Any]]) -> None:
        """Appends rows; buffered until ``flush``.

        Raises:
            ValueError: a row does not fit the columns.
        """
        for row in rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.path.name} has the columns {self.columns}, got a row of {len(row)}: {row!r}")
            self._append(csv_line(row))


class JsonRecord(Record):
    """One JSON object a line."""

    def write_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends objects; buffered until ``flush``.

        Raises:
            TypeError: an object is not plain JSON.
        """
        for row in rows:
            self._append(json.dumps(dict(row)).encode() + b"\n")


def append_at(path: Path, position: int, data: bytes) -> None:
    """Makes ``data`` follow the first ``position`` bytes of a file, durably; what an earlier, refused try left is cut.

    Args:
        path: created where it is missing.
        position: length of what is kept, in bytes.
        data: what follows.

    Raises:
        OSError: the system refused; the first ``position`` bytes are untouched.
    """
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.truncate(position)
        file.seek(position)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def csv_line(cells: Iterable[Any]) -> bytes:
    """Returns one line of CSV; a float reads back exactly."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([repr(c) if type(c) is float else c for c in cells])
    return buffer.getvalue().encode()


def _whole_lines(path: Path) -> int:
    """Returns the length of a file up to its last newline, 0 where it is missing."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0


def refused(path: Path, error: OSError, kept: str) -> RunFolderError:
    """Returns the error for a file that cannot be written: what, why, what is kept, what to do."""
    return RunFolderError(
        f"cannot write {path}: {error}; {kept}; make room, mend the permissions, or choose another --run-dir"
    )
