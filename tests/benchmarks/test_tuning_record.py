"""Tuning trials decide, by a rule that is written down, with what the published lives are lived."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tables import draw
from benchmarks.tuning import TRIALS, Options, main
from benchmarks.tuning_record import read_trials, tuned, tuning_table


def keep(results: Path, agent: str, rate: str, score: float, step: float | None = None) -> None:
    folder = results / "tuning" / "two-rooms-quick"
    folder.mkdir(parents=True, exist_ok=True)
    trial = {
        "agent": agent,
        "trial": f"lr-{rate}",
        "arguments": ["--optimizer.lr", rate],
        "seed": 100,
        "figures": {"normalised_return": score, "recognition_step": step},
        "commit": "0123456789abcdef",
    }
    (folder / f"{agent}-lr-{rate}-seed100.json").write_text(json.dumps(trial))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    keep(tmp_path, "slow", "1e-3", 0.2)
    keep(tmp_path, "slow", "5e-4", 0.3)
    keep(tmp_path, "slow", "2e-3", -0.1)
    keep(tmp_path, "quick", "1e-3", 0.9, 1234.0)
    return tmp_path


def test_the_best_trial_of_an_agent_gives_its_arguments(results: Path) -> None:
    folder = results / "tuning"
    assert tuned("two-rooms:quick", "slow", folder) == ["--optimizer.lr", "5e-4"]
    assert tuned("two-rooms:quick", "quick", folder) == ["--optimizer.lr", "1e-3"]


def test_without_trials_defaults_are_lived(results: Path) -> None:
    assert tuned("two-rooms:quick", "unknown", results / "tuning") == []
    assert tuned("another", "slow", results / "tuning") == []


def test_table_shows_every_trial_losers_included(results: Path) -> None:
    rows = [line for line in draw("tuning_two-rooms-quick", results).splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        "| quick | `--optimizer.lr 1e-3` | 0.900 | 1,234 | 100 |",
        "| slow | `--optimizer.lr 5e-4` | 0.300 | never | 100 |",
        "| slow | `--optimizer.lr 1e-3` | 0.200 | never | 100 |",
        "| slow | `--optimizer.lr 2e-3` | -0.100 | never | 100 |",
    ]


def test_a_table_without_trials_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no trials for 'tuning_x'.*python -m benchmarks.tuning"):
        tuning_table("tuning_x", tmp_path)


def test_published_seeds_are_refused() -> None:
    with pytest.raises(SystemExit, match="seed 3 belongs to the published tables"):
        main(Options("cartpole-flip", seed=3))


def test_every_agent_has_had_the_same_trials_on_published_sequences() -> None:
    for sequence in ("cartpole-flip", "minigrid-recurring"):
        trials = read_trials(sequence)
        assert {agent: {trial["trial"] for trial in group} for agent, group in trials.items()} == {
            agent: set(TRIALS) for agent in ("hope", "ppo", "recurrent-ppo", "rl2", "reset-at-switch")
        }
