from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from nl_agents.errors import ConfigError
from nl_agents.evaluation import Lifetime, compare, lifelong_metrics, task_table
from nl_agents.evaluation.comparison import FIGURES, describe
from nl_agents.evaluation.statistics import Interval
from tests.evaluation.lives import LEVELS, blocks, life_of, simulated_life
from tests.evaluation.runs import write_run


def level_life(level: float) -> Lifetime:
    return simulated_life(0, block=800, level=level)


def test_rows_are_ordered_and_their_intervals_hold_the_seeds() -> None:
    groups = {
        "poor": [level_life(0.1), level_life(0.3)],
        "good": [level_life(level) for level in np.linspace(0.5, 0.9, 10)],
    }
    rows = compare(groups, reference=LEVELS)
    assert [row["agent"] for row in rows] == ["good", "poor"]
    good, poor = rows
    assert (good["seeds"], good["preliminary"]) == (10, False)
    assert (poor["seeds"], poor["preliminary"]) == (2, True)
    assert poor["normalised_return"] == pytest.approx(Interval(0.2, 0.1, 0.3))
    assert good["normalised_return"].estimate == pytest.approx(0.7)
    assert 0.5 <= good["normalised_return"].low < 0.7 < good["normalised_return"].high <= 0.9
    assert good["improvement"] == (1.0, 1.0, 1.0)
    assert (good["improvement_over"], poor["improvement_over"]) == ("poor", "good")
    assert set(FIGURES) <= set(good)


def test_recognition_says_how_many_runs_ever_recognised() -> None:
    rows = compare({"x": [level_life(0.9), level_life(0.1)]}, reference=LEVELS)
    figures = [lifelong_metrics(level_life(level), LEVELS)["recognition_step"] for level in (0.9, 0.1)]
    assert math.isnan(figures[1])
    # with six visits of two tasks each task is revisited twice only: none can be called recognised
    assert rows[0]["recognised"] == sum(map(math.isfinite, figures))
    assert rows[0]["recognition_step"] is None


def test_run_folders_are_grouped_by_the_agent_they_name(tmp_path: Path) -> None:
    for number, agent in enumerate(["hope", "ppo", "hope"]):
        write_run(tmp_path / str(number), level_life(0.2 * number), agent=agent)
    level_life(0.9).save(tmp_path / "record")
    rows = compare([*(tmp_path / str(number) for number in range(3))], reference=LEVELS, against="ppo")
    assert {row["agent"]: row["seeds"] for row in rows} == {"hope": 2, "ppo": 1}
    assert {row["agent"]: row["improvement_over"] for row in rows} == {"hope": "ppo", "ppo": "hope"}
    assert compare([tmp_path / "record"], reference=LEVELS)[0]["agent"] == "x"


def test_without_a_reference_the_time_weighted_return_decides() -> None:
    rows = compare({"low": [level_life(0.1)], "high": [level_life(0.2)]})
    assert [row["agent"] for row in rows] == ["high", "low"]
    assert rows[0]["normalised_return"] is None
    assert rows[0]["time_weighted_return"].estimate == pytest.approx(0.2)
    assert rows[0]["improvement"].estimate == 1.0


def test_task_table_has_a_row_a_run() -> None:
    table = task_table([level_life(0.25), level_life(0.75)], LEVELS)
    assert table == pytest.approx(np.array([[0.25, 0.25], [0.75, 0.75]]))


def test_equal_calls_give_equal_tables() -> None:
    groups = {"x": [simulated_life(seed) for seed in range(3)], "y": [simulated_life(9)]}
    assert compare(groups, reference=LEVELS, seed=1) == compare(groups, reference=LEVELS, seed=1)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one life"):
        compare([])
    with pytest.raises(ConfigError, match=r"against='z' is not among the agents compared, \['x'\]"):
        compare([level_life(0.1)], against="z")
    nameless = Lifetime.from_episodes([], blocks(100, 2), steps=200, num_envs=1)
    with pytest.raises(ConfigError, match="does not say which agent"):
        compare([nameless])
    write_run(tmp_path / "a", level_life(0.1), sequence="cartpole-flip:demo")
    write_run(tmp_path / "b", level_life(0.1), sequence="minigrid-recurring")
    with pytest.raises(ConfigError, match=r"one suite .*'cartpole-flip', 'minigrid-recurring'"):
        compare([tmp_path / "a", tmp_path / "b"])


def test_a_run_without_episodes_is_the_worst_not_a_crash() -> None:
    empty = life_of([], blocks(100, 2), steps=200, num_envs=1)
    rows = compare({"empty": [empty], "alive": [level_life(0.1)]}, reference=LEVELS)
    assert [row["agent"] for row in rows] == ["alive", "empty"]
    assert rows[0]["improvement"].estimate == 1.0


def test_describe() -> None:
    assert describe(Interval(0.5, 0.25, 1234.5)) == "0.50 [0.25, 1,234.50]"
    assert describe(None) == "-"
