"""The command line with stand-ins for agents; tests/test_end_to_end lives with real ones."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nl_agents
from nl_agents import cli, envs
from nl_agents.cli import lookup
from nl_agents.errors import ConfigError, EnvironmentCrashedError
from nl_agents.evaluation import run_lifetime
from nl_agents.seeding import spawn
from nl_agents.tasks import Cyclic
from tests.evaluation.lives import simulated_life
from tests.evaluation.runs import write_run

ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class MemoryOptions:
    """The core."""

    width: int = 64
    """features of the core"""


@dataclasses.dataclass
class Options:
    """Options of the stand-in."""

    memory: MemoryOptions = dataclasses.field(default_factory=MemoryOptions)
    lr: float = 1e-3
    """learning rate"""


class StandIn:
    """Acts at random and leaves a run folder, as an agent's learn does."""

    made: list[StandIn] = []  # noqa: RUF012
    fail: BaseException | None = None

    def __init__(self, name: str, env: Any, seed: int, device: str, config: Options) -> None:
        self.name, self.env, self.seed, self.device, self.config = name, env, seed, device, config
        self.learned = 0
        StandIn.made.append(self)

    def learn(
        self,
        total_timesteps: int,
        *,
        progress_bar: bool = False,
        run_dir: Path | None = None,
        run_info: dict[str, Any] | None = None,
    ) -> StandIn:
        if StandIn.fail is not None:
            raise StandIn.fail
        assert run_dir is not None
        assert run_info is not None
        self.learned, self.progress_bar, self.run_info = total_timesteps, progress_bar, run_info
        life = run_lifetime(self.act, self.env, total_timesteps, learn=False)
        write_run(run_dir, life, agent=self.name, sequence=run_info["sequence"], seed=self.seed)
        return self

    def act(self, observation: Any) -> Any:
        return np.ones(len(observation), np.int64)


def spec(name: str, boundary: bool = False, task_id: bool = False) -> SimpleNamespace:
    return SimpleNamespace(name=name, doc=f"what {name} is", needs_boundary=boundary, needs_task_id=task_id)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    agents = SimpleNamespace(
        AGENTS={"hope": spec("hope"), "ppo": spec("ppo"), "reset-at-switch": spec("reset-at-switch", boundary=True)},
        config=lambda name: Options(lr=0.5 if name == "ppo" else 1e-3),
        make=lambda name, env, seed, device, config: StandIn(name, env, seed, device, config),
    )
    monkeypatch.setitem(sys.modules, "nl_agents.agents", agents)
    monkeypatch.setattr(nl_agents, "agents", agents, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    StandIn.made.clear()
    StandIn.fail = None
    yield


def train(*words: str) -> int:
    return cli.main(["train", "--steps", "3000", "--num-envs", "4", "--run-dir", "out", *words])


def test_train_lives_and_leaves_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--seed", "3") == 0
    (agent,) = StandIn.made
    assert (agent.name, agent.seed, agent.device, agent.learned) == ("hope", 3, "auto", 3000)
    assert agent.progress_bar is True
    given = {"num_envs": 4, "seed": spawn(3, "sequence"), "info": "hidden", "backend": "auto"}
    assert agent.run_info == {"sequence": "cartpole-flip:demo", "sequence_options": given}
    assert agent.env.num_envs == 4
    assert agent.env.info_level == "hidden"
    assert Path("out/report.html").read_text().startswith("<!doctype html>")
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["agent"] == "hope"
    assert summary["figures"]["episodes"] > 10
    printed = capsys.readouterr().out
    assert "Time-weighted return" in printed
    assert "out/report.html" in printed


def test_no_flag_at_all_is_the_demonstration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(StandIn, "learn", lambda self, steps, **_: asked.append((self.name, steps)))
    monkeypatch.setattr("nl_agents.cli.life.report", lambda options: 0)
    assert cli.main(["train"]) == 0
    assert asked == [("hope", envs.preset("cartpole-flip:demo")[1].steps)]
    assert StandIn.made[0].env.num_envs == envs.preset("cartpole-flip:demo")[1].num_envs


def test_the_sequences_seed_is_a_stream_of_the_runs_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    make = envs.make_sequence
    monkeypatch.setattr(
        envs, "make_sequence", lambda *words, **given: asked.append(given["seed"]) or make(*words, **given)
    )
    assert train("--seed", "7") == 0
    assert asked == [spawn(7, "sequence")]


def test_options_of_the_agent_are_dotted_and_have_its_defaults() -> None:
    assert train("--agent", "ppo", "--memory.width", "128") == 0
    assert StandIn.made[0].config == Options(MemoryOptions(128), lr=0.5)
    assert train("--agent=hope", "--lr", "0.25", "--run-dir", "other") == 0
    assert StandIn.made[1].config == Options(MemoryOptions(64), lr=0.25)


def test_help_teaches_and_shows_the_agents_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--agent", "ppo", "--help"]) == 0
    text = capsys.readouterr().out
    for words in ("--memory.width", "features of the core", "--lr", "0.5", "module:function", "cartpole-flip:demo"):
        assert words in text
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(command in overview for command in cli.COMMANDS)
    assert cli.main([]) == 0


@pytest.mark.parametrize("command", ["train", "resume", "evaluate", "compare", "report", "list", "doctor"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"usage: nl-agents {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--agent", "hpoe"], r"unknown agent 'hpoe': did you mean 'hope'"),
        (["train", "--sequence", "cartpole-flop"], r"unknown sequence 'cartpole-flop': did you mean 'cartpole-flip'"),
        (["train", "--sequence", "cartpole-flip:quik"], r"did you mean 'quick'?"),
        (["train", "--sequence", "nowhere:make"], r"unknown sequence 'nowhere:make'"),
        (["train", "--steps", "0"], "--steps must be an integer >= 1, got 0"),
        (["train", "--threads", "many"], "--threads must be an integer >= 1 or auto, got 'many'"),
        (["trian"], r"unknown command 'trian': did you mean 'train'?"),
        (["report", "nowhere"], "expected a run folder, found nothing at nowhere"),
        (["resume", "nowhere"], "expected a run folder, found nothing at nowhere"),
        (["evaluate", "nowhere"], "found nothing at nowhere"),
        (["compare", "nowhere"], "expected a run folder, found nothing at nowhere"),
    ],
)
def test_a_bad_argument_exits_2_and_names_the_nearest(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("words", [["train", "--stesp", "5"], ["train", "--seed", "x"], ["list", "everything"]])
def test_a_bad_option_exits_2(words: list[str]) -> None:
    assert cli.main(words) == 2


def test_near_run_folders_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("runs/hope-1"), simulated_life())
    assert cli.main(["report", "runs/hope-2"]) == 2
    assert "did you mean runs/hope-1?" in capsys.readouterr().err


