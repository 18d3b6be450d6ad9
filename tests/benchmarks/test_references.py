"""The measurement of random and expert: one record a life, best or mean over seeds, images of one another once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import references
from benchmarks.one_life import curve_of_20
from benchmarks.references import PLANS, Options, Plan, main, random_return
from nl_agents import envs
from nl_agents.evaluation.lifetime import Lifetime
from nl_agents.evaluation.reference import load_reference
from nl_agents.types import Episode


def test_a_plan_says_how_long_and_who() -> None:
    plan = Plan(100, "ppo", longer={"far": 300}, others={"across": "rl2"})
    assert [plan.steps_of(task) for task in ("near-1", "far-1")] == [100, 300]
    assert [plan.agent_of(task) for task in ("near-1", "across-1")] == ["ppo", "rl2"]


@pytest.mark.parametrize("suite", PLANS)
def test_stands_in_for_a_task_of_the_same_suite(suite: str) -> None:
    tasks = envs.SUITES[suite].tasks
    judges = {PLANS[suite].like(task) for task in tasks}
    assert judges <= set(tasks)
    assert {PLANS[suite].like(judge) for judge in judges} == judges, "who stands in for others stands for itself"
    assert set(load_reference(suite)) <= set(tasks)


def test_the_curve_is_the_mean_of_each_twentieth() -> None:
    episodes = [Episode(10 * (at + 1), 0, "one", float(at), 10, 10 * at) for at in range(40) if at != 0 and at != 1]
    curve = curve_of_20(Lifetime.from_episodes(episodes, [(0, "one")], steps=400, num_envs=1))
    assert curve == [None, *[2.0 * twentieth + 0.5 for twentieth in range(1, 20)]]


def test_random_counts_as_many_episodes_of_every_stream() -> None:
    assert random_return("needle", "within-1", episodes=3200) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(("drawn", "level"), [(False, 9.0), (True, 6.0)])
def test_measures_once_and_writes_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: bool, level: float
) -> None:
    lived: list[tuple[str, int]] = []

    def expert(suite: str, task: str, seed: int, plan: Plan) -> dict[str, Any]:
        lived.append((task, seed))
        return {"return": 3.0 * seed, "steps": 10, "curve_of_20": [0.0]}

    plan = Plan(10, like=lambda task: "cartpole-1", drawn=drawn)
    monkeypatch.setattr(references, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(references, "FOLDER", tmp_path / "package")
    monkeypatch.setattr(references, "expert_life", expert)
    monkeypatch.setattr(references, "random_return", lambda suite, task: 1.0)
    monkeypatch.setattr(references, "walker_return", lambda task: 4.0)
    monkeypatch.setitem(PLANS, "control-obs-shift", plan)
    options = Options("control-obs-shift", seeds=(1, 2, 3), tasks=("cartpole-1", "cartpole-2"))
    main(options)
    assert lived == [("cartpole-1", 1), ("cartpole-1", 2), ("cartpole-1", 3)]
    main(options)
    assert len(lived) == 3, "what is kept is not measured again"
    written = json.loads((tmp_path / "package" / "control-obs-shift.json").read_text())
    assert written["tasks"]["cartpole-2"] == {
        "random": 1.0,
        "expert": level,
        "seeds": [3.0, 6.0, 9.0],
        "measured_on": "cartpole-1",
    }
    assert "measured_on" not in written["tasks"]["cartpole-1"]
    assert ("mean of the listed seeds" in written["notes"]) == drawn
    monkeypatch.setitem(PLANS, "control-obs-shift", replace(plan, walked=("cart",)))
    main(options)
    written = json.loads((tmp_path / "package" / "control-obs-shift.json").read_text())
    assert written["tasks"]["cartpole-1"]["expert"] == 4.0 and "seeds" not in written["tasks"]["cartpole-1"]
    assert len(lived) == 3 and "a script that looks" in written["notes"]
