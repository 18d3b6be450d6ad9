"""SAC with memory beside SAC without: one record a run, runs that are there are left out, a table of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("sb3_contrib")

from benchmarks import sb3_sac


def test_a_run_is_kept_once_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sb3_sac, "EVERY", 60)
    monkeypatch.setattr(sb3_sac, "EVALUATED", 1)
    monkeypatch.setitem(sb3_sac.SETTING, "learning_starts", 50)
    entrants = ("recurrent-sac", "sac-windows")
    words = ["--seeds", "0", "--steps", "120", "--results", str(tmp_path), "--entrants", *entrants]
    for _ in range(2):
        sb3_sac.main(words)
    assert capsys.readouterr().out.count("seed 0") == len(entrants), "the second call finds all records"
    for entrant in entrants:
        record = json.loads((tmp_path / f"{entrant}-0.json").read_text("utf-8"))
        assert len(record["curve"]) == 2 and record["updates"] > 0 and max(record["curve"]) < 0
    sb3_sac.main([*words, "--report"])
    assert capsys.readouterr().out.count("| 1 |") == len(entrants)


@pytest.mark.slow
def test_memory_makes_up_for_the_velocity_that_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """At equal steps and updates; SAC without memory cannot do what the benchmark's table shows either."""
    torch.set_num_threads(1)
    last = {entrant: sb3_sac.run(entrant, 0, sb3_sac.STEPS)["curve"][-1] for entrant in ("recurrent-sac", "sac")}
    assert last["recurrent-sac"] > last["sac"] + 300, last
