"""The benchmark of task sequences: ratios within rounds, its table, a quick run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.env_speed import Options, Row, bare_stepper, main, make, physics, tables
from nl_agents.envs.cartpole_physics import CartPoleBackend


def test_the_table_takes_ratios_within_rounds() -> None:
    rows = [
        Row("cartpole-flip", 16, "bare", [20.0, 80.0, 20.0]),
        Row("cartpole-flip", 16, "sequence", [22.0, 88.0, 30.0]),  # the slow second round meets both
        Row("cartpole-flip", 16, "gymnasium", [44.0, 176.0, 44.0]),
    ]
    record = {
        "rows": [asdict(row) for row in rows],
        "machine": {"cpu": "Some CPU", "cores": 2},
        "versions": {"python": "3", "gymnasium": "1", "envpool": "1"},
        "commit": "0123456789abcdef",
        "uncommitted_changes": False,
    }
    assert "| cartpole-flip | 16 | 30 | 20 | 1.10 | 0.50 |" in tables(record)


def test_the_bare_loop_lives_as_the_sequence_does() -> None:
    sequence = make("control-obs-shift", 3)
    inside = physics(sequence.backend)
    assert isinstance(inside, CartPoleBackend)
    step = bare_stepper(inside)
    for _ in range(300):
        step(np.ones(3, np.int64))
    assert (inside.get_state()["episodes"] > 20).all(), "what ended began anew"


def test_a_quick_run_writes_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(Options(suites=("cartpole-flip", "control-drift"), streams=(2,), quick=True, out=tmp_path / "record.json"))
    record = json.loads((tmp_path / "record.json").read_text("utf-8"))
    assert [row["name"] for row in record["rows"]] == ["bare", "sequence", "gymnasium", "bare", "sequence"]
    assert all(len(row["micros"]) == 1 and row["micros"][0] > 0 for row in record["rows"])
    assert "| control-drift | 2 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="unknown suites cartpole"):
        main(Options(suites=("cartpole",)))
