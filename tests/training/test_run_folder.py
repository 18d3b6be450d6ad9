"""The run folder: exact resume of its records, its lock, and every way in which a folder can be the wrong one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nl_agents.errors import RunFolderError
from nl_agents.training import records, run_folder
from nl_agents.training.logging import MetricLogger
from nl_agents.training.records import CsvRecord, JsonRecord
from nl_agents.training.run_folder import RunFolder, read_config

CONFIG = {"agent": "hope", "sequence": "cartpole-flip", "steps": 10, "seed": 0, "config": {"lr": 1e-3}}


def episode(step: int) -> tuple[int, int, str, float, int, int]:
    return step, step % 4, "pole, long", step / 7, 3, step - 3


def live(run: RunFolder, start: int, stop: int) -> None:
    for step in range(start, stop):
        run.episodes.write_rows([episode(step)])
        run.decisions.write_rows([{"id": step, "factor": "rate", "value": step / 3}])
        if step % 5 == 0:
            run.task_log.write_rows([(step, "a")])
            run.effective_log.write_rows([(step, 0, "a")])
            run.levels.write_rows([(step, "core.slow", 16, 3e-4)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_new_run_has_its_config_and_headed_records(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "runs" / "x").create(CONFIG) as run:
        assert run.config == {"format": "nl-agents run 1", **CONFIG}
        assert json.loads((run.path / "config.json").read_text()) == run.config
        run.flush()
        assert (run.path / "episodes.csv").read_text() == "step,stream,task,return,length,begin\n"
        assert (run.path / "task_log.csv").read_text() == "step,task\n"
        assert (run.path / "effective_log.csv").read_text() == "step,stream,task\n"
        assert (run.path / "levels.csv").read_text() == "step,level,period,rate\n"
        run.checkpoints.save(0, {"positions": run.positions()})
        assert (run.path / "checkpoints" / "checkpoint-00000000").is_dir()


def test_rows_read_back_exactly(tmp_path: Path) -> None:
    with RunFolder(tmp_path).create(CONFIG) as run:
        run.episodes.write_rows([(3, 1, 'a "quoted", task', 0.1 + 0.2, 2, 1)])
        run.decisions.write_rows([{"id": 1, "value": 1 / 3}])
        run.flush()
        assert (tmp_path / "episodes.csv").read_text().splitlines()[
            1
        ] == '3,1,"a ""quoted"", task",0.30000000000000004,2,1'
        assert json.loads((tmp_path / "decisions.jsonl").read_text()) == {"id": 1, "value": 1 / 3}


@pytest.mark.parametrize("flushed", [True, False])
def test_an_interrupted_life_leaves_the_bytes_of_an_uninterrupted_one(tmp_path: Path, flushed: bool) -> None:
    with RunFolder(tmp_path / "whole").create(CONFIG) as run:
        live(run, 0, 30)
    first = RunFolder(tmp_path / "cut").create(CONFIG)
    live(first, 0, 12)
    positions = first.positions()
    live(first, 12, 19)  # lost: no checkpoint follows
    if flushed:
        first.flush()
        with open(tmp_path / "cut" / "episodes.csv", "ab") as file:
            file.write(b"19,3,po")  # a line that the kill cut short
    run_folder._OPEN_HERE.clear()  # as after a kill: nothing is flushed, the lock is free
    with RunFolder(tmp_path / "cut").open() as resumed:
        resumed.rewind(positions)
        assert resumed.positions() == positions
        live(resumed, 12, 30)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_rewinding_to_nothing_starts_anew_with_the_header(tmp_path: Path) -> None:
    with RunFolder(tmp_path).create(CONFIG) as run:
        header = run.positions()
        live(run, 0, 5)
        run.rewind({})
        assert run.positions() == header


def test_position_counts_what_is_still_buffered(tmp_path: Path) -> None:
    record = CsvRecord(tmp_path / "x.csv", ("a", "b"))
    record.write_rows([(1, 2.5)])
    assert record.position() == len("a,b\n1,2.5\n")
    record.flush()
    assert (tmp_path / "x.csv").stat().st_size == record.position()
    again = CsvRecord(tmp_path / "x.csv", ("a", "b"))
    assert again.position() == record.position()


def test_a_large_record_is_written_unasked(tmp_path: Path) -> None:
    record = JsonRecord(tmp_path / "x.jsonl")
    record.write_rows({"text": "y" * 1000} for _ in range(100))
    assert (tmp_path / "x.jsonl").stat().st_size > 60_000


def test_a_full_disk_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = CsvRecord(tmp_path / "x.csv", ("a",))
    record.write_rows([(1,)])
    record.flush()

    def half(path: Path, position: int, data: bytes) -> None:
        original(path, position, data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    original = records.append_at
    record.write_rows([(22,), (33,)])
    with monkeypatch.context() as patch:
        patch.setattr(records, "append_at", half)
        with pytest.raises(RunFolderError, match=r"x\.csv: .*No space left on device; rows already written are kept"):
            record.flush()
    record.flush()
    assert (tmp_path / "x.csv").read_text() == "a\n1\n22\n33\n"


def test_lost_rows_are_noticed(tmp_path: Path) -> None:
    with RunFolder(tmp_path).create(CONFIG) as run:
        live(run, 0, 5)
        positions = run.positions()
    (tmp_path / "episodes.csv").write_text("step,stream,task,return,length,begin\n")
    with (
        RunFolder(tmp_path).open() as run,
        pytest.raises(RunFolderError, match=r"episodes\.csv has 37 bytes, its check"),
    ):
        run.rewind(positions)


def test_rows_of_the_wrong_width_are_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path).create(CONFIG) as run:
        with pytest.raises(ValueError, match=r"task_log\.csv has the columns \('step', 'task'\), got a row of 3"):
            run.task_log.write_rows([(1, "a", 2)])
        with pytest.raises(TypeError, match="not JSON serializable"):
            run.decisions.write_rows([{"x": {1}}])


def test_a_folder_that_is_not_empty_is_refused_and_untouched(tmp_path: Path) -> None:
    RunFolder(tmp_path).create(CONFIG).close()
    before = contents(tmp_path)
    with pytest.raises(RunFolderError, match=r"is not empty: continue it with `nl-agents resume"):
        RunFolder(tmp_path).create(CONFIG)
    assert contents(tmp_path) == before


def test_overwrite_removes_our_files_and_no_others(tmp_path: Path) -> None:
    with RunFolder(tmp_path).create(CONFIG) as run:
        live(run, 0, 5)
        run.checkpoints.save(7, {})
    for name in ("notes.txt", "progress.csv", "events.out.tfevents.1.host"):
        (tmp_path / name).write_text("mine")
    with RunFolder(tmp_path).create({**CONFIG, "seed": 1}, overwrite=True) as run:
        assert run.config["seed"] == 1 and run.checkpoints.indices() == []
    assert sorted(contents(tmp_path)) == sorted(
        [".lock", "config.json", "decisions.jsonl", "notes.txt", *run_folder.COLUMNS]
    )
    assert (tmp_path / "episodes.csv").read_text().count("\n") == 1


def test_overwrite_spares_folders_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match=r"is not a run folder: it has no config\.json"):
        RunFolder(tmp_path).create(CONFIG, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json is not JSON"),
        ('{"format": "theirs"}', "not a run folder of ours: expected format 'nl-agents run 1', found 'theirs'"),
        ("[]", "found 'list'"),
    ],
)
def test_foreign_folders_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunFolderError, match=message):
        RunFolder(tmp_path).open()
    with pytest.raises(RunFolderError, match=message):
        read_config(tmp_path)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"there is no run folder .*nowhere; check the path, or start"):
        RunFolder(tmp_path / "nowhere").open()
    with pytest.raises(RunFolderError, match=r"it has no config\.json"):
        RunFolder(tmp_path).open()
    assert os.listdir(tmp_path) == []


OTHER = """
import sys
from nl_agents.errors import RunFolderError
from nl_agents.training.run_folder import RunFolder
try:
    RunFolder(sys.argv[1]).open().close()
