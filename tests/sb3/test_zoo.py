"""rl_zoo3's command line takes our algorithms, with settings of their own, and says what is missing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sb3_contrib")

import nl_agents.sb3
from nl_agents.sb3 import zoo

TASKS = {name: "Pendulum" if name == "recurrent_sac" else "CartPole" for name in zoo.ALGORITHMS}


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted, *rest: None if wanted == name else find(wanted))


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    without("rl_zoo3", monkeypatch)
    assert zoo.main(["train", "--algo", "hope_ppo"]) == 2
    assert "pip install 'nl-agents[zoo]'" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError, match="rl_zoo3's command line, which is not installed"):
        zoo.register()


def test_help_and_words_that_are_no_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo, "register", lambda: pytest.fail("nothing of rl_zoo3 is needed"))
    for word in ("-h", "--help"):
        assert zoo.main([word]) == 0
        assert "Commands: train, enjoy, plot_train" in capsys.readouterr().out
    assert zoo.main(["trian"]) == 2
    assert "unknown command 'trian': did you mean 'train'" in capsys.readouterr().err
    assert zoo.main([]) == 2
    assert "rl_zoo3's command line with our algorithms" in capsys.readouterr().err


def test_plots_that_are_not_installed_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo, "register", dict)
    monkeypatch.setitem(sys.modules, "rl_zoo3.cli", None)
    assert zoo.main(["plot_train"]) == 2
    assert "plot_train needs rl_zoo3's plots: pip install 'rl_zoo3[plots]'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--algo", "hope_ppo"], ["--env", "X-v0", "--algo=hope_ppo"]])
def test_our_settings_are_taken_unless_others_are_named(words: list[str]) -> None:
    taken = zoo.with_settings(["train", *words])
    assert taken[-2] == "--conf-file" and Path(taken[-1]).name == "hope_ppo.yml" and Path(taken[-1]).is_file()
    for other in (["-conf", "x.yml"], ["--conf-file=x.yml"]):
        assert zoo.with_settings(["train", *words, *other]) == ["train", *words, *other]
    for kept in (["enjoy", *words], ["train", "--algo", "ppo"], ["train", "--algo"], []):
        assert zoo.with_settings(kept) == kept


@pytest.mark.parametrize("algorithm", zoo.ALGORITHMS)
def test_every_algorithm_has_settings_that_it_takes(algorithm: str) -> None:
    yaml = pytest.importorskip("yaml")
    entries: dict[str, dict[str, Any]] = yaml.safe_load((zoo.SETTINGS / f"{algorithm}.yml").read_text("utf-8"))
    kind = getattr(nl_agents.sb3, zoo.ALGORITHMS[algorithm])
    assert "default" in entries and f"{TASKS[algorithm]}NoVel-v1" in entries
    for entry in entries.values():
        assert entry["policy"] in kind.policy_aliases and entry["n_timesteps"] > 0 and entry["n_envs"] > 0


@pytest.mark.filterwarnings("default")  # rl_zoo3's own dependencies warn
@pytest.mark.parametrize("algorithm", zoo.ALGORITHMS)
def test_it_trains(algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rl_zoo3")
    monkeypatch.chdir(tmp_path)
    before = list(sys.argv)
    task = f"{TASKS[algorithm]}-v1"
    words = ["train", "--algo", algorithm, "--env", task, "-n", "256", "--eval-freq", "-1", "--device", "cpu"]
    assert zoo.main([*words, "--num-threads", "1", "--verbose", "0"]) == 0
    assert (tmp_path / "logs" / algorithm / f"{task}_1" / f"{task}.zip").is_file() and sys.argv == before


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("algorithm", zoo.ALGORITHMS)
def test_its_search_has_ranges_for_our_algorithms(algorithm: str) -> None:
    pytest.importorskip("rl_zoo3")
    optuna = importlib.import_module("optuna")
    search = importlib.import_module("rl_zoo3.hyperparams_opt")
    kind = zoo.register()[algorithm]
    trial = optuna.create_study().ask()
    drawn = search.HYPERPARAMS_SAMPLER[algorithm](trial, 2, 1, {"using_her_replay_buffer": False})
    assert search.HYPERPARAMS_CONVERTER[algorithm](trial.params) == drawn
    kind("HopePolicy", f"{TASKS[algorithm]}-v1", device="cpu", **drawn)
