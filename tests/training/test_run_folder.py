"""The run folder: exact resume of its records, its lock, and every way in which a folder can be the wrong one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nl_agents.errors import RunFolderError
from nl_agents.training import records, run_folder
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
    os.close(first._lock or 0)  # what the system does when a process is killed: no flush, the lock is free
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
    def other_process() -> str:
        command = [sys.executable, "-c", OTHER, str(tmp_path)]
        root = Path(run_folder.__file__).parents[2]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout

    with RunFolder(tmp_path).create(CONFIG) as run:
        with pytest.raises(RunFolderError, match="is already open here"):
            run.create(CONFIG)
        with pytest.raises(RunFolderError, match="is in use by another process"):
            RunFolder(tmp_path).open()
        assert "is in use by another process" in other_process()
        assert read_config(tmp_path)["agent"] == "hope", "readers need no lock"
    assert other_process() == "opened\n"


@pytest.mark.parametrize("failing", ["open", "replace"])
def test_a_read_only_place_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refuse)
        with pytest.raises(RunFolderError, match=r"cannot write .*Read-only file system; .*choose another --run-dir"):
            RunFolder(tmp_path / "x").create(CONFIG)
    (tmp_path / "x" / ".config.json.half-written").unlink(missing_ok=True)
    RunFolder(tmp_path / "x").create(CONFIG).close()


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