def test_an_agent_that_must_be_told_is_refused_unless_privileged(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--agent", "reset-at-switch") == 2
    assert "must be told the task boundaries" in capsys.readouterr().err
    assert not StandIn.made
    assert train("--agent", "reset-at-switch", "--privileged") == 0
    assert StandIn.made[0].env.info_level == "notified"
    assert "switches are told" in capsys.readouterr().out


def test_privileged_tells_nothing_to_an_agent_that_needs_nothing() -> None:
    assert train("--privileged") == 0
    assert StandIn.made[0].env.info_level == "hidden"


def test_ctrl_c_exits_130_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    StandIn.fail = KeyboardInterrupt()
    assert train() == 130
    assert "nl-agents resume out" in capsys.readouterr().err


def test_a_failure_on_the_way_exits_1_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    StandIn.fail = EnvironmentCrashedError("stream 3 raised")
    assert train() == 1
    error = capsys.readouterr().err
    assert "error: stream 3 raised" in error
    assert "Traceback" not in error


def test_an_unexpected_failure_keeps_its_traceback_for_debug(capsys: pytest.CaptureFixture[str]) -> None:
    StandIn.fail = RuntimeError("boom")
    assert train() == 1
    error = capsys.readouterr().err
    assert "unexpected RuntimeError: boom (add --debug for the traceback)" in error
    assert "Traceback" not in error
    assert train("--debug") == 1
    assert "Traceback" in capsys.readouterr().err


OWN = """
from nl_agents.envs import make_sequence
from nl_agents.tasks import Cyclic

def mine(num_envs, seed):
    return make_sequence("cartpole-flip", num_envs=num_envs, seed=seed, schedule=Cyclic(every=20_000))
"""


def test_a_sequence_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own_tasks.py").write_text(OWN)
    before = list(sys.path)
    assert train("--sequence", "own_tasks:mine") == 0
    assert sys.path == before
    assert isinstance(StandIn.made[0].env.schedule, Cyclic)
    assert cli.main(["train", "--sequence", "own_tasks:mine"]) == 2
    assert "a sequence of your own needs --steps N" in capsys.readouterr().err
    assert train("--sequence", "own_tasks:yours") == 2
    assert "unknown sequence 'own_tasks:yours'" in capsys.readouterr().err


def test_an_import_that_fails_inside_the_users_module_is_not_called_unknown() -> None:
    Path("broken_tasks.py").write_text("import a_module_that_is_not_there\n")
    sys.path.insert(0, str(Path.cwd()))
    try:
        with pytest.raises(ConfigError, match="importing broken_tasks failed: No module named"):
            lookup.find_sequence("broken_tasks:make")
    finally:
        sys.path.pop(0)


def test_resume_hands_over_and_reports(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("run"), simulated_life(), sequence="a-suite-without-reference")
    calls: list[Any] = []
    training = SimpleNamespace(resume=lambda run, **options: calls.append((run, options)))
    monkeypatch.setitem(sys.modules, "nl_agents.training", training)
    assert cli.main(["resume", "run", "--steps", "99"]) == 0
    assert calls == [(Path("run"), {"steps": 99, "progress_bar": True})]
    assert "report: run/report.html" in capsys.readouterr().out


def test_resume_builds_the_users_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_again.py").write_text(OWN)
    write_run(Path("run"), simulated_life(), sequence="own_again:mine")
    config = json.loads(Path("run/config.json").read_text())
    options = {"num_envs": 4, "seed": 11, "info": "hidden", "backend": "auto"}
    Path("run/config.json").write_text(json.dumps({**config, "sequence_options": options}))
    calls: list[Any] = []
    training = SimpleNamespace(resume=lambda run, **options: calls.append(options["env"]))
    monkeypatch.setitem(sys.modules, "nl_agents.training", training)
    assert cli.main(["resume", "run"]) == 0
    assert calls[0].num_envs == 4
    assert isinstance(calls[0].schedule, Cyclic)


def test_evaluate_measures_each_task(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.zip").touch()
    loaded: list[Path] = []

    def load(path: Path, device: str) -> Any:
        loaded.append(path)
        return lambda observation: np.ones(len(observation), np.int64)

    monkeypatch.setattr(sys.modules["nl_agents.agents"], "load", load, raising=False)
    words = ["evaluate", "model.zip", "--sequence", "cartpole-flip"]
    assert cli.main([*words, "--episodes", "6"]) == 0
    printed = capsys.readouterr().out
    assert loaded == [Path("model.zip")]
    assert "standard" in printed
    assert "flipped" in printed
    assert cli.main([*words, "--episodes", "0"]) == 2


def test_evaluate_reads_models_of_stable_baselines3(capsys: pytest.CaptureFixture[str]) -> None:
    from stable_baselines3 import PPO

    PPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu").save("model.zip")
    words = ["evaluate", "model.zip", "--model-class", "stable_baselines3:PPO", "--episodes", "4", "--device", "cpu"]
    assert cli.main(words) == 2
    assert "add --sequence" in capsys.readouterr().err
    assert cli.main([*words, "--sequence", "cartpole-flip"]) == 0
    assert "standard" in capsys.readouterr().out


def test_compare_writes_one_page(capsys: pytest.CaptureFixture[str]) -> None:
    for number, agent in enumerate(["hope", "ppo", "ppo"]):
        write_run(Path(f"runs/{number}"), simulated_life(number), agent=agent, sequence="mine", seed=number)
    assert cli.main(["compare", "runs/0", "runs/1", "runs/2", "--out", "page.html", "--against", "ppo"]) == 0
    assert Path("page.html").read_text().startswith("<!doctype html>")
    printed = capsys.readouterr().out
    assert "preliminary" in printed
    assert "than ppo" in printed
    assert cli.main(["compare", "runs/0", "--against", "rl2"]) == 2


def test_list_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "agents"]) == 0
    printed = capsys.readouterr().out
    assert "what hope is" in printed
    assert "switches *" in printed
    assert cli.main(["list", "sequences"]) == 0
    printed = capsys.readouterr().out
    for name, suite in envs.SUITES.items():
        assert all(f"{name}:{preset}" in printed for preset in suite.presets)
    assert cli.main(["list", "optimizers"]) == 0
    assert "DeepMomentum" in capsys.readouterr().out


def test_doctor_finds_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "torch" in printed
    assert "all that is required is here" in printed


def test_doctor_says_how_to_get_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nl_agents.cli import inventory

    monkeypatch.setattr(inventory, "REQUIRED", ("torch", "not-a-package"))
    monkeypatch.setattr(inventory, "OPTIONAL", {"not-another": "nice: pip install 'nl-agents[fast]'"})
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "pip install not-a-package" in printed
    assert "pip install 'nl-agents[fast]'" in printed
    assert "missing: not-a-package" in printed


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == nl_agents.__version__


def test_threads_auto_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        assert train("--threads", "auto") == 0
        assert torch.get_num_threads() >= 1
    finally:
        torch.set_num_threads(before)


def test_train_py_is_short_and_hands_over() -> None:
    text = (ROOT / "train.py").read_text()
    assert len(text.splitlines()) <= 20
    found = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--agent", "no-such-agent"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert "unknown agent 'no-such-agent'" in found.stderr
    assert "Traceback" not in found.stderr
