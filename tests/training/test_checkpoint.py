"""Checkpoints under kill -9, full disks, read-only folders, flipped bits, foreign files and other versions."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nl_agents.errors import CheckpointError
from nl_agents.training import checkpoint, checkpoint_format
from nl_agents.training.checkpoint import CheckpointStore, load_file, save_file


def tree(index: int) -> dict[Any, Any]:
    return {"index": index, "w": torch.full((50,), float(index)), "rng": (index, 2**100), 3: np.arange(index)}


def assert_holds(loaded: dict[Any, Any], index: int) -> None:
    expected = tree(index)
    assert loaded["index"] == index and loaded["rng"] == expected["rng"]
    assert torch.equal(loaded["w"], expected["w"])
    assert loaded[3].tolist() == list(range(index))


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_save_load_and_keep_the_newest(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    assert store.latest() is None and store.indices() == []
    for index in (0, 1, 2, 10, 9):
        path = store.save(index, tree(index))
        assert_holds(store.load(path), index)
    assert store.indices() == [2, 9, 10]
    assert_holds(store.load(), 10)
    assert_holds(store.load(9), 9)
    assert store.latest() == tmp_path / "checkpoints" / "checkpoint-00000010"
    assert sorted(os.listdir(store.folder)) == [f"checkpoint-{index:08d}" for index in (2, 9, 10)]


def test_no_pickle_is_written(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).save(1, tree(1))
    assert sorted(os.listdir(path)) == ["meta.json", "state.safetensors", "tree.json"]
    assert json.loads((path / "meta.json").read_text())["version"] == checkpoint.VERSION
    assert json.loads((path / "tree.json").read_text())["~dict"][0] == ["index", 1]


def test_saving_an_index_again_replaces_it(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(4, tree(1))
    store.save(4, tree(2))
    assert_holds(store.load(4), 2)
    assert os.listdir(tmp_path) == ["checkpoint-00000004"]


def test_drop_after_forgets_a_void_future(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=9)
    for index in range(5):
        store.save(index, tree(index))
    store.drop_after(2)
    assert store.indices() == [0, 1, 2]
    assert_holds(store.load(), 2)


class Killed(BaseException):
    """Stands for SIGKILL: no handler of ours may run, so none may catch it."""


@pytest.mark.parametrize("replaced", [False, True], ids=["new-index", "same-index"])
def test_a_kill_at_any_system_call_leaves_a_loadable_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """Interrupts the k-th call of open, fsync, replace and rmtree during a save, for every k."""
    finished, k = False, 0
    while not finished:
        store = CheckpointStore(tmp_path / str(k), keep=2)
        for index in (1, 2, 3):
            store.save(index, tree(index))
        calls = 0

        def count(original: Any, k: int = k) -> Any:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == k + 1:
                    raise Killed
                return original(*args, **kwargs)

            return wrapped

        target = 3 if replaced else 4
        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "mkdir", "unlink"):
                patch.setattr(os, name, count(getattr(os, name)))
            patch.setattr(shutil, "rmtree", count(shutil.rmtree))
            try:
                store.save(target, tree(target + 10))
                finished = True
            except Killed:
                finished = False
        survivor = CheckpointStore(tmp_path / str(k), keep=2)
        loaded = survivor.load()
        assert loaded["index"] in ((3, 13) if replaced else (3, 14))
        assert_holds(loaded, loaded["index"])
        survivor.save(target, tree(target + 10))
        assert_holds(survivor.load(), target + 10)
        assert len(os.listdir(survivor.folder)) == 2, "what the killed writer left behind is swept"
        k += 1
    assert k > 6, "the test must have interrupted at many places"


WRITER = """
import sys, torch
from nl_agents.training.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1], keep=2)
start = int(sys.argv[2])
for index in range(start, start + 10_000):
    store.save(index, {"index": index, "w": torch.full((20_000,), float(index))})
    print(index, flush=True)
