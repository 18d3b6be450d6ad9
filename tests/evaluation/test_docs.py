from __future__ import annotations

import ast
import csv
import re
from pathlib import Path

import pytest

from nl_agents.evaluation import lifelong_metrics
from nl_agents.training.logging import recorded_keys, undocumented_keys
from tests.evaluation.lives import LEVELS, simulated_life

ROOT = Path(__file__).resolve().parents[2]
AREAS = ("rollout", "time", "train", "replay", "optimizer", "memory", "level", "control", "schedule")
METRICS = (ROOT / "docs" / "metrics.md").read_text("utf-8")
SOURCES = [
    path
    for folder in ("learning", "training", "control", "sb3")
    for path in (ROOT / "nl_agents" / folder).rglob("*.py")
]


def test_every_key_that_is_recorded_is_explained() -> None:
    keys = {key for path in SOURCES for key in recorded_keys(path.read_text("utf-8"))}
    assert "rollout/return_mean" in keys
    names = "`optimizer/<name>` `upkeep/<key>`"  # what these stand for: the tests below
    assert undocumented_keys(keys, METRICS + names) == []


@pytest.mark.parametrize("name", ["redo", "continual-backprop", "l2-init", "ewc", "permanent-transient", "trac"])
def test_what_upkeep_records_is_explained(name: str) -> None:
    from nl_agents import agents, envs

    config = agents.config(name)
    config.ppo.num_steps, config.memory.width = 32, 16
    env = envs.make_sequence("cartpole-flip", num_envs=4, seed=0, info="notified")
    agent = agents.make(name, env, device="cpu", config=config).learn(128)
    keys = [f"upkeep/{key}" for part in agent.learner.upkeep for key in part.metrics()]
    keys += [f"optimizer/{key}" for key in agent.optimizer.statistics() if key != "refused_steps"]
    assert keys or name == "l2-init"
    assert undocumented_keys(keys, METRICS) == []


def test_every_column_of_a_real_life_is_explained(tmp_path: Path) -> None:
    from nl_agents import agents, envs

    config = agents.config("hope")
    config.ppo.num_steps, config.memory.width = 32, 16
    env = envs.make_sequence("cartpole-flip", num_envs=4, seed=0)
    agents.make("hope", env, device="cpu", config=config).learn(1000, run_dir=tmp_path / "run")
    with (tmp_path / "run" / "progress.csv").open() as file:
        columns = next(csv.reader(file))
    assert {"optimizer/gate", "replay/chunks", "memory/delta/norm"} <= set(columns)
    assert undocumented_keys(columns, METRICS) == []


def test_every_literal_that_looks_like_a_key_is_explained() -> None:
    looks = re.compile(rf"({'|'.join(AREAS)})/[a-z_]+")
    keys = {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and looks.fullmatch(node.value)
    }
    assert "train/policy_loss" in keys
    assert undocumented_keys(keys, METRICS) == []


def test_every_lifelong_figure_is_explained() -> None:
    for name in lifelong_metrics(simulated_life(), LEVELS):
        kind, _, task = name.partition("/")
        assert f"`{kind}/<task>`" in METRICS if task else f"`{name}`" in METRICS
