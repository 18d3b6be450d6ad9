"""The benchmark of cores: ratios within rounds, tables, a quick run of everybody."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.core_contestants import OPPONENTS, Sequence, Size, _step_loop
from benchmarks.core_speed import REFERENCE, Options, Row, main, tables
from benchmarks.tables import DRAWN_BY


def _row(name: str, learn: list[float], act: float, size: Size = REFERENCE, state: int | None = 256) -> Row:
    return Row(name, size.streams, size.width, state, learn, [act] * len(learn))


def _record(rows: list[Row]) -> dict[str, Any]:
    return {
        "rows": [asdict(row) for row in rows],
        "options": {"steps": 128, "threads": 1},
        "machine": {"cpu": "Some CPU", "cores": 2, "gpu": None},
        "versions": {"torch": "2.0"},
        "commit": "0123456789abcdef",
        "uncommitted_changes": False,
    }


def test_a_ratio_is_the_median_of_ratios_within_a_round() -> None:
    mine, theirs = _row("hope", [10.0, 40.0, 10.0], 1.0), _row("nn.GRU", [20.0, 80.0, 40.0], 2.0)
    assert mine.ratio(theirs, "learn") == 0.5  # the slow second round meets both
    assert mine.ratio(theirs, "act") == 0.5


def test_tables_show_the_reference_size_in_full_and_a_ratio_for_all() -> None:
    small = Size(8, 64)
    rows = [
        _row("nn.GRU", [4.0], 0.1, small),
        _row("nn.LSTM", [4.0], 0.1, small),
        _row("LSTM step loop", [4.0], 0.1, small),
        _row("hope", [8.0], 0.1, small),
        _row("nn.GRU", [20.0], 0.2),
        _row("nn.LSTM", [10.0], 0.25),
        _row("LSTM step loop", [40.0], 0.2),
        _row("hope", [15.0], 0.5, state=6945),
    ]
    text = tables(_record(rows))
    assert "T = 128, 16 streams, width 128." in text
    assert "| hope | 15.0 | 0.75 | 1.50 | 0.38 | 0.50 | 2.00 | 6,945 |" in text
    assert "| core | 8 × 64 | 16 × 128 |" in text
    assert "| hope | 2.00 | 0.75 |" in text
    assert text.endswith("Some CPU, 2 cores, 1 thread; torch 2.0; commit 0123456789.")
    assert DRAWN_BY["cores_"](_record(rows)) == text


def test_a_quick_run_writes_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cores.json"
    threads = torch.get_num_threads()
    main(Options(cores=("hope:key_size=4,heads=2", "gru"), streams=(2,), widths=(8,), quick=True, out=out))
    torch.set_num_threads(threads)
    assert "hope:key_size=4,heads=2" in capsys.readouterr().out
    record = json.loads(out.read_text())
    names = [row["name"] for row in record["rows"]]
    assert [name for name in names if name != "titans-pytorch"] == [*OPPONENTS[:3], "hope:key_size=4,heads=2", "gru"]
    assert all(row["learn"][0] > 0 and row["act"][0] > 0 for row in record["rows"])


def test_the_step_loop_forgets_at_episode_starts() -> None:
    """No gradient passes from what comes after an episode's start to what came before."""
    x, gradient = torch.randn(6, 2, 4, requires_grad=True), torch.zeros(6, 2, 4)
    gradient[4:] = 1.0
    is_first = torch.zeros(6, 2, dtype=torch.bool)
    is_first[3, 0] = True
    _step_loop(Size(2, 4), Sequence(x, gradient, is_first), "cpu").learn()
    assert x.grad is not None
    reached = x.grad.abs().sum(-1) > 0
    assert reached.T.tolist() == [[False] * 3 + [True] * 3, [True] * 6]
