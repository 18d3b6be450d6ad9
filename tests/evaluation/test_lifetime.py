from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nl_agents.errors import RunFolderError
from nl_agents.evaluation import Lifetime
from nl_agents.evaluation.lifetime import ARRAYS
from tests.evaluation.lives import blocks, simulated_life
from tests.evaluation.runs import write_run


def assert_same(left: Lifetime, right: Lifetime) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    for name in ("task_names", "task_log", "effective_log", "steps", "num_envs"):
        assert getattr(left, name) == getattr(right, name), name


@pytest.mark.parametrize("name", ["life", "life.npz", "life.json", "seed.1"])
def test_saved_and_loaded_lives_are_equal(tmp_path: Path, name: str) -> None:
    life = simulated_life(1)
    assert life.save(tmp_path / name).suffix == ".npz"
    found = Lifetime.load(tmp_path / name)
    assert_same(life, found)
    assert found.meta == life.meta


def test_no_pickle_is_needed_to_load(tmp_path: Path) -> None:
    path = simulated_life().save(tmp_path / "life")
    with np.load(path, allow_pickle=False) as columns:
        assert {columns[name].dtype.kind for name in ARRAYS} == {"i", "f"}


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    simulated_life().save(tmp_path / "life")
    text = json.loads((tmp_path / "life.json").read_text())
    (tmp_path / "life.json").write_text(json.dumps({**text, "format": 99}))
    with pytest.raises(RunFolderError, match="format is 99"):
        Lifetime.load(tmp_path / "life")


def test_a_run_folder_gives_the_life_that_was_written(tmp_path: Path) -> None:
    life = simulated_life(2)
    write_run(tmp_path / "run", life, agent="hope", sequence="cartpole-flip", seed=2)
    found = Lifetime.from_run_folder(tmp_path / "run")
    assert_same(life, found)
    assert found.meta["agent"] == "hope"


def test_a_last_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    life = simulated_life()
    write_run(tmp_path / "run", life)
    path = tmp_path / "run" / "episodes.csv"
    path.write_text(path.read_text() + "999,0,a,0.")
    assert len(Lifetime.from_run_folder(tmp_path / "run")) == len(life)


def test_a_spoilt_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_run(tmp_path / "run", simulated_life())
    path = tmp_path / "run" / "episodes.csv"
    lines = path.read_text().splitlines()
    lines[2] = "12,0"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunFolderError, match=r"episodes.csv line 3: expected 6 fields"):
        Lifetime.from_run_folder(tmp_path / "run")


def test_an_unfinished_life_is_as_long_as_it_was_lived(tmp_path: Path) -> None:
    life = simulated_life(block=6400, count=6)
    write_run(tmp_path / "run", life, planned=1_000_000)
    assert Lifetime.from_run_folder(tmp_path / "run").steps == life.steps


@pytest.mark.parametrize("name", ["config.json", "episodes.csv", "task_log.csv"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "run", simulated_life())
    (tmp_path / "run" / name).unlink()
    with pytest.raises(RunFolderError, match=f"expected {name} in .*run, found none"):
        Lifetime.from_run_folder(tmp_path / "run")


def test_a_spoilt_config_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run", simulated_life())
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"config.json should hold JSON"):
        Lifetime.from_run_folder(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("[]")
    with pytest.raises(RunFolderError, match=r"should hold a JSON object, got list"):
        Lifetime.from_run_folder(tmp_path / "run")


def test_columns_of_unequal_length_are_refused() -> None:
    life = simulated_life()
    columns = {name: getattr(life, name) for name in ARRAYS} | {"step": life.step[:-1]}
    with pytest.raises(ValueError, match="columns of one length"):
        Lifetime(**columns, task_names=("a", "b"), task_log=((0, "a"),), num_envs=4)


def test_a_task_log_that_does_not_start_at_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must start with \(0, first task\)"):
        Lifetime.from_episodes([], [(5, "a")], steps=10, num_envs=1)


def test_a_stream_beyond_num_envs_is_refused() -> None:
    life = simulated_life()
    columns = {name: getattr(life, name) for name in ARRAYS}
    with pytest.raises(ValueError, match=r"stream indices must lie in 0..1"):
        Lifetime(**columns, task_names=("a", "b"), task_log=tuple(blocks(6400, 6)), steps=life.steps, num_envs=2)
