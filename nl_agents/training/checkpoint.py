"""Checkpoints that survive kill -9, a full disk and a flipped bit: safetensors and JSON, no pickle.

A checkpoint is three files (``checkpoint_format``). They are written into a hidden sibling, flushed to the disk and
renamed in one step: under its final name a checkpoint is complete or not there. An older one is removed only after
that, and renamed away before it is deleted.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

from nl_agents.errors import CheckpointError
from nl_agents.training.checkpoint_format import (
    FILES,
    FORMAT,
    VERSION,
    parse,
    render,
    sync_folder,
    verify,
    write_durably,
)
from nl_agents.training.state_tree import flatten, unflatten

__all__ = ["FORMAT", "VERSION", "CheckpointStore", "flatten", "load_file", "save_file", "unflatten"]

_NAME = re.compile(r"checkpoint-(\d+)(\.old)?")
_RUBBISH = ".rubbish-"


class CheckpointStore:
    """A folder of the last few checkpoints of one life.

    One writer at a time (the run folder's lock sees to that); any number of readers.

    Args:
        folder: created at the first save.
        keep: how many of the newest checkpoints (restore points) stay, >= 1.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep must be >= 1, got {keep}; at least the newest checkpoint has to stay")
        self.folder, self.keep = Path(folder), keep

    def save(self, index: int, tree: Any) -> Path:
        """Writes checkpoint ``index`` atomically, then drops what is older than the newest ``keep``.

        Args:
            index: its number, >= 0; a checkpoint of the same number is replaced.
            tree: nested state, see ``nl_agents.training.state_tree``.

        Returns:
            The folder of the new checkpoint.

        Raises:
            TypeError: the tree holds something that cannot be saved.
            CheckpointError: the operating system refused (disk full, read-only); the text says what is kept.
        """
        if index < 0:
            raise ValueError(f"index must be >= 0, got {index}; number checkpoints from 0")
        files = render(tree)
        target = self.folder / f"checkpoint-{index:08d}"
        half = self.folder / f"{_RUBBISH}new-{index:08d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            half.mkdir()
            for name, data in files.items():
                write_durably(half / name, data)
            sync_folder(half)
            self._publish(half, target)
        except OSError as error:
            shutil.rmtree(half, ignore_errors=True)
            raise CheckpointError(
                f"cannot write checkpoint {index} into {self.folder}: {error}; {self._kept()}; make room or mend the "
                "permissions, then resume"
            ) from error
        self._prune()
        return target

    def latest(self) -> Path | None:
        """Returns the newest intact checkpoint, or None; what is damaged is skipped with a warning.

        Raises:
            CheckpointError: a checkpoint is there but the operating system does not let us read it.
        """
        found = self._newest()
        return None if found is None else found[0]

    def load(self, path: str | os.PathLike[str] | int | None = None) -> Any:
        """Reads a checkpoint.

        Args:
            path: its folder, its index, or None for the newest intact one.

        Raises:
            CheckpointError: missing, corrupt, foreign, or of another format version.
        """
        if path is None:
            found = self._newest()
            if found is None:
                raise CheckpointError(f"no intact checkpoint in {self.folder}: expected checkpoint-*; start a new run")
            return parse(found[1], found[0])
        folder = self.folder / f"checkpoint-{path:08d}" if isinstance(path, int) else Path(path)
        return parse(_read_folder(folder), folder)

    def indices(self) -> list[int]:
        """Returns the numbers of the kept checkpoints, ascending (complete by name; ``load`` checks the content)."""
        return sorted({index for index, _ in self._entries()})

    def drop_after(self, index: int) -> None:
        """Forgets the checkpoints numbered above ``index``: after a rollback they belong to a future that is void."""
        for number, path in reversed(self._entries()):
            if number > index:
                self._discard(path)

    def _entries(self) -> list[tuple[int, Path]]:
        """Lists (index, path), oldest first; of two with one index the one being replaced comes first."""
        if not self.folder.is_dir():
            return []
        found = [(match, path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        found.sort(key=lambda pair: (int(pair[0][1]), pair[0][2] is None))
        return [(int(match[1]), path) for match, path in found]

    def _newest(self) -> tuple[Path, dict[str, bytes]] | None:
        for _, path in reversed(self._entries()):
            try:
                return path, _read_folder(path)
            except CheckpointError as error:
                if isinstance(error.__cause__, PermissionError):
                    raise
                warnings.warn(f"skipping a damaged checkpoint: {error}", RuntimeWarning, stacklevel=3)
        return None

    def _publish(self, half: Path, target: Path) -> None:
        """Gives a complete folder its final name; one of the same name stays readable until that has happened."""
        old = target.with_name(target.name + ".old")
        if target.exists():
            self._discard(old)
            os.replace(target, old)
        os.replace(half, target)
        sync_folder(self.folder)

    def _prune(self) -> None:
        entries = self._entries()
        kept = set(self.indices()[-self.keep :])
        for index, path in entries:
            if index not in kept or path.suffix == ".old":
                self._discard(path)

    def _discard(self, path: Path) -> None:
        """Removes a checkpoint: first its name, then its files, so that a kill in between leaves no half one."""
        if not path.exists():
            return
        rubbish = path.with_name(f"{_RUBBISH}{path.name}")
        try:
            shutil.rmtree(rubbish, ignore_errors=True)
            os.replace(path, rubbish)
            shutil.rmtree(rubbish)
        except OSError as error:
            warnings.warn(f"cannot remove the old checkpoint {path}: {error}", RuntimeWarning, stacklevel=3)

    def _sweep(self) -> None:
        """Deletes what a killed writer left behind."""
        for path in self.folder.glob(f"{_RUBBISH}*"):
            shutil.rmtree(path)

    def _kept(self) -> str:
        kept = self.indices()
        return f"checkpoints kept: {', '.join(map(str, kept))}" if kept else "no earlier checkpoint exists"


def save_file(path: str | os.PathLike[str], tree: Any) -> Path:
    """Writes the content of a checkpoint as one file, atomically: a plain zip of the same three files.

    Equal trees give equal bytes.

    Args:
        path: ``.zip`` is added where there is no suffix.
        tree: nested state, see ``nl_agents.training.state_tree``.

    Returns:
        The path written.

    Raises:
        TypeError: the tree holds something that cannot be saved.
        CheckpointError: the operating system refused; a file that was there before is untouched.
    """
    target = _with_suffix(Path(path))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in render(tree).items():
            archive.writestr(zipfile.ZipInfo(name), data)
    half = target.with_name(f".{target.name}.half-written")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(half, buffer.getvalue())
        os.replace(half, target)
        sync_folder(target.parent)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {target}: {error}; what was there before is untouched") from error
    return target


def load_file(path: str | os.PathLike[str]) -> Any:
    """Reads what ``save_file`` wrote.

    Args:
        path: with or without ``.zip``.

    Raises:
        CheckpointError: missing, corrupt, foreign (another program's zip), or of another format version.
    """
    target = Path(path) if Path(path).is_file() else _with_suffix(Path(path))
    try:
        with zipfile.ZipFile(target) as archive:
            files = {info.filename: archive.read(info) for info in archive.infolist()}
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {target}; check the path") from error
    except (
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        struct.error,
    ) as error:
        raise CheckpointError(
            f"{target} cannot be read as a zip: {error}; it is corrupt or not a saved agent"
        ) from error
    return parse(verify(files, target), target)


def _with_suffix(path: Path) -> Path:
    return path if path.suffix else path.with_name(path.name + ".zip")


def _read_folder(folder: Path) -> dict[str, bytes]:
    """Returns the verified files of a checkpoint folder."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint {folder}; indices() lists what is kept")
    try:
        files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
    except OSError as error:
        raise CheckpointError(f"cannot read {folder}: {error}; mend the permissions") from error
    return verify(files, folder)
