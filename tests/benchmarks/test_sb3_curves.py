"""The curves of the plug-in: one record a run, runs that are there are left out, the report says what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sb3_contrib")

from benchmarks import sb3_curve_report, sb3_curves


def test_a_run_is_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sb3_curves, "EVALUATED", 2)
    monkeypatch.setattr(sb3_curves, "BIN", 256)
    words = ["--task", "cartpole-novel", "--seeds", "0", "--steps", "512", "--results", str(tmp_path)]
    for _ in range(2):
        sb3_curves.main([*words, "--entrants", "our-lstm", "our-lstm-as-torch-begins"])
    assert capsys.readouterr().out.count("seed 0") == 2, "the second call finds both records"
    record = json.loads((tmp_path / "cartpole-novel" / "our-lstm-0.json").read_text("utf-8"))
    assert len(record["curve"]) == 2 and record["final"]["mean"] > 1 and record["steps"] == 512


def kept(folder: Path, entrant: str, finals: list[float]) -> None:
    for seed, final in enumerate(finals):
        path = folder / "cartpole-novel" / f"{entrant}-{seed}.json"
        path.parent.mkdir(exist_ok=True)
        record = {"entrant": entrant, "seed": seed, "bin": 10, "curve": [1.0, final], "final": {"mean": final}}
        path.write_text(json.dumps(record), "utf-8")


def test_equivalence_needs_the_whole_interval(tmp_path: Path) -> None:
    kept(tmp_path, "stock-lstm", [500.0, 498.0, 499.0, 500.0, 500.0])
    kept(tmp_path, "our-lstm", [500.0, 500.0, 497.0, 500.0, 499.0])
    said = sb3_curve_report.report(tmp_path, tmp_path / "figures")
    assert "margin 25: equivalent" in said and "incomplete; runs missing: hope: 5, lstm: 5, gru: 5" in said
    assert (tmp_path / "figures" / "sb3_cartpole-novel.png").is_file()
    kept(tmp_path, "our-lstm", [500.0, 250.0])
    assert "margin 25: equivalence not shown" in sb3_curve_report.report(tmp_path, tmp_path / "figures")


def test_the_later_seeds_are_judged_by_the_whole_of_training(tmp_path: Path) -> None:
    kept(tmp_path, "stock-lstm", [500.0] * 5 + [401.0 + n for n in range(10)])
    kept(tmp_path, "our-lstm", [100.0] * 5 + [399.0 + n for n in range(10)])  # mean over training 1 less on later seeds
    said = sb3_curve_report.report(tmp_path, tmp_path / "figures")
    assert "margin 25: equivalence not shown" in said
    assert "mean over training, 10 and 10 of the 10 seeds from 5 on: -1.0" in said and "50: equivalent" in said


def test_the_last_look_takes_all_seeds_behind_the_first_five_and_a_wider_interval(tmp_path: Path) -> None:
    kept(tmp_path, "stock-lstm", [500.0] * 5 + [401.0 + n for n in range(30)])
    kept(tmp_path, "our-lstm", [100.0] * 5 + [399.0 + n for n in range(30)])
    groups = sb3_curve_report.read(tmp_path, "cartpole-novel")
    looks = (sb3_curve_report.LAST, 0.95), (sb3_curve_report.LAST, sb3_curve_report.LAST_LEVEL)
    first, last = (sb3_curve_report.later_verdict(groups, "our-lstm", *look) for look in looks)
    assert "30 and 30 of the 30 seeds from 5 on: -1.0 [-3.3, +1.3] (95.0%)" in first
    assert "30 and 30 of the 30 seeds from 5 on: -1.0 [-3.6, +1.6] (97.5%), margin 50: equivalent" in last


def test_no_spread_is_an_interval_of_no_width() -> None:
    assert sb3_curve_report.difference([500.0, 500.0], [500.0, 500.0]) == (0.0, 0.0, 0.0)
    apart, low, high = sb3_curve_report.difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    assert low < apart == 1.0 < high