except RunFolderError as error:
    print(error)
else:
    print("opened")
"""


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    with RunFolder(tmp_path).create(CONFIG) as run:
        with pytest.raises(RunFolderError, match="is already open in this process; close it first"):
            run.create(CONFIG)
        with pytest.raises(RunFolderError, match="is already open in this process; close it first"):
            RunFolder(tmp_path / ".." / tmp_path.name).open()
        command, root = [sys.executable, "-c", OTHER, str(tmp_path)], Path(run_folder.__file__).parents[2]
        said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
        assert "is in use by another process: wait for it" in said
        assert read_config(tmp_path)["agent"] == "hope", "readers need no lock"
    RunFolder(tmp_path).open().close()


@pytest.mark.parametrize("failing", ["open", "replace"])
def test_a_read_only_place_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refuse)
        with pytest.raises(RunFolderError, match=r"cannot write .*Read-only file system; .*choose another --run-dir"):
            RunFolder(tmp_path / "x").create(CONFIG)
    RunFolder(tmp_path / "x").create(CONFIG).close()


def test_an_unreadable_record_is_reported_and_the_lock_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder(tmp_path).create(CONFIG).close()

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(RunFolderError, match="Permission denied; nothing was lost"):
            RunFolder(tmp_path).open()
    RunFolder(tmp_path).open().close()


def whole_life(folder: Path) -> None:
    """A little trainer: lives 30 steps, a checkpoint every 4; starts or resumes, as it finds the folder."""
    if (folder / "config.json").exists():
        run = RunFolder(folder, keep=2).open()
    else:
        run = RunFolder(folder, keep=2).create(CONFIG)
    metrics = MetricLogger(folder, tensorboard=False)
    rng, start = np.random.default_rng(0), 0
    if run.checkpoints.latest() is None:
        run.rewind({})
        metrics.rewind({"rows": 0, "columns": 0})
    else:
        saved = run.checkpoints.load()
        run.rewind(saved["records"])
        metrics.rewind(saved["metrics"])
        rng.bit_generator.state, start = saved["rng"], saved["step"]
    for step in range(start, 30):
        if step % 4 == 0 and step > start:
            state = {"records": run.positions(), "metrics": metrics.positions(), "step": step}
            run.checkpoints.save(step // 4, {**state, "rng": rng.bit_generator.state})
        live(run, step, step + 1)
        run.episodes.write_rows([(step, 0, "drawn", float(rng.random()), 1, step)])
        metrics.record("loss/value", float(rng.random()))
        metrics.record(f"late/column_{step // 8}", step)
        metrics.dump(step)
        run.flush()
    metrics.close()
    run.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_life_killed_again_and_again_leaves_the_bytes_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """Children of this process live the life and are killed by SIGKILL at a later and later system call."""
    whole_life(tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    for first_kill in (1, 5, 12, 29):
        folder, deaths, allowed = tmp_path / f"killed-{first_kill}", 0, first_kill
        while die_in_child(folder, allowed):
            deaths += 1
            allowed += 11
        assert deaths >= 2
        assert contents(folder) == expected


def die_in_child(folder: Path, allowed: int) -> bool:
    """Runs ``whole_life`` in a child that is killed at its ``allowed``-th fsync or replace; True if it was."""
    child = os.fork()
    if child == 0:
        calls = 0

        def deadly(original: Any) -> Any:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls >= allowed:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return wrapped

        os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)
        code = 1
        try:
            whole_life(folder)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the life raised an error"
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_reported(tmp_path: Path) -> None:
    RunFolder(tmp_path / "x").create(CONFIG).close()
    (tmp_path / "x" / ".lock").unlink()
    (tmp_path / "x").chmod(0o555)
    try:
        with pytest.raises(RunFolderError, match="Permission denied"):
            RunFolder(tmp_path / "x").open()
    finally:
        (tmp_path / "x").chmod(0o755)


def test_a_file_in_the_way_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot write .*File exists"):
        RunFolder(tmp_path / "x").create(CONFIG)
    with pytest.raises(RunFolderError, match="there is no run folder"):
        RunFolder(tmp_path / "x").open()
