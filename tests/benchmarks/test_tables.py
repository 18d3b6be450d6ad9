"""Published tables are drawn from their records, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.opponents.settings import Settings
from benchmarks.speed import ROOT
from benchmarks.tables import Options, draw, fill, main, speed_tables


def record(**changes: Any) -> dict[str, Any]:
    window = {"steps": 1000, "seconds": 0.5, "other_load": 0.1}
    fast = {"steps": 9000, "seconds": 0.5, "other_load": 0.1}
    rows = [
        {"name": name, "streams": streams, "parameters": 7, "windows": [part, part]}
        for streams in (16, 256)
        for name, part in (("stock", window), ("hope-core", fast))
    ]
    return {
        "machine": {"cpu": "A Processor", "cores": 2, "system": "Linux", "gpu": None},
        "versions": {"python": "3.11", "torch": "2.13", "stable-baselines3": "2.9", "envpool": "1.2"},
        "commit": "0123456789abcdef",
        "uncommitted_changes": False,
        "options": {"warmup_steps": 50_000, "threads": 1},
        "rows": rows,
    } | changes


@pytest.fixture
def project(tmp_path: Path) -> Path:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "speed_cartpole.json").write_text(json.dumps(record()))
    page = "Before\n\n<!-- table: speed_cartpole -->\nold\n<!-- end of table -->\nAfter\n"
    (tmp_path / "README.md").write_text(page)
    return tmp_path


def test_a_speed_record_becomes_a_table_for_each_number_of_streams() -> None:
    text = speed_tables(record())
    assert text.count("| **hope core** | 18,000 [18,000–18,000] | 9.00 |") == 2
    assert "16 streams, 2 windows" in text
    assert "256 streams, 2 windows" in text
    assert text.endswith("A Processor, 2 cores, 1 thread each; python 3.11, torch 2.13, stable-baselines3 2.9, "
                         "envpool 1.2; commit 0123456789.")  # fmt: skip


def test_a_record_of_unfinished_code_or_of_a_gpu_says_so() -> None:
    machine = {"cpu": "A Processor", "cores": 2, "gpu": "A Graphics Card"}
    text = speed_tables(record(uncommitted_changes=True, machine=machine))
    assert "A Graphics Card, A Processor" in text
    assert text.endswith("with uncommitted changes.")


def test_a_page_is_filled_between_its_marks_only(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(Options(check=True), root=project)
    assert "old" in (project / "README.md").read_text(), "a check writes nothing"
    main(Options(), root=project)
    text = (project / "README.md").read_text()
    assert text.startswith("Before\n\n<!-- table: speed_cartpole -->\n16 streams")
    assert text.endswith("\n<!-- end of table -->\nAfter\n")
    assert "old" not in text
    main(Options(check=True), root=project)
    assert capsys.readouterr().out.splitlines() == [
        "differ: README.md",
        "rewritten: README.md",
        "all tables are up to date",
    ]


def test_a_table_without_a_record_is_an_error(project: Path) -> None:
    results = project / "benchmarks" / "results"
    with pytest.raises(ValueError, match=r"no record 'speed_doorkey' .* records there: speed_cartpole"):
        fill("<!-- table: speed_doorkey -->\n<!-- end of table -->", results)
    (results / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"nobody draws records named 'other': add its prefix"):
        draw("other", results)


def test_our_own_pages_show_their_records() -> None:
    main(Options(check=True), root=ROOT)


def test_minibatches_hold_whole_streams() -> None:
    sizes = Settings()
    assert sizes.num_envs % sizes.num_minibatches == 0
