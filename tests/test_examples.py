"""Examples run, and so does every Python block of README.md, with fewer steps than a reader would take."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nl_agents import agents, envs

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
SHORTER = {"250_000": "1_024", "100_000": "1_600", "4_096": "1_024", "n_steps=64": "n_steps=16"}


def load(name: str) -> ModuleType:
    """Imports an example by its file name."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_examples_is_whole() -> None:
    tested = {
        "01_memory_core",
        "02_task_sequence",
        "03_train_and_resume",
        "04_evaluate_any_agent",
        "05_stack_levels",
        "06_sb3_recurrent",
        "07_sb3_window",
        "08_cleanrl_loop",
        "09_skrl",
    }
    assert {path.stem for path in EXAMPLES} == tested
    for path in EXAMPLES:
        most = 70 if path.stem in ("08_cleanrl_loop", "09_skrl") else 60  # a whole algorithm, a whole host
        assert len(path.read_text("utf-8").splitlines()) <= most, f"{path.name} is longer than a page"
        assert f"python examples/{path.name}" in path.read_text("utf-8")


def test_a_core_remembers_the_cue() -> None:
    assert load("01_memory_core").main(updates=90) > 0.9, "guessing is right half of the time"


def test_a_sequence_of_ones_own_switches_on_its_schedule() -> None:
    assert load("02_task_sequence").main(steps=4_000) == [(0, "left"), (2_000, "right"), (4_000, "left")]


def test_a_stopped_life_goes_on_exactly() -> None:
    assert load("03_train_and_resume").main(steps=600) > 10_000


def test_anything_that_acts_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    lives = load("04_evaluate_any_agent").main(steps=2_000)
    assert set(lives) == {"rule", "sb3 ppo", "rl2"}
    assert all(life.steps >= 2_000 and len(life) > 10 for life in lives.values())
    assert capsys.readouterr().out.count("normalised lifelong return") == 3


def test_levels_of_rate_zero_leave_a_trained_policy_as_it_is_and_others_move_it() -> None:
    lives = load("05_stack_levels").main(steps=512)
    plain, zero, moved = (lives[name][0].policy.state_dict() for name in ("plain", "rate 0", "levels"))
    assert list(plain) == list(zero) == list(moved)
    assert all(torch.equal(value, zero[name]) for name, value in plain.items())
    assert not torch.equal(plain["action_net.weight"], moved["action_net.weight"])
    assert lives["plain"][1] == lives["rate 0"][1] > 0.0


def test_recurrent_models_of_sb3_go_on_with_their_memory(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sb3_contrib")
    models = load("06_sb3_recurrent").main(steps=2_048)
    assert models["fast"].num_timesteps == 2 * 2_048 and models["fast"].collector.packed().abs().max() > 0
    printed = capsys.readouterr().out
    assert "newborn  memory" in printed and "actor.memory.never" in printed


def test_windows_give_memory_to_algorithms_without(capsys: pytest.CaptureFixture[str]) -> None:
    models = load("07_sb3_window").main(steps=132)
    assert [model.num_timesteps for model in models] == [256, 132, 132, 256]
    assert "DeepMomentum" in capsys.readouterr().out


@pytest.mark.parametrize("core", ["hope", "gru"])
def test_a_loop_of_ones_own_learns(core: str) -> None:
    lengths = load("08_cleanrl_loop").main(updates=25, core_name=core)
    assert len(lengths) == 25 and max(lengths[-5:]) > 1.2 * lengths[0]


@pytest.mark.filterwarnings("default")  # skrl's dependencies
@pytest.mark.parametrize("core", ["hope", "lstm"])
def test_skrl_trains_with_a_core(core: str) -> None:
    pytest.importorskip("skrl")
    agent = load("09_skrl").main(steps=128, core_name=core)
    assert all(bool(value.isfinite().all()) for value in agent.policy.parameters())


def test_the_readme_has_its_blocks() -> None:
    assert len(BLOCKS) == 5
    assert len(BLOCKS[0].splitlines()) <= 24, "'twenty lines of Python' has grown"
    assert len([line for line in BLOCKS[1].splitlines() if line]) <= 10, "an own sequence takes ten lines or fewer"


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_readme_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = BLOCKS[number]
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    exec(compile(text, "README.md", "exec"), {"__name__": "page"})


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_points_to_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = set(re.findall(r"`((?:nl_agents|tests|benchmarks|examples)/[\w/]+\.py)(?:::(\w+))?`", text))
    for path, test in named:
        assert (ROOT / path).is_file(), f"{page.name} names {path}"
        assert f"def {test}(" in (ROOT / path).read_text("utf-8") or not test, f"{page.name} names {path}::{test}"
    if page.name == "paper_map.md":
        assert len(named) > 15


def test_the_concepts_page_has_the_figures_of_the_default_agent() -> None:
    text = (ROOT / "docs" / "concepts.md").read_text("utf-8")
    agent = agents.make("hope", envs.make_sequence("cartpole-flip", num_envs=1), device="cpu")
    assert f"(width {agent.config.memory.width}, {agent.policy.core.state_size:,} floats of state a stream)" in text
    for level in agent.levels():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{level.name}`"))
        known = {
            "core.memory.episode": "every env step",
            "core.memory.never": "the same",
            "weights": "every learner update",
        }
        expected = known.get(level.name, f"{level.period} {level.unit}")
        assert expected.removeprefix("1 ") in row, f"{row} should say {expected}"
    assert f"anchored for {agent.config.memory.chunk} steps" in text
