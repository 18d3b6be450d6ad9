"""The folder of one run: its configuration, its append-only records, its checkpoints, its lock.

Contents: ``config.json``; the records ``episodes.csv``, ``task_log.csv``, ``effective_log.csv``, ``levels.csv`` and
``decisions.jsonl``; ``progress.csv`` and TensorBoard events (``training.logging``); ``checkpoints/``; and, written by
others at the end, ``report.html`` and ``summary.json``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ModuleNotFoundError:  # Windows: there two processes on one folder go unnoticed
    fcntl = None  # type: ignore[assignment]

from nl_agents.errors import RunFolderError
from nl_agents.training.checkpoint import CheckpointStore
from nl_agents.training.checkpoint_format import sync_folder, write_durably
from nl_agents.training.records import CsvRecord, JsonRecord, Record, refused

FORMAT = "nl-agents run 1"
CONFIG = "config.json"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "episodes.csv": ("step", "stream", "task", "return", "length", "begin"),
    "task_log.csv": ("step", "task"),
    "effective_log.csv": ("step", "stream", "task"),
    "levels.csv": ("step", "level", "period", "rate"),
}
OUR_FILES = (*COLUMNS, "decisions.jsonl", "progress.csv", "report.html", "summary.json", CONFIG)

_OPEN_HERE: set[str] = set()
_LOCK, _HALF = ".lock", f".{CONFIG}.half-written"


class RunFolder:
    """One run on disk, locked against a second writer while open.

    Attributes (after ``create`` or ``open``):
        config: content of ``config.json``.
        episodes, task_log, effective_log, levels, decisions: the records.
        checkpoints: the store of restore points.

    Args:
        path: the folder.
        keep: how many checkpoints stay.
    """

    config: dict[str, Any]
    episodes: CsvRecord
    task_log: CsvRecord
    effective_log: CsvRecord
    levels: CsvRecord
    decisions: JsonRecord

    def __init__(self, path: str | os.PathLike[str], keep: int = 3) -> None:
        self.path = Path(path)
        self.checkpoints = CheckpointStore(self.path / "checkpoints", keep=keep)
        self._lock: tuple[str, int] | None = None

    def create(self, config: Mapping[str, Any], *, overwrite: bool = False) -> RunFolder:
        """Makes the folder and writes ``config.json``.

        Args:
            config: plain JSON; ``format`` is added.
            overwrite: remove an earlier run of ours that is there (and nothing else).

        Returns:
            Itself, open.

        Raises:
            RunFolderError: not empty, foreign, in use, or the system refused (read-only, disk full).
        """
        content = {"format": FORMAT, **config}
        text = (json.dumps(content, indent=2) + "\n").encode()
        self._acquire(make=True)
        try:
            if any(entry.name not in (_LOCK, _HALF) for entry in self.path.iterdir()):
                self._clear(overwrite)
            write_durably(self.path / _HALF, text)
            os.replace(self.path / _HALF, self.path / CONFIG)
            sync_folder(self.path)
            return self._attach(json.loads(text))
        except OSError as error:
            self.close()
            raise refused(self.path, error, "no run was started") from error
        except RunFolderError:
            self.close()
            raise

    def open(self) -> RunFolder:
        """Opens an existing run for writing (the records go on where they end; ``rewind`` cuts them).

        Returns:
            Itself, open.

        Raises:
            RunFolderError: missing, foreign, in use, or the system refused.
        """
        config = read_config(self.path)
        self._acquire(make=False)
        try:
            return self._attach(config)
        except OSError as error:
            self.close()
            raise refused(self.path, error, "nothing was lost") from error
        except RunFolderError:
            self.close()
            raise

    def positions(self) -> dict[str, int]:
        """Flushes every record to the disk and returns the lengths to store in a checkpoint."""
        self.flush()
        return {name: record.position() for name, record in self._records().items()}

    def flush(self) -> None:
        """Flushes every record to the disk."""
        for record in self._records().values():
            record.flush()

    def rewind(self, positions: Mapping[str, int]) -> None:
        """Cuts every record back to the length a checkpoint holds; a record it does not know starts anew."""
        for name, record in self._records().items():
            record.rewind(positions.get(name, 0))

    def close(self) -> None:
        """Flushes the records and gives the lock back; the folder may then be opened by another process."""
        try:
            self.flush()
        finally:
            if self._lock is not None:
                here, descriptor = self._lock
                self._lock = None
                _OPEN_HERE.discard(here)
                os.close(descriptor)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _records(self) -> dict[str, Record]:
        names = ("episodes", "task_log", "effective_log", "levels", "decisions")
        found: list[Record] = [getattr(self, name) for name in names if hasattr(self, name)]
        return {record.path.name: record for record in found}

    def _attach(self, config: dict[str, Any]) -> RunFolder:
        self.config = config
        for name, columns in COLUMNS.items():
            setattr(self, name.removesuffix(".csv"), CsvRecord(self.path / name, columns))
        self.decisions = JsonRecord(self.path / "decisions.jsonl")
        return self

    def _clear(self, overwrite: bool) -> None:
        """Removes an earlier run of ours, ``config.json`` last; refuses everything else."""
        if not overwrite:
            raise RunFolderError(
                f"run folder {self.path} is not empty: continue it with `nl-agents resume {self.path}`, choose another "
                "folder, or overwrite it"
            )
        read_config(self.path)
        if self.checkpoints.folder.exists():
            shutil.rmtree(self.checkpoints.folder)
        for path in (*self.path.glob("events.out.tfevents.*"), *(self.path / name for name in OUR_FILES)):
            path.unlink(missing_ok=True)

    def _acquire(self, *, make: bool) -> None:
        """Takes the lock; the system gives it back when the process ends, however it ends.

        A record lock: unlike ``flock`` it does not live on in forked environment workers that outlive a killed run. It
        does not exclude the process itself, so the open folders of this one are listed beside it.
        """
        here = str(self.path.resolve())
        if here in _OPEN_HERE:
            raise RunFolderError(f"run folder {self.path} is already open in this process; close it first")
        try:
            if make:
                self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise refused(self.path, error, "nothing was changed") from error
        if fcntl is not None:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                os.close(descriptor)
                raise RunFolderError(
                    f"run folder {self.path} is in use by another process: wait for it, stop it, or choose another"
                ) from error
        self._lock = here, descriptor
        _OPEN_HERE.add(here)


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the ``config.json`` of a run, without locking it.

    Raises:
        RunFolderError: the folder is missing or not one of ours.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RunFolderError(f"there is no run folder {folder}; check the path, or start one with `nl-agents train`")
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{folder} is not a run folder: it has no {CONFIG}") from error
    except OSError as error:
        raise RunFolderError(f"cannot read {folder / CONFIG}: {error}; mend the permissions") from error
    except ValueError as error:
        raise RunFolderError(f"{folder / CONFIG} is not JSON ({error}); restore it, or start a new run") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise RunFolderError(f"{folder} is not a run folder of ours: expected format {FORMAT!r}, found {found!r}")
    return config
