from __future__ import annotations

import json
from pathlib import Path

import pytest

from nl_agents.envs import SUITES
from nl_agents.errors import ConfigError, ReferenceMissingError
from nl_agents.evaluation import Levels, available_references, lifelong_metrics, load_reference, write_reference
from nl_agents.evaluation.reference import describe_reference, parse_reference
from tests.evaluation.lives import LEVELS, simulated_life


def test_written_and_loaded_levels_are_equal(tmp_path: Path) -> None:
    tasks = {"a": {"random": 1, "expert": 5, "seeds": [0, 1]}}
    path = write_reference(tmp_path / "mine.json", "mine", tasks, command="make x", commit="abc")
    assert load_reference(str(path)) == {"a": Levels(1.0, 5.0)}
    stored = describe_reference(str(path))
    assert (stored["command"], stored["commit"]) == ("make x", "abc")
    assert stored["tasks"]["a"]["seeds"] == [0, 1]


def test_a_reference_without_its_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the command and the commit"):
        write_reference(tmp_path / "mine.json", "mine", LEVELS, command=" ", commit="abc")


def test_every_shipped_reference_loads_and_says_where_it_comes_from() -> None:
    for name in available_references():
        assert load_reference(name) == load_reference(f"{name}:quick")
        stored = describe_reference(name)
        assert stored["suite"] == name
        assert stored["command"]
        assert stored["commit"]


@pytest.mark.parametrize("suite", SUITES)
def test_every_task_of_every_suite_has_two_levels(suite: str) -> None:
    assert set(load_reference(suite)) == set(SUITES[suite].tasks)


def test_an_unknown_suite_says_what_to_do() -> None:
    with pytest.raises(ReferenceMissingError, match=r"no stored reference for 'nowhere' \(stored: .*\); measure"):
        load_reference("nowhere:quick")


def test_a_life_without_a_known_suite_has_no_reference() -> None:
    assert "normalised_return" not in lifelong_metrics(simulated_life())


def test_a_reference_that_lacks_a_task_of_the_life_is_none() -> None:
    life = simulated_life()
    life.meta["sequence"] = "minigrid-memory-switch:paper"  # its tasks have levels, this life's have none
    assert "normalised_return" not in lifelong_metrics(life)
    with pytest.raises(ConfigError, match="the life also visits"):
        lifelong_metrics(life, reference="minigrid-memory-switch")


def test_pairs_do_as_well_as_names() -> None:
    assert parse_reference({"a": (0.0, 2.0)}) == {"a": Levels(0.0, 2.0)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"random": 1.0}, "expected .*'random': number"),
        (3.0, "expected .*'random': number"),
        ((1.0, 2.0, 3.0), "expected .*'random': number"),
        ({"random": 2.0, "expert": 1.0}, "above random, got random 2.0 and expert 1.0"),
        ({"random": 0.0, "expert": float("nan")}, "must be finite"),
    ],
)
def test_impossible_levels_are_refused(value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_reference({"a": value})


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"levels": {}}))
    with pytest.raises(ConfigError, match="should be format 1 with 'tasks'"):
        load_reference(str(tmp_path / "x.json"))
