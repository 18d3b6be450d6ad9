"""Lives of one task alone: how long a preset gives a task, when it is learnt, records kept and drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import alone
from benchmarks.alone import LIVED, Options, block, learnt_at, main, share, table, tasks_of
from benchmarks.tables import draw
from nl_agents import envs
from nl_agents.errors import ConfigError
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
    for seed, curve in ((9, [0.25, 0.95, 0.75]), (10, [0.25, 0.25, 0.75])):
        path = tmp_path / "alone" / "needle" / f"within-3-{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"agent": "recurrent-ppo", "curve_of_20": curve, "steps": 100_002, "seed": seed, "commit": "c"}
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


def test_other_options_are_lived_and_kept_apart(tmp_path: Path) -> None:
    options = Options(suites=("permute-long",), seeds=(7001,), results=tmp_path, steps=2048, set=("ppo.num_epochs=1",))
    main(options)
    (file,) = (tmp_path / "permute-long").iterdir()
    record = json.loads(file.read_text())
    assert record["options"] == {"ppo.num_steps": 64, "ppo.num_epochs": 1} and record["steps"] < 4096
    with pytest.raises(
        ConfigError, match=r"order-000-7001\.json was lived with .*; delete it, or give other --results"
    ):
        main(replace(options, set=()))
    for given in ({"set": ("ppo.num_epochs=1",)}, {"steps": 10}):
        with pytest.raises(ConfigError, match="do not belong into the table; give a folder by --results"):
            main(Options(**given))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"expects area\.name=value.*got 'ppo\.num_epochs'"):
        main(Options(set=("ppo.num_epochs",), results=tmp_path))
    with pytest.raises(ConfigError, match=r"no option 'ppo\.epochs'"):
        main(Options(suites=("needle",), seeds=(7001,), set=("ppo.epochs=2",), results=tmp_path))
    assert alone.tried(Options(set=("memory.core=gru", "ppo.entropy=0.1"), quick=True)) == {
        "memory.core": "gru",
        "ppo.entropy": 0.1,
    }


@pytest.mark.parametrize("suite", LIVED)
def test_the_published_lives_are_of_the_presets_as_they_are(suite: str) -> None:
    found = envs.SUITES[suite]
    for task, place in tasks_of(suite):
        for seed in Options().seeds:
            path = alone.RESULTS / suite / f"{task}-{seed}.json"
            assert alone.is_kept(path, found.recommended), f"{path.name}: run python -m benchmarks.alone"
            life, budget = json.loads(path.read_text()), share(found.presets[found.default_preset], place)
            assert budget <= life["steps"] < budget + 5000, f"{path.name} is of another length; live it again"
