"""The memory benchmark: every core the same budget, nothing made twice, tables drawn from what is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.memory import Options, main
from benchmarks.probing import cell as cells
from benchmarks.probing.cell import Cell, Reader, ask, run_cell
from benchmarks.probing.cores import parse_core
from benchmarks.probing.plans import PLANS, QUICK_PLANS, QUICK_SETTINGS, Plan, Settings
from benchmarks.probing.records import best_rate, find, keep, memory_table
from benchmarks.speed import ROOT
from benchmarks.tables import draw
from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.memory import CORES
from nl_agents.probes import PROBES, make_probe

SMALL = Settings(width=16, updates=60, streams=16, rates=(1e-2,), eval_streams=64, eval_steps=10**6)


def without_clock(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "seconds"}


def files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.json"))}


def test_every_probe_has_a_plan() -> None:
    assert set(PLANS) == set(PROBES)
    for plan in (*PLANS.values(), *QUICK_PLANS.values()):
        assert plan.low <= plan.high == plan.evaluate[0] < plan.evaluate[-1]


@pytest.mark.parametrize("core", ["hope", "hope:chunk=1,heads=2", "gated-delta", "lstm:scope=never", "feed-forward"])
def test_a_cell_is_fixed_by_its_seed_and_runs_on_every_probe(core: str) -> None:
    for task in PROBES:
        cell = Cell(task, parse_core(core), 3, 1e-3)
        records = [run_cell(cell, QUICK_PLANS[task], QUICK_SETTINGS) for _ in range(2 if task == "needle" else 1)]
        assert without_clock(records[0]) == without_clock(records[-1])
        assert json.loads(json.dumps(records[0])) == json.loads(json.dumps(records[0]))
        assert [result["span"] for result in records[0]["results"]] == [8, 40]
        assert all(0 <= result["right"] <= result["asked"] for result in records[0]["results"])


def test_state_floats_are_the_core_s_own() -> None:
    sizes = {name: run_cell(Cell("parity", parse_core(name), 0, 1e-3), Plan(5, 8, (8,)), QUICK_SETTINGS)["state_floats"]
             for name in ("lstm", "lstm:width=24", "gru", "feed-forward")}  # fmt: skip
    assert sizes == {"lstm": 32, "lstm:width=24": 48, "gru": 16, "feed-forward": 0}


def test_a_memory_learns_what_a_memoryless_core_cannot() -> None:
    plan = Plan(5, 8, (8,))
    share = {}
    for core in ("lstm", "feed-forward"):
        (result,) = run_cell(
            Cell("repeat-previous", parse_core(core), 0, 2e-2), plan, replace(SMALL, updates=300, width=32)
        )["results"]
        share[core] = result["right"] / result["asked"]
    assert share["lstm"] > 0.6 and share["feed-forward"] == pytest.approx(0.25, abs=0.12)


def test_segments_do_not_change_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = make_probe("needle-across-episodes", episode_length=9)
    for name in ("hope", "lstm:scope=never"):
        torch.manual_seed(0)
        cell = Cell("needle-across-episodes", parse_core(name), 0, 1e-3)
        reader = Reader(cell.core, probe, 16)
        answers = []
        for segment in (1000, 7):
            monkeypatch.setattr(cells, "SEGMENT", segment)
            answers.append(ask(reader, probe, cell, 50, SMALL))
        assert answers[0] == answers[1]


def test_long_spans_get_fewer_streams() -> None:
    probe = make_probe("needle")
    cell = Cell("needle", parse_core("feed-forward"), 0, 1e-3)
    settings = replace(SMALL, eval_steps=4000)
    counts = [ask(Reader(cell.core, probe, 16), probe, cell, span, settings)["streams"] for span in (10, 100, 1000)]
    assert counts == [64, 40, 16]


def test_non_finite_updates_are_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = make_probe("parity")
    real = type(probe).batch

    def poisoned(self: Any, rng: np.random.Generator, streams: int, span: int) -> Any:
        batch = real(self, rng, streams, span)
        return batch._replace(x=np.full_like(batch.x, np.nan))

    monkeypatch.setattr(type(probe), "batch", poisoned)
    record = run_cell(Cell("parity", parse_core("lstm"), 0, 1e-3, is_trial=True), Plan(5, 8, (8,)), QUICK_SETTINGS)
    assert (record["refused_updates"], record["closing_loss"], record["results"]) == (2, None, [])
    json.dumps(record, allow_nan=False)


def test_cores_are_words() -> None:
    spec = parse_core("hope:chunk=1,retention=(5.0, 100.0),never_heads=None")
    assert dict(spec.options) == {"chunk": 1, "retention": (5.0, 100.0), "never_heads": None}
    assert dict(parse_core("lstm:scope=never").options) == {"scope": "never"}
    assert parse_core("gated-delta").options == ()
    words = parse_core("self-modifying:memory=mlp,momentum=true,decay=False")
    assert dict(words.options) == {"memory": "mlp", "momentum": True, "decay": False}
    assert spec.slug == "hope+chunk=1,retention=_5.0,100.0_,never_heads=None"
    for name in CORES:
        assert parse_core(name).build(3, 16).width == 16
    with pytest.raises(UnknownNameError, match="did you mean 'lstm'"):
        parse_core("lstn")
    assert parse_core("lstm:width=24").build(3, 16).width == 24
    with pytest.raises(ConfigError, match=r"core 'hope' has no option input_size here; it has chunk, .*width"):
        parse_core("hope:input_size=3")
    for text in ("hope:chunk", "hope:chunk=1+x", "hope:chunk=1)", "hope:**x"):
        with pytest.raises(ConfigError, match="cannot read the core 'hope:"):
            parse_core(text)


def test_the_trial_with_the_lowest_closing_loss_decides() -> None:
    trials = [{"rate": 1e-3, "closing_loss": 0.5}, {"rate": 1e-2, "closing_loss": None}]
    assert best_rate(trials) == 1e-3
    assert best_rate([*trials, {"rate": 3e-3, "closing_loss": 0.4}]) == 3e-3
    assert best_rate([{"rate": 1e-2, "closing_loss": 0.5}, trials[0]]) == 1e-3


def test_the_smoke_run_keeps_goes_on_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(tasks=("parity", "needle"), cores=("lstm", "hope:chunk=1"), quick=True, results=tmp_path)
    main(options)
    shown = capsys.readouterr().out
    assert "## parity" in shown and "## needle" in shown and "measure nothing" in shown
    kept = files(tmp_path)
    assert set(kept) == {
        f"{task}/{core}{kind}.json"
        for task in options.tasks
        for core in ("lstm", "hope+chunk=1")
        for kind in ("-seed0", "-trial-lr0.001-seed100", "-trial-lr0.003-seed100")
    }
    record = json.loads(kept["needle/lstm-seed0.json"])
    assert {"commit", "versions", "settings", "plan", "losses"} <= set(record) and record["state_floats"] == 32
    assert str(tmp_path) not in json.dumps(record)
    (tmp_path / "parity" / "lstm-seed0.json").unlink()
    main(options)
    again = files(tmp_path)
    changed = [name for name in kept if kept[name] != again[name]]
    assert set(again) == set(kept) and changed in ([], ["parity/lstm-seed0.json"])
    name = "parity/lstm-seed0.json"
    assert without_clock(json.loads(kept[name])) == without_clock(json.loads(again[name]))


def test_jobs_are_processes_that_give_the_same(tmp_path: Path) -> None:
    for jobs in (1, 2):
        main(Options(tasks=("parity",), cores=("lstm",), quick=True, results=tmp_path / str(jobs), jobs=jobs))
    one, two = files(tmp_path / "1"), files(tmp_path / "2")
    assert [without_clock(json.loads(text)) for text in one.values()] == [
        without_clock(json.loads(text)) for text in two.values()
    ]


def test_a_failed_cell_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(tasks=("parity",), cores=("gated-delta:heads=5", "lstm"), quick=True, results=tmp_path)
    with pytest.raises(SystemExit, match=r"(?s)failed:.*heads=5.*width must be a multiple of heads"):
        main(options)
    assert "| lstm |" in capsys.readouterr().out


def test_an_interrupted_run_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(tasks=("parity",), cores=("lstm",), quick=True, results=tmp_path)
    finished = []

    def interrupted(cell: Cell, *arguments: Any, **options: Any) -> dict[str, Any]:
        if finished:
            raise KeyboardInterrupt
        finished.append(cell)
        return run_cell(cell, *arguments, **options)

    monkeypatch.setattr("benchmarks.memory.run_cell", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 130 and "the same command goes on from here" in capsys.readouterr().out
    assert list(files(tmp_path)) == [finished[0].path]


def test_wrong_words_end_with_a_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="unknown task 'parrity': did you mean 'parity'"):
        main(Options(tasks=("parrity",), results=tmp_path))
    with pytest.raises(SystemExit, match="unknown memory core"):
        main(Options(cores=("lstn",), results=tmp_path))
    with pytest.raises(SystemExit, match="seeds from 0 to 99"):
        main(Options(seeds=(100,), results=tmp_path))


def test_records_of_another_budget_are_not_taken(tmp_path: Path) -> None:
    record = {"plan": asdict(PLANS["parity"]), "settings": asdict(Settings())}
    keep(record, tmp_path / "x.json")
    assert find(tmp_path / "x.json", record["plan"], record["settings"]) is not None
    assert find(tmp_path / "y.json", record["plan"], record["settings"]) is None
    other = asdict(Settings(updates=7))
    with pytest.raises(ValueError, match=r"x.json was made with other settings: updates 2000; delete it, or keep"):
        find(tmp_path / "x.json", record["plan"], other)


def run_record(core: str, seed: int, right: tuple[int, int], **changes: Any) -> dict[str, Any]:
    results = [{"span": span, "streams": 10, "asked": 10, "right": count, "whole": count}
               for span, count in zip((8, 1000), right, strict=True)]  # fmt: skip
    return {
        "task": "needle", "core": core, "kind": "run", "seed": seed, "rate": 3e-3, "span_unit": "distractor steps",
        "chance": 0.125, "plan": {"low": 1, "high": 8, "evaluate": [8, 1000]}, "settings": asdict(Settings()),
        "state_floats": 1234, "parameters": 5678, "refused_updates": 0, "results": results,
        "commit": "0123456789abcdef",
    } | changes  # fmt: skip


def test_tables_show_every_core_the_best_first(tmp_path: Path) -> None:
    for core, seed, right in (("slow", 0, (10, 2)), ("slow", 1, (10, 4)), ("keen", 0, (9, 9)), ("keen", 1, (9, 9))):
        keep(run_record(core, seed, right), tmp_path / "memory" / "needle" / f"{core}-seed{seed}.json")
    keep(run_record("slow", 100, (0, 0), kind="trial"), tmp_path / "memory" / "needle" / "slow-trial-seed100.json")
    text = draw("memory_needle", tmp_path)
    assert text.splitlines()[:4] == [
        "| core | 8 | 1,000 | state floats a stream | parameters | rate | seeds |",
        "|---|---:|---:|---:|---:|---:|---:|",
        "| keen | 0.900 [0.900–0.900] | 0.900 [0.900–0.900] | 1,234 | 5,678 | 0.003 | 2 |",
        "| slow | 1.000 [1.000–1.000] | 0.300 [0.200–0.400] | 1,234 | 5,678 | 0.003 | 2 |",
    ]
    assert "**Preliminary**" in text and "chance is 0.125" in text and "Commit 0123456789." in text
    assert "Answers a seed: 10 at 8, 10 at 1,000." in text
    overview = draw("memory_overview", tmp_path)
    assert "| core | needle, 8 → 1,000 |" in overview and "| slow | 1.00 → 0.30 |" in overview


def test_tables_without_runs_or_of_two_budgets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no runs on 'parity'.*run python -m benchmarks.memory --tasks parity"):
        memory_table("memory_parity", tmp_path)
    with pytest.raises(ValueError, match=r"no runs in .*: run python -m benchmarks.memory"):
        memory_table("memory_overview", tmp_path)
    keep(run_record("one", 0, (1, 1)), tmp_path / "needle" / "one-seed0.json")
    keep(run_record("two", 0, (1, 1), settings=asdict(SMALL)), tmp_path / "needle" / "two-seed0.json")
    with pytest.raises(ValueError, match="had different budgets; one table shows one budget"):
        memory_table("memory_needle", tmp_path)


def test_help_lists_the_options() -> None:
    command = [sys.executable, "-m", "benchmarks.memory", "--help"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(word in printed for word in ("--cores", "--tasks", "--seeds", "--quick", "--results", "--jobs"))


@pytest.mark.slow
def test_the_exact_step_form_of_hope_tracks_parity() -> None:
    settings = Settings(width=32, updates=400, streams=16, eval_streams=64)
    record = run_cell(Cell("parity", parse_core("hope:chunk=1"), 0, 3e-3), PLANS["parity"], settings)
    assert record["results"][0]["right"] > 0.95 * record["results"][0]["asked"]
