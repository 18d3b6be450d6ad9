"""The paid memory benchmark: every core one budget, runs kept and not made twice, a table of what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import memory_rl
from benchmarks.memory_rl import Options, main, make_task, table
from benchmarks.tables import draw
from nl_agents.errors import UnknownNameError


def test_a_quick_run_makes_each_record_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(tasks=("within-10",), cores=("gru", "feed-forward"), results=tmp_path, quick=True)
    main(options)
    made = {path.name: path.read_text() for path in (tmp_path / "within-10").iterdir()}
    assert set(made) == {"gru-0.json", "feed-forward-0.json"}
    record = json.loads(made["gru-0.json"])
    assert record["steps"] == 4096 and len(record["curve"]) == memory_rl.BINS and 0 <= record["final"] <= 1
    assert record["scope"] == "episode"
    capsys.readouterr()
    main(options)
    assert "seed 0:" not in capsys.readouterr().out, "nothing was made again"
    assert made == {path.name: path.read_text() for path in (tmp_path / "within-10").iterdir()}


def test_the_table_shows_mean_and_range_over_seeds(tmp_path: Path) -> None:
    for task, core, seed, final in (
        ("within-10", "gru", 0, 0.5),
        ("within-10", "gru", 1, 1.0),
        ("MemoryS7", "hope", 0, 0.75),
    ):
        path = tmp_path / "memory_rl" / task / f"{core}-{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"task": task, "core": core, "seed": seed, "steps": 10, "final": final, "commit": "c"})
        )
    lines = draw("rl_memory", tmp_path).splitlines()
    assert lines[0] == "| core | within-10 | MemoryS7 |"
    assert lines[2:4] == ["| hope | – | 0.75 |", "| gru | 0.75 [0.50, 1.00] | – |"]
    assert "over 1 to 2 seeds" in lines[-1]


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'MemoryS7'"):
        make_task("MemoryS8", 0)
    with pytest.raises(ValueError, match=r"run python -m benchmarks\.memory_rl"):
        table(tmp_path)
