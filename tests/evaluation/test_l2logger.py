"""Lives in l2logger's format: what its own checks ask for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from nl_agents.errors import RunFolderError
from nl_agents.evaluation.l2logger import write_l2logger
from nl_agents.evaluation.lifetime import Lifetime
from nl_agents.types import Episode

LOG = [(0, "a_1"), (100, "b"), (200, "a_1")]
LIFE = Lifetime.from_episodes(
    [
        Episode(40, 0, "a_1", 1.0, 40, 0),
        Episode(104, 1, "b", 2.0, 30, 44),
        Episode(110, 0, "a_1", 3.0, 60, 41),  # straddles the switch at 100
        Episode(230, 0, "a_1", 4.0, 25, 180),
        Episode(199, 1, "b", 5.0, 60, 110),
    ],
    LOG,
    steps=250,
    num_envs=2,
)


def read(folder: Path) -> list[dict[str, str]]:
    logs = sorted(folder.glob("*/*/data-log.tsv"))
    return [row for log in logs for row in csv.DictReader(log.read_text().splitlines(), delimiter="\t")]


def test_a_life_becomes_a_log(tmp_path: Path) -> None:
    folder = write_l2logger(LIFE, tmp_path / "log", scenario="mine", task_params={"b": {"size": 3}})
    rows = read(folder)
    assert [(row["block_num"], row["task_name"], row["reward"]) for row in rows] == [
        ("0", "a-1", "1.0"), ("0", "a-1", "3.0"), ("1", "b", "2.0"), ("1", "b", "5.0"), ("2", "a-1", "4.0")
    ]  # fmt: skip
    assert [int(row["exp_num"]) for row in rows] == list(range(5))
    assert list(rows[0])[:5] == ["block_num", "exp_num", "worker_id", "block_type", "block_subtype"]
    assert list(rows[0])[5:9] == ["task_name", "task_params", "exp_status", "timestamp"]
    assert {(row["block_type"], row["block_subtype"], row["exp_status"]) for row in rows} == {
        ("train", "wake", "complete")
    }
    assert json.loads(rows[2]["task_params"]) == {"size": 3}
    info = json.loads((folder / "logger_info.json").read_text())
    assert info["metrics_columns"] == ["reward"] and set(info["metrics_columns"]) <= set(rows[0])
    assert json.loads((folder / "scenario_info.json").read_text())["scenario_type"] == "custom"
    assert sorted(path.parent.name for path in folder.glob("*/*/data-log.tsv")) == ["0-train", "1-train", "2-train"]


def test_a_log_is_reproducible_and_never_written_over(tmp_path: Path) -> None:
    first, second = (read(write_l2logger(LIFE, tmp_path / name)) for name in ("one", "two"))
    assert first == second
    with pytest.raises(RunFolderError, match="is not empty"):
        write_l2logger(LIFE, tmp_path / "one")
