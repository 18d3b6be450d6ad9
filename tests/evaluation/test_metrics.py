from __future__ import annotations

import math

import numpy as np
import pytest

from nl_agents.errors import ConfigError, ReferenceMissingError
from nl_agents.evaluation import Lifetime, lifelong_metrics
from tests.evaluation.lives import LEVELS, blocks, life_of, simulated_life


def steady(returns_by_visit: list[float], block: int = 100) -> Lifetime:
    """One stream, ten equal episodes a visit."""
    rows = []
    for visit, value in enumerate(returns_by_visit):
        start = visit * block
        step = block // 10
        rows += [(start + i * step, start + (i + 1) * step, "ab"[visit % 2], value, 0) for i in range(10)]
    return life_of(rows, blocks(block, len(returns_by_visit)), steps=block * len(returns_by_visit), num_envs=1)


def test_time_weighted_return_by_hand() -> None:
    life = life_of([(0, 10, "a", 1.0, 0), (10, 40, "a", 5.0, 0)], [(0, "a")], steps=40, num_envs=1)
    assert lifelong_metrics(life)["time_weighted_return"] == pytest.approx((1 * 10 + 5 * 30) / 40)


def test_revisit_savings_by_hand() -> None:
    figures = lifelong_metrics(steady([0.2, 0.0, 0.6, 0.5, 1.0, 1.0]), LEVELS)
    # a: 1 - .4/.8 = .5, then 1; b: 1 - .5/1 = .5, then 1
    assert figures["revisit_savings"] == pytest.approx(0.75)


def test_savings_need_a_revisit() -> None:
    assert math.isnan(lifelong_metrics(steady([0.2, 0.4]), LEVELS)["revisit_savings"])


def test_switch_regret_by_hand() -> None:
    # the first visit is no switch; the second loses 0.25 x 100 steps, the third nothing
    assert lifelong_metrics(steady([0.0, 0.75, 1.0]), LEVELS)["switch_regret"] == pytest.approx(12.5)


def test_return_at_the_end_of_the_last_visit() -> None:
    figures = lifelong_metrics(steady([0.1, 0.2, 0.3, 0.4, 0.5]), LEVELS)
    assert figures["end_return/a"] == pytest.approx(0.5)
    assert figures["end_return/b"] == pytest.approx(0.4)


def test_without_a_reference_only_raw_figures_are_given() -> None:
    figures = lifelong_metrics(steady([0.1, 0.2]))
    assert "time_weighted_return" in figures
    assert not any(name.startswith("normalised") for name in figures)


def test_a_named_suite_without_reference_says_how_to_make_one() -> None:
    with pytest.raises(ReferenceMissingError, match=r"no stored reference for 'nowhere'.*write_reference"):
        lifelong_metrics(steady([0.1]), "nowhere:quick")


def test_a_reference_that_lacks_a_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"also visits \['b'\]"):
        lifelong_metrics(steady([0.1, 0.2]), {"a": LEVELS["a"]})


def test_a_life_without_any_episode_has_no_figures_but_does_not_fail() -> None:
    figures = lifelong_metrics(life_of([], blocks(100, 2), steps=200, num_envs=1), LEVELS)
    assert figures["coverage"] == 0.0
    assert math.isnan(figures["normalised_return"])
    assert math.isnan(figures["time_weighted_return"])


def test_figures_do_not_depend_on_the_order_of_the_episodes() -> None:
    life = simulated_life(3)
    order = np.random.default_rng(0).permutation(len(life))
    columns = {name: getattr(life, name)[order] for name in ("step", "stream", "task", "returns", "length", "begin")}
    mixed = Lifetime(**columns, task_names=life.task_names, task_log=life.task_log, steps=life.steps, num_envs=4)
    assert lifelong_metrics(mixed, LEVELS) == pytest.approx(lifelong_metrics(life, LEVELS), nan_ok=True)


def test_a_life_of_a_hundred_thousand_episodes_is_measured_exactly() -> None:
    life = simulated_life(0, block=200_000, count=60, num_envs=16, level=0.25)
    assert len(life) > 100_000
    figures = lifelong_metrics(life, LEVELS)
    assert figures["normalised_return"] == pytest.approx(0.25)
    assert figures["coverage"] == 1.0
    assert figures["recovery_censored"] == 1.0
