"""The speed benchmark of the Stable-Baselines3 plug-in runs every contestant with the same number of steps."""

from __future__ import annotations

import pytest

pytest.importorskip("sb3_contrib")

from benchmarks import sb3_speed


def test_it_runs_and_gives_ratios(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("WIDTH", 8), ("NUM_STEPS", 32), ("BATCH", 32), ("EPOCHS", 1)):
        monkeypatch.setattr(sb3_speed, name, value)
    alone = tuple(one._replace(threads=1) for one in sb3_speed.CONTESTANTS)  # small operations on two cores mostly wait
    monkeypatch.setattr(sb3_speed, "CONTESTANTS", alone)
    ratios = sb3_speed.main(["--envs", "2", "--windows", "1", "--warm-steps", "16"])
    assert len(ratios) == 2 * len(sb3_speed.CONTESTANTS) and all(ratio > 0 for ratio in ratios.values())
    assert ratios["stock RecurrentPPO, LSTM, one memory"] == 1.0
    assert capsys.readouterr().out.count("x 1.00, 1.00") >= 2  # stock beside itself, in both groups
