"""The command line with real agents: a short life from its start to its pages."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nl_agents import agents, cli, envs
from nl_agents.cli import pages
from nl_agents.evaluation import Lifetime, run_episodes
from nl_agents.tasks import single_task

SMALL = ("--ppo.num-steps", "32", "--memory.width", "16", "--device", "cpu", "--num-envs", "4")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def saved(run: str) -> list[str]:
    """Names of the whole checkpoints of a run; those being written begin with a dot."""
    folder = Path(run, "checkpoints")
    return [name for name in os.listdir(folder) if not name.startswith(".")] if folder.is_dir() else []


def test_a_life_is_lived_evaluated_resumed_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--agent", "ppo", "--steps", "1500", "--run-dir", "ppo", *SMALL]) == 0
    assert "report: ppo/report.html" in capsys.readouterr().out
    first = Lifetime.from_run_folder("ppo")
    assert first.steps >= 1500
    config = json.loads(Path("ppo/config.json").read_text())
    assert (config["sequence"], config["config"]["memory"]["width"]) == ("cartpole-flip:demo", 16)

    assert cli.main(["evaluate", "ppo", "--episodes", "4"]) == 0
    assert "standard" in capsys.readouterr().out

    assert cli.main(["resume", "ppo", "--steps", "3000"]) == 0
    longer = Lifetime.from_run_folder("ppo")
    assert longer.steps >= 3000
    assert longer.step[: len(first)].tolist() == first.step.tolist()

    assert cli.main(["train", "--agent", "rl2", "--steps", "1500", "--run-dir", "rl2", *SMALL]) == 0
    assert cli.main(["compare", "ppo", "rl2", "--out", "page.html"]) == 0
    assert Path("page.html").exists()
    capsys.readouterr()

    assert cli.main(["train", "--agent", "ppo", "--steps", "1500", "--run-dir", "ppo", *SMALL]) == 1
    assert "ppo" in capsys.readouterr().err
    assert Lifetime.from_run_folder("ppo").steps == longer.steps  # nothing was overwritten


@pytest.mark.parametrize(
    "name", [name for name, spec in agents.AGENTS.items() if not (spec.needs_boundary or spec.needs_task_id)]
)
def test_every_agent_that_needs_nothing_told_trains_from_the_command_line(name: str) -> None:
    words = ("train", "--agent", name, "--sequence", "control-obs-shift:demo", "--steps", "200", "--run-dir", "run")
    assert cli.main([*words, *SMALL]) == 0
    assert Path("run/summary.json").exists()


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Mean returns by task of the evaluation that was printed."""
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "±" in line]
    return {words[0]: float(words[words.index("±") - 1]) for words in lines}


def test_tasks_are_evaluated_as_the_life_drew_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An order of observations is drawn by the life's seed; shown in another order, what it saw would be lost."""
    seen: list[Any] = []
    words = ("train", "--agent", "ppo", "--sequence", "permute-long:demo", "--steps", "200", "--run-dir", "run")
    assert cli.main([*words, "--seed", "3", *SMALL]) == 0
    life = envs.make_sequence(
        "permute-long:demo", **json.loads(Path("run/config.json").read_text())["sequence_options"]
    )

    def watch(subject: Any, env: Any, *arguments: Any, **options: Any) -> list[Any]:
        seen.append(env.reset(seed=1)[0])
        return run_episodes(subject, env, *arguments, **options)

    monkeypatch.setattr(pages, "run_episodes", watch)
    assert cli.main(["evaluate", "run", "--episodes", "4"]) == 0
    for name, shown in zip(life.task_names, seen, strict=True):
        np.testing.assert_array_equal(shown, single_task(life, name, num_envs=4).reset(seed=1)[0])
    assert set(told(capsys)) == set(life.task_names)
    seen.clear()
    assert cli.main(["evaluate", "run", "--episodes", "4", "--sequence-seed", "0"]) == 0
    other = single_task(envs.make_sequence("permute-long:demo", seed=0), life.task_names[0], num_envs=4)
    np.testing.assert_array_equal(seen[0], other.reset(seed=1)[0])


def test_an_expert_is_evaluated_with_the_learner_of_each_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On flipped CartPole the same answer does the opposite: one learner for both would fail one of them."""
    words = ("train", "--agent", "expert", "--privileged", "--sequence", "cartpole-flip:demo", "--run-dir", "run")
    assert cli.main([*words, "--steps", "400", *SMALL]) == 0
    agent = pages.load_run(Path("run"), "cpu")
    learners = []
    for task in (0, 1):
        agent.enter_task(task)
        learners.append({name: value.clone() for name, value in agent.policy.state_dict().items()})
    assert any(not torch.equal(value, learners[1][name]) for name, value in learners[0].items())
    agent.enter_task(0)
    assert all(torch.equal(value, learners[0][name]) for name, value in agent.policy.state_dict().items())
    asked: list[int] = []

    def watch(subject: Any, *arguments: Any, **options: Any) -> list[Any]:
        asked.append(subject.experts.now)
        return run_episodes(subject, *arguments, **options)

    monkeypatch.setattr(pages, "run_episodes", watch)
    assert cli.main(["evaluate", "run", "--episodes", "4"]) == 0
    assert set(told(capsys)) == {"standard", "flipped"} and asked == [0, 1]


OWN = """
import gymnasium
from nl_agents import envs
from nl_agents.tasks import Cyclic, Task