"""


def test_sigkill_during_saves_always_leaves_the_last_reported_checkpoint(tmp_path: Path) -> None:
    root = Path(checkpoint.__file__).parents[2]
    last = -1
    for attempt in range(2):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(last + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.021 * (attempt + 1))
            os.kill(process.pid, signal.SIGKILL)
            reported = [int(line) for line in process.stdout if line.strip()]
        store = CheckpointStore(tmp_path)
        loaded = store.load()
        assert (loaded["w"] == loaded["index"]).all()
        assert loaded["index"] >= max(reported, default=last)
        last = loaded["index"]


@pytest.mark.parametrize("failing", ["fsync", "replace", "mkdir"])
@pytest.mark.parametrize(("code", "text"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file system")])
def test_a_refusing_system_is_reported_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, code: int, text: str
) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    store.save(1, tree(1))
    store.save(2, tree(2))
    before = files_below(tmp_path)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refuse)
        with pytest.raises(
            CheckpointError, match=rf"cannot write checkpoint 3 .*{text}.*; checkpoints kept: 1, 2; make"
        ):
            store.save(3, tree(3))
    assert files_below(tmp_path) == before
    store.save(3, tree(3))
    assert_holds(store.load(), 3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def onto_full(path: Path, data: bytes) -> None:
        original(Path("/dev/full"), data)

    original = checkpoint_format.write_durably
    monkeypatch.setattr(checkpoint, "write_durably", onto_full)
    with pytest.raises(CheckpointError, match=r"No space left on device; no earlier checkpoint exists"):
        CheckpointStore(tmp_path).save(1, tree(1))
    with pytest.raises(CheckpointError, match="No space left on device; what was there before is untouched"):
        save_file(tmp_path / "x", tree(1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_reported(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, tree(1))
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(CheckpointError, match="Permission denied"):
            store.save(2, tree(2))
        assert_holds(store.load(), 1)
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("name", ["meta.json", "tree.json", "state.safetensors"])
def test_every_flipped_byte_is_found(tmp_path: Path, name: str) -> None:
    store = CheckpointStore(tmp_path)
    path = store.save(1, tree(1)) / name
    data = path.read_bytes()
    for position in range(0, len(data), 1 if name == "meta.json" else 17):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"corrupt|foreign|version"):
            store.load(1)
    path.write_bytes(data)
    assert_holds(store.load(1), 1)


@pytest.mark.parametrize("name", ["meta.json", "tree.json", "state.safetensors"])
@pytest.mark.parametrize("damage", ["remove", "truncate", "empty"])
def test_a_damaged_newest_one_is_skipped_with_a_warning(tmp_path: Path, name: str, damage: str) -> None:
    store = CheckpointStore(tmp_path)
    good = store.save(1, tree(1))
    victim = store.save(2, tree(2)) / name
    if damage == "remove":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[: 20 if damage == "truncate" else 0])
    with pytest.warns(RuntimeWarning, match="skipping a damaged checkpoint"):
        assert store.latest() == good
    with pytest.warns(RuntimeWarning, match="skipping a damaged checkpoint"):
        assert_holds(store.load(), 1)
    with pytest.raises(CheckpointError, match="checkpoint-00000002"):
        store.load(2)


def test_other_versions_and_foreign_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_format, "VERSION", 99)
        store.save(1, tree(1))
    with pytest.raises(CheckpointError, match=r"has format version 99, this nl-agents reads 1.*\{'nl-agents': '"):
        store.load(1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_format, "FORMAT", "their checkpoint")
        store.save(2, tree(2))
    with pytest.raises(CheckpointError, match="is foreign: expected format 'nl-agents checkpoint', found 'their"):
        store.load(2)
    (tmp_path / "checkpoint-00000003").mkdir()
    with pytest.raises(CheckpointError, match=r"is foreign or half-written: expected meta\.json in it, found \[\]"):
        store.load(3)


def test_missing_ones_are_named(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no intact checkpoint in .*nowhere"):
        store.load()
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*checkpoint-00000007"):
        store.load(7)


def test_unreadable_is_an_error_not_a_reason_to_go_back_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, tree(1))
    newest = store.save(2, tree(2))
    original = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.parent == newest:
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CheckpointError, match="Permission denied; mend the permissions"):
        store.latest()


def test_unsaveable_trees_leave_the_store_alone(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, tree(1))
    before = files_below(tmp_path)
    with pytest.raises(TypeError, match=r"cannot save a builtins\.set at 'oops'"):
        store.save(2, {"oops": {1}})
    assert files_below(tmp_path) == before


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep must be >= 1, got 0"):
        CheckpointStore(tmp_path, keep=0)
    with pytest.raises(ValueError, match="index must be >= 0, got -1"):
        CheckpointStore(tmp_path).save(-1, {})


def test_single_file_round_trip_and_suffix(tmp_path: Path) -> None:
    path = save_file(tmp_path / "deep" / "agent", tree(5))
    assert path == tmp_path / "deep" / "agent.zip"
    assert_holds(load_file(tmp_path / "deep" / "agent"), 5)
    assert_holds(load_file(path), 5)
    assert save_file(tmp_path / "agent.model", tree(1)).name == "agent.model"
    assert_holds(load_file(tmp_path / "agent.model"), 1)
    again = save_file(tmp_path / "again", tree(5))
    assert again.read_bytes() == path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again.zip", "agent.model", "deep"]


def test_single_file_with_any_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    path = save_file(tmp_path / "x", tree(2))
    data, refused = path.read_bytes(), 0
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            assert_holds(load_file(path), 2)
        except CheckpointError:
            refused += 1
    assert refused > len(data) // 6


def test_single_files_of_others_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "sb3.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("policy.pth", b"...")
    with pytest.raises(CheckpointError, match=r"foreign or half-written: expected meta\.json in it, found \['policy"):
        load_file(foreign)
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(CheckpointError, match="cannot be read as a zip"):
        load_file(tmp_path / "text.zip")
    with pytest.raises(CheckpointError, match=r"there is no file .*missing\.zip; check the path"):
        load_file(tmp_path / "missing")


def test_a_failed_single_file_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_file(tmp_path / "x", tree(1))

    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointError, match=r"cannot write .*x\.zip: .*No space left"):
        save_file(path, tree(2))
    assert_holds(load_file(path), 1)
    assert os.listdir(tmp_path) == ["x.zip"]
