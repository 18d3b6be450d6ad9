"""Benchmarks of the sequences: they run small, and say what is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import references, soak, trac_control
from nl_agents import envs


def test_advantages_of_the_trac_protocol_by_hand() -> None:
    episode = trac_control.Episode()
    episode.rewards, episode.values = [1.0, 2.0], [0.5, 0.25]
    advantages, togo = episode.targets(4.0)
    last = 2.0 + 0.99 * 4.0 - 0.25
    assert advantages == pytest.approx([1.0 + 0.99 * 0.25 - 0.5 + 0.99 * 0.95 * last, last])
    assert togo == pytest.approx([1.0 + 0.99 * (2.0 + 0.99 * 4.0), 2.0 + 0.99 * 4.0])


def test_the_exact_preset_is_over_after_its_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    suite, preset = envs.preset("control-obs-shift:exact")
    assert preset.episodes == 4_000
    env = envs.make_sequence("control-obs-shift:exact", seed=0)
    env.last_episode = 4
    monkeypatch.setattr(trac_control.envs, "make_sequence", lambda *_, **__: env)
    torch.manual_seed(0)
    returns = trac_control.live(trac_control.Options(optimizer="trac"), 0)
    assert len(returns) == 4 and env.is_over and min(returns) >= 8.0
    assert suite.name == "control-obs-shift"


def test_kept_lives_of_the_trac_protocol_are_whole_and_adam_collapses() -> None:
    for path in trac_control.RESULTS.glob("cartpole-adam-*.json"):
        life = json.loads(path.read_text())
        means = trac_control.level_means(life["returns"])
        assert len(life["returns"]) == 4_000 and life["command"] and life["commit"]
        assert max(means[1:]) < 15.0 < means[0]


def test_a_measurement_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "KEPT", tmp_path)
    assert references.kept("suite", "task-random", lambda: {"return": 3.0}) == 3.0
    assert references.kept("suite", "task-random", lambda: pytest.fail("measured twice")) == 3.0
    assert references.random_return("control-drift", "pendulum-steady", episodes=16) < -500.0
    assert set(references.PLANS) <= set(envs.SUITES)
    for name, plan in references.PLANS.items():
        assert {plan.like(task) for task in envs.SUITES[name].tasks} <= set(envs.SUITES[name].tasks)


def test_a_short_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads Linux's /proc")
    for agent in ("", "plain-ppo"):
        record = soak.soak("control-obs-shift", soak.Options(steps=4_000, streams=4, agent=agent))
        assert len(record["megabytes"]) == soak.POINTS + 1 and np.isfinite(record["growth_mb"])