def build(num_envs=16, seed=0):
    tasks = [Task(name, gymnasium.make, {"id": "CartPole-v1", "disable_env_checker": True}) for name in ("one", "two")]
    return envs.make_sequence(tasks, schedule=Cyclic(20_000), num_envs=num_envs, seed=seed)

def wrapped(num_envs=16, seed=0):
    return envs.AugmentObservation(build(num_envs, seed))
"""


def test_a_sequence_of_ones_own_is_evaluated_task_by_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("evaluated_tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for function in ("build", "wrapped"):
        words = ("train", "--agent", "ppo", "--sequence", f"evaluated_tasks:{function}", "--run-dir", function)
        assert cli.main([*words, "--steps", "200", *SMALL]) == 0
    assert cli.main(["evaluate", "build", "--episodes", "4"]) == 0
    assert set(told(capsys)) == {"one", "two"}
    assert cli.main(["evaluate", "wrapped", "--episodes", "4"]) == 2
    assert "needs the TaskSequence itself" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ewc", "expert"])
def test_agents_that_are_told_need_the_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "--agent", name, "--steps", "200", "--run-dir", "run", *SMALL)
    assert cli.main([*words]) == 2
    assert "--privileged" in capsys.readouterr().err
    assert cli.main([*words, "--privileged"]) == 0


def test_the_nest_of_an_agent_is_printed_and_kept_with_its_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["nest", "--agent", "hope", "--num-envs", "3", "--memory.slow-periods", "4", "64"]) == 0
    printed = capsys.readouterr().out
    assert "hope on cartpole-flip:demo, 3 streams" in printed
    for part in ("core.memory.never", "core.slow.1.sum", "64 learner updates", "optimizer.weights.memory", "control"):
        assert part in printed
    assert printed.index("core.memory.never") < printed.index("core.slow.1 ") < printed.index("books")
    assert cli.main(["nest", "--agent", "reset-at-switch"]) == 0  # nothing is run, so nothing needs to be told
    assert cli.main(["nest", "--num-envs", "0"]) == 2
    assert cli.main(["nest", "--agent", "hop"]) == 2
    assert "did you mean 'hope'" in capsys.readouterr().err
    assert cli.main(["train", "--agent", "rl2", "--steps", "300", "--run-dir", "rl2", *SMALL]) == 0
    nest = json.loads(Path("rl2/config.json").read_text())["nest"]
    page = Path("rl2/report.html").read_text()
    assert "optimizer.weights.momentum.1" in nest and "<td class=''>optimizer.weights.momentum.1</td>" in page
    assert "all that the agent keeps, as it was at birth" in page


def test_a_replay_codec_is_an_option_and_a_wrong_one_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "--steps", "300", *SMALL, "--run-dir")
    assert cli.main([*words, "good", "--replay.state-codec", "low-rank:3"]) == 0
    assert json.loads(Path("good/config.json").read_text())["config"]["replay"]["state_codec"] == "low-rank:3"
    for wrong, message in (("int4", "did you mean 'int8'"), ("low-rank:99", "rank 99 is too large")):
        assert cli.main([*words, "bad", "--replay.state-codec", wrong]) == 2
        assert message in capsys.readouterr().err
        assert not Path("bad").exists()


def test_an_option_that_cannot_work_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--agent", "ppo", "--run-dir", "x", "--memory.width", "0"]) == 2
    assert "memory.width must be >= 1, got 0" in capsys.readouterr().err
    assert not Path("x").exists()


def test_ctrl_c_keeps_a_checkpoint_and_exits_130() -> None:
    command = [sys.executable, "-m", "nl_agents.cli", "train", "--agent", "ppo", "--steps", "9000000"]
    command += ["--run-dir", "run", "--run.checkpoint-every", "500"]
    root = str(Path(cli.__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    process = subprocess.Popen([*command, *SMALL], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not saved("run") and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "nl-agents resume run" in error
    assert saved("run")
    with Path("run/episodes.csv").open() as file:
        lived = max(int(row["step"]) for row in csv.DictReader(file))
    assert cli.main(["resume", "run", "--steps", str(lived + 500)]) == 0
    assert Lifetime.from_run_folder("run").steps >= lived + 500
