"""Lives of one task alone: how long a preset gives a task, when it is learnt, records kept and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import alone
from benchmarks.alone import LIVED, Options, block, learnt_at, main, share, table, tasks_of
from benchmarks.tables import draw
from nl_agents import envs
from nl_agents.evaluation.reference import Levels, load_reference
from nl_agents.tasks import Blocks, GeometricHidden, PerEpisode, Preset


def test_the_share_of_a_task_is_what_the_preset_spends_on_it() -> None:
    blocks = Preset("", 100, ("a", "b"), Blocks([(0, 30), (1, 20), (0, 10)], cycles=1))
    assert (share(blocks, 0), share(blocks, 1)) == (80, 20), "the last block goes on to the end of the life"
    assert (block(blocks, 0), block(blocks, 1)) == ("30", "20")
    short = Preset("", 40, ("a", "b"), Blocks([(0, 30), (1, 20)]))
    assert (share(short, 0), share(short, 1)) == (30, 10)
    drawn = Preset("", 100, ("a", "b"), GeometricHidden(25))
    assert share(drawn, 1) == 50 and block(drawn, 1) == "25 on average"
    counted = Preset("", 100, ("a", "b"), PerEpisode(Blocks([(0, 7), (1, 7)])))
    assert share(counted, 0) == 50 and block(counted, 0) == "7 episodes"


@pytest.mark.parametrize("suite", LIVED)
def test_every_task_that_is_lived_has_two_levels(suite: str) -> None:
    preset = envs.SUITES[suite].presets[envs.SUITES[suite].default_preset]
    levels, lived = load_reference(suite), list(tasks_of(suite))
    assert lived and {task for task, _ in lived} == {LIVED[suite].like(task) for task in preset.tasks}
    for task, place in lived:
        assert levels[task].expert > levels[task].random and 0 < share(preset, place) <= preset.steps
    assert set(LIVED) == set(envs.SUITES)


def test_learnt_is_the_first_twentieth_nine_tenths_of_the_way() -> None:
    levels = Levels(-100.0, 100.0)
    curve = [None, -100.0, 79.0, *[-90.0] * 7, 80.0, *[100.0] * 9]
    assert learnt_at({"curve_of_20": curve, "steps": 2000}, levels) == 1100
    assert learnt_at({"curve_of_20": [None] * 20, "steps": 2000}, levels) is None
    assert learnt_at({"curve_of_20": [79.9] * 20, "steps": 2000}, levels) is None


def test_a_quick_run_keeps_each_life_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(suites=("needle",), seeds=(7001, 7002), results=tmp_path, quick=True)
    main(options)
    shown = capsys.readouterr().out
    made = {path.name: path.read_text() for path in (tmp_path / "needle").iterdir()}
    assert set(made) == {f"{task}-7001.json" for task in ("within-3", "across-1", "within-10", "across-3")}
    record = json.loads(made["across-3-7001.json"])
    assert record["agent"] == "rl2" and 4096 <= record["steps"] < 3 * 2048
    assert len(record["curve_of_20"]) == 20 and "| needle | across-3 | rl2 | **not** |" in shown
    main(options)
    assert "seed 7001:" not in capsys.readouterr().out, "nothing was lived again"


def test_the_table_has_a_row_a_task(tmp_path: Path) -> None:
    for seed, curve in ((7001, [0.25, 0.95, 0.75]), (7002, [0.25, 0.25, 0.75])):
        path = tmp_path / "alone" / "needle" / f"within-3-{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"agent": "recurrent-ppo", "curve_of_20": curve, "steps": 100_002, "commit": "c"}
        path.write_text(json.dumps(record))
    lines = draw("alone", tmp_path).splitlines()
    assert lines[2:] == [
        "| needle | within-3 | recurrent-ppo | 66,668 / **not** | 0.75 / 0.75 | 0.25 | 1 | 100,000 | 100,002 |",
        "",
        "16 streams; commits c.",
    ]
    with pytest.raises(ValueError, match=r"run python -m benchmarks\.alone"):
        table(tmp_path / "empty")
    assert alone.RESULTS.name == "alone"
