"""Lives in float64 that differ by the order of sums: near each other at first, equal where nothing differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sb3_contrib")

from benchmarks import sb3_parting


def test_lives_part_by_rounding_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    sb3_parting.main(["--seed", "3", "--steps", "768", "--result", str(path)])
    record = json.loads(path.read_text("utf-8"))
    assert len(record["weights_apart"]) == 3 and record["weights_apart"][0] == 0.0
    assert 0.0 < record["weights_apart"][2] < 1e-13 and record["first_other_episode_ends_at"] is None
    make = sb3_parting.make_double
    monkeypatch.setattr(sb3_parting, "make_double", lambda entrant, seed, steps: make("stock-lstm", seed, steps))
    assert sb3_parting.lives(3, 768)["weights_apart"] == [0.0, 0.0, 0.0]
