"""The table and the record of the speed benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.contestants import CONTESTANTS, DEFAULT
from benchmarks.opponents.settings import Settings
from benchmarks.speed import AGAINST, Options, Row, main, provenance, table
from benchmarks.windows import Window


def row(name: str, *speeds: float) -> Row:
    return Row(name, 16, 1234, [Window(int(speed), 1.0, 0.25) for speed in speeds])


def test_a_ratio_is_the_median_of_ratios_within_a_round() -> None:
    # The machine halves its speed in round 2: the ratio of medians would be 10 / 1, the ratio is not moved.
    ours, theirs = row("hope-core", 1000, 500, 1000), row("stock", 100, 50, 100)
    assert ours.ratio(theirs) == 10.0
    assert row("hope-core", 1000, 600, 800).ratio(theirs) == 10.0


def test_the_table_names_everybody_and_compares_only_with_who_ran() -> None:
    text = table([row("stock", 600, 500, 700), row("hope-core", 6000, 6000, 6000)], 50_000)
    assert "16 streams, 3 windows each after 50,000 steps of learning" in text
    head, _, stock, ours = (line for line in text.splitlines() if line.startswith("|"))
    assert "× (a)" in head
    assert "× (c)" not in head
    assert stock == "| (a) stock RecurrentPPO | 600 [500–700] | 1.00 | 1,234 | 0.25 |"
    assert "| **hope core** | 6,000 [6,000–6,000] | 10.00 |" in ours
    assert "an LSTM each for actor and critic" in text


def test_every_name_in_use_is_known() -> None:
    assert set(DEFAULT) <= set(CONTESTANTS)
    assert set(AGAINST) <= set(CONTESTANTS)
    letters = [who.letter for who in CONTESTANTS.values() if who.letter]
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("name", ["hand-lstm", "hand-mlp"])
def test_opponents_count_their_parameters(name: str) -> None:
    prepared = CONTESTANTS[name].prepare("cartpole", Settings(num_envs=4, num_steps=8, width=8))
    lstm = 4 * 8 * (8 + 8) + 2 * 4 * 8
    layer = 8 * 8 + 8
    assert prepared.parameters == (4 * 8 + 8) + (lstm if name == "hand-lstm" else layer) + (8 * 3 + 3)


def test_a_quick_measurement_writes_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "speed.json"
    main(Options(contestants=("hand-mlp", "env"), streams=(2,), width=8, quick=True, out=out))
    assert "environment alone" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["options"]["contestants"] == ["hand-mlp", "env"]
    assert [entry["name"] for entry in record["rows"]] == ["hand-mlp", "env"]
    assert all(len(entry["windows"]) == 1 and entry["windows"][0]["steps"] > 0 for entry in record["rows"])


def test_the_record_says_where_it_was_made() -> None:
    record = provenance("cpu")
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["gpu"] is None
    assert record["versions"]["torch"].startswith("2.")
    assert record["commit"]


def test_an_unknown_contestant_is_refused() -> None:
    with pytest.raises(SystemExit, match="unknown contestants nobody: known are stock"):
        main(Options(contestants=("nobody",)))
