"""progress.csv and TensorBoard over kills and resumes, and the finder of undocumented metric keys."""

from __future__ import annotations

import csv
import errno
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nl_agents.errors import RunFolderError
from nl_agents.training import logging, records
from nl_agents.training.logging import MetricLogger, recorded_keys, undocumented_keys


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "progress.csv", newline="") as file:
        return list(csv.DictReader(file))


def live(logger: MetricLogger, start: int, stop: int) -> None:
    """A life in which new figures appear at steps 2 and 5."""
    for step in range(start, stop):
        logger.record("loss/value", step / 3)
        if step >= 2:
            logger.record("loss/policy", torch.tensor(step / 7))
        if step >= 5:
            logger.record("level/slow/period", np.int64(16))
        logger.dump(step)


def test_values_read_back_and_late_columns_keep_old_rows(tmp_path: Path) -> None:
    logger = MetricLogger(tmp_path, tensorboard=False)
    live(logger, 0, 7)
    table = rows(tmp_path)
    assert list(table[0]) == ["time/steps", "loss/value", "loss/policy", "level/slow/period"]
    assert [row["time/steps"] for row in table] == [str(step) for step in range(7)]
    assert [float(row["loss/value"]) for row in table] == [step / 3 for step in range(7)]
    assert [row["loss/policy"] for row in table[:2]] == ["", ""]
    assert float(table[6]["loss/policy"]) == torch.tensor(6 / 7).item()
    assert [row["level/slow/period"] for row in table] == [""] * 5 + ["16"] * 2


@pytest.mark.parametrize("kept", [0, 1, 3, 6])
def test_an_interrupted_table_equals_an_uninterrupted_one(tmp_path: Path, kept: int) -> None:
    live(MetricLogger(tmp_path / "whole", tensorboard=False), 0, 9)
    first = MetricLogger(tmp_path / "cut", tensorboard=False)
    live(first, 0, kept)
    positions = first.positions()
    live(first, kept, 8)  # lost: no checkpoint follows; new columns may have come in between
    with open(tmp_path / "cut" / "progress.csv", "ab") as file:
        file.write(b"8,2.6")  # a line that the kill cut short
    resumed = MetricLogger(tmp_path / "cut", tensorboard=False)
    resumed.rewind(positions)
    assert resumed.positions() == positions
    live(resumed, kept, 9)
    assert (tmp_path / "cut" / "progress.csv").read_bytes() == (tmp_path / "whole" / "progress.csv").read_bytes()


def test_a_line_cut_short_is_dropped_even_without_rewind(tmp_path: Path) -> None:
    live(MetricLogger(tmp_path, tensorboard=False), 0, 3)
    with open(tmp_path / "progress.csv", "ab") as file:
        file.write(b"3,0.1")
    live(MetricLogger(tmp_path, tensorboard=False), 3, 5)
    assert [row["time/steps"] for row in rows(tmp_path)] == ["0", "1", "2", "3", "4"]


def test_a_lost_table_is_noticed(tmp_path: Path) -> None:
    logger = MetricLogger(tmp_path, tensorboard=False)
    live(logger, 0, 3)
    positions = logger.positions()
    (tmp_path / "progress.csv").unlink()
    with pytest.raises(RunFolderError, match="has 0 rows and 0 columns, its checkpoint expects 3 and 3"):
        MetricLogger(tmp_path, tensorboard=False).rewind(positions)


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    logger = MetricLogger(tmp_path, tensorboard=False)
    logger.record_all({"a/nan": math.nan, "a/inf": torch.tensor(math.inf), "a/none": None, "a/text": "x, y"})
    logger.dump(0)
    row = rows(tmp_path)[0]
    assert (row["a/nan"], row["a/inf"], row["a/none"], row["a/text"]) == ("nan", "inf", "", "x, y")


def test_excluded_figures_stay_out_of_the_table(tmp_path: Path) -> None:
    logger = MetricLogger(tmp_path, tensorboard=False)
    logger.record("a/b", 1, exclude="csv")
    logger.record("a/c", 2)
    logger.dump(0)
    assert list(rows(tmp_path)[0]) == ["time/steps", "a/c"]


def test_the_sb3_logger_may_write_too(tmp_path: Path) -> None:
    logger = MetricLogger(tmp_path, tensorboard=False)
    assert isinstance(logger.sb3, Logger)
    logger.sb3.record_mean("a/mean", 1.0)
    logger.sb3.record_mean("a/mean", 3.0)
    logger.dump(5)
    assert rows(tmp_path) == [{"time/steps": "5", "a/mean": "2.0"}]


def test_tensorboard_hides_the_lost_tail_after_a_resume(tmp_path: Path) -> None:
    first = MetricLogger(tmp_path)
    live(first, 0, 8)
    first.close()
    resumed = MetricLogger(tmp_path, purge_step=4)
    for step in range(4, 6):
        resumed.record("loss/value", -1.0)
        resumed.dump(step)
    resumed.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss/value")
    assert [event.step for event in events] == [0, 1, 2, 3, 4, 5]
    assert [event.value for event in events[4:]] == [-1.0, -1.0]


def test_a_full_disk_is_reported_and_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = MetricLogger(tmp_path, tensorboard=False)
    live(logger, 0, 3)

    def half(path: Path, position: int, data: bytes) -> None:
        original(path, position, data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    original = records.append_at
    with monkeypatch.context() as patch:
        patch.setattr(logging, "append_at", half)
        with pytest.raises(RunFolderError, match="No space left on device; rows already written are kept"):
            live(logger, 3, 4)
    live(logger, 3, 5)
    assert [row["time/steps"] for row in rows(tmp_path)] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("key", ["loss", "Loss/policy", "loss/", "loss policy/x", "/x"])
def test_malformed_keys_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="a metric key must be area/name in lower case, got"):
        MetricLogger(tmp_path, tensorboard=False).record(key, 1)


def test_recorded_keys_are_found_in_source() -> None:
    source = """
def f(logger, level, other: dict):
    logger.record("loss/policy", 1)
    logger.record(f"level/{level.name}/period", 2)
    logger.sb3.record_mean("time/act", 3)
    logger.record_all({"replay/size": 1, f"replay/{level}": 2, **other})
    logger.record(level, 1)
    record = logger.record
    record("rollout/episodes", 1)
    print("not/recorded")
"""
    assert recorded_keys(source) == {
        "loss/policy", "level/<level.name>/period", "time/act", "replay/size", "replay/<level>",
        "rollout/episodes",
    }  # fmt: skip


def test_undocumented_keys_are_listed() -> None:
    text = "| `loss/policy` | nats |\n`level/<level>/period`: units. Not quoted: loss/value, and `a/b.c` with a dot."
    keys: list[Any] = ["loss/policy", "loss/value", "level/core.memory.never/period", "level/<name>/period", "a/bxc"]
    assert undocumented_keys(keys, text) == ["a/bxc", "loss/value"]
    assert undocumented_keys(["a/b.c"], text) == []
    assert undocumented_keys(["level/x/y/period"], text) == ["level/x/y/period"]
