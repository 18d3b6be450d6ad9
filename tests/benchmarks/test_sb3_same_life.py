"""Two lives with the same sums are the same life, and a difference would be seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sb3_contrib")

from benchmarks import sb3_curves, sb3_same_life, sb3_tables
from benchmarks.speed import provenance


def test_stock_and_ours_live_one_life_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sb3_curves, "BIN", 256)
    path = tmp_path / "record.json"
    sb3_same_life.main(["--seeds", "3", "--steps", "1024", "--result", str(path)])
    record = json.loads(path.read_text("utf-8"))
    (life,) = record["lives"]
    assert life["rollouts"] == 4 and life["first_rollout_apart"] is None and life["episodes_equal"]
    assert life["curves"][0] == life["curves"][1] and len(life["curves"][0]) == 4 and life["episodes"][0] > 20
    judged = life["one_call"]
    assert judged["blocks"] == 4 * 20 * 2 and judged["judged"] == 9
    assert 0.0 < judged["largest_difference_of_gradients"] < 1e-12 and judged["largest_difference_of_reads"] < 1e-12
    said = sb3_tables.same_life_table(record)
    assert "| 3 | 4 | equal to the last bit |" in said and "+0.0 to +0.0 in 1 pairs" in said


def test_a_difference_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sb3_curves, "BIN", 256)
    make = sb3_same_life.make_models

    def other(seed: int, steps: int) -> Any:
        stock, ours = make(seed, steps)
        with torch.no_grad():
            next(ours.policy.parameters())[0, 0] += 1e-6
        return stock, ours

    monkeypatch.setattr(sb3_same_life, "make_models", other)
    life = sb3_same_life.lives(3, 512)
    assert life["first_rollout_apart"] == 0
    record = {"lives": [life], **provenance("cpu")}
    assert "differ from rollout 0 on" in sb3_tables.same_life_table(record)
