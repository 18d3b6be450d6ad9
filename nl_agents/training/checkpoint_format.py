"""The bytes of a checkpoint: three files, hashed, verified before a single one is decoded.

``state.safetensors`` holds the tensors, ``tree.json`` everything else, ``meta.json`` the format, its version and the
SHA-256 of the other two. A changed bit in any of them is found.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from nl_agents import __version__
from nl_agents.errors import CheckpointError
from nl_agents.training.state_tree import flatten, unflatten

FORMAT = "nl-agents checkpoint"
VERSION = 1
FILES = META, TREE, STATE = "meta.json", "tree.json", "state.safetensors"


def render(tree: Any) -> dict[str, bytes]:
    """Returns the three files of a checkpoint; ``meta.json`` last."""
    tensors, json_tree = flatten(tree)
    files = {
        STATE: safetensors.torch.save(tensors),
        TREE: json.dumps(json_tree, allow_nan=False, separators=(",", ":")).encode(),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    meta = {"format": FORMAT, "version": VERSION, "library": {"nl-agents": __version__}, "sha256": hashes}
    files[META] = _sealed(meta)
    return files


def _sealed(meta: dict[str, Any]) -> bytes:
    """Renders ``meta.json`` in its one canonical form, with a hash of itself at the end."""
    seal = hashlib.sha256(json.dumps(meta).encode()).hexdigest()
    return (json.dumps({**meta, "seal": seal}, indent=2) + "\n").encode()


def verify(files: dict[str, bytes], source: Path) -> dict[str, bytes]:
    """Refuses files that are foreign, of another version, missing or changed since they were written.

    Args:
        files: content by name.
        source: where they come from, for the error's text.

    Returns:
        The same files.

    Raises:
        CheckpointError: naming which of these it is.
    """
    if META not in files:
        raise CheckpointError(f"{source} is foreign or half-written: expected {META} in it, found {sorted(files)}")
    try:
        meta = json.loads(files[META])
        version = meta["version"] if meta["format"] == FORMAT else None
        hashes = dict(meta["sha256"])
        intact = files[META] == _sealed({key: value for key, value in meta.items() if key != "seal"})
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{source} is foreign or corrupt: {META} cannot be read ({error!r})") from error
    if version is None:
        raise CheckpointError(f"{source} is foreign: expected format {FORMAT!r}, found {meta['format']!r}")
    if version != VERSION:
        raise CheckpointError(
            f"{source} has format version {version}, this nl-agents reads {VERSION}; use the version that wrote it: "
            f"{meta.get('library')}"
        )
    changed = [name for name in hashes if hashlib.sha256(files.get(name, b"")).hexdigest() != hashes[name]]
    if changed or not intact or set(hashes) != {TREE, STATE}:
        raise CheckpointError(f"{source} is corrupt: {', '.join(changed) or META} changed since it was written")
    return files


def parse(files: dict[str, bytes], source: Path) -> Any:
    """Decodes verified files to the tree that was saved."""
    try:
        return unflatten(safetensors.torch.load(files[STATE]), json.loads(files[TREE]))
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{source} cannot be decoded: {error}; it is not a checkpoint of ours") from error


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes renames inside a folder durable, where the system can (not on Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
