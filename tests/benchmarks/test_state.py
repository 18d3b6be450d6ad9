"""The state benchmark: every form serves the same policy, the record says how, the table is drawn from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.state import Options, main
from benchmarks.state_tables import state_tables
from benchmarks.tables import draw
from tests.training.small import live

QUICK = Options(quick=True, codecs=("bf16", "int8", "low-rank:2", "low-rank:90"), without=("core.fast", "core.slow.0"))


def row(codec: str, returns: list[float], microseconds: list[float], **more: Any) -> dict[str, Any]:
    given = {"codec": codec, "without": [], "bytes_per_stream": 400, "error": 0.0, "bound": "0", "episodes": [1, 1]}
    return {**given, "returns": returns, "microseconds": microseconds, **more}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("results") / "state_cartpole-flip.json"
    main(replace(QUICK, out=out))
    made: dict[str, Any] = json.loads(out.read_text())
    assert draw("state_cartpole-flip", out.parent) == state_tables(made)
    return made


def test_the_smoke_run_measures_every_form_that_can_work(record: dict[str, Any]) -> None:
    forms = [(row["codec"], row["without"]) for row in record["rows"]]
    assert forms == [
        ("float32", []), ("bf16", []), ("int8", []), ("low-rank:2", []),
        ("float32", ["core.fast"]), ("float32", ["core.slow.0"]),
    ]  # fmt: skip
    sizes = [row["bytes_per_stream"] for row in record["rows"]]
    assert sizes[0] == 4 * record["state_floats"] and sizes[1] < 0.51 * sizes[0] and sizes[5] == sizes[0] > sizes[4]
    whole = record["rows"][0]
    assert whole["error"] == 0.0 and record["rows"][1]["error"] < 2**-8
    for found in record["rows"]:
        assert len(found["microseconds"]) == 1 and found["microseconds"][0] > 0
        assert len(found["returns"]) == 1 and found["returns"][0] > 0
    assert record["options"]["run"] is None and record["sequence"] == "cartpole-flip" and record["commit"]


def test_a_run_folder_is_measured_on_its_own_sequence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live(tmp_path / "run", agent="rl2", steps=100)
    main(Options(run=tmp_path / "run", quick=True, codecs=("int8", "low-rank:2"), out=tmp_path / "it.json"))
    printed = capsys.readouterr()
    assert "rl2 (LstmCore, 32 floats a stream) after run `run`, serving on `cartpole-flip:demo`" in printed.out
    assert "left out: low-rank needs a memory of matrices" in printed.err
    assert str(tmp_path) not in (tmp_path / "it.json").read_text()


def test_the_table_compares_lives_of_equal_seed_and_turns_of_equal_place() -> None:
    made = {
        "rows": [
            row("float32", [100.0, 50.0], [10.0, 20.0, 30.0]),
            row("int8", [90.0, 50.0], [20.0, 20.0, 60.0], bytes_per_stream=100, error=0.01),
            row("float32", [60.0, float("nan")], [10.0, 20.0, 30.0], without=["core.fast"]),
            row("bf16", [float("nan")] * 2, [10.0, 20.0, 30.0]),
        ],
        "options": {"run": None, "steps": 5, "life_steps": 6, "seeds": [0, 1], "streams": 2, "threads": 1, "turns": 3},
        "machine": {"cores": 2, "cpu": "a processor"}, "agent": "hope", "core": "HopeCore", "state_floats": 100,
        "sequence": "cartpole-flip", "load_average": None, "commit": "0" * 40, "uncommitted_changes": True,
    }  # fmt: skip
    lines = state_tables(made).splitlines()
    assert lines[3] == "| int8 | 100 | 25% | 1.0e-02 | 20 | 2.00 | 5.0 [0.0–10.0] |"
    assert lines[4] == "| float32, without `core.fast` | 400 | 100% | – | 20 | 1.00 | 40.0 [40.0–40.0] |"
    assert lines[5].endswith("| no episode ended |")
    assert "float32 75.0" in lines[-1] and "with uncommitted changes" in lines[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(QUICK, codecs=("int4",)), "unknown state codec 'int4': did you mean 'int8'"),
        (replace(QUICK, without=("core.fst",)), "unknown level 'core.fst': did you mean 'core.fast'"),
        (replace(QUICK, agent="hop"), "did you mean 'hope'"),
        (Options(seeds=()), "at least one seed"),
        (Options(run=Path("nowhere")), "there is no run folder nowhere"),
    ],
)
def test_what_cannot_be_measured_is_told(options: Options, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        main(options)
