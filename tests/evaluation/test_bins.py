from __future__ import annotations

import math

import numpy as np
import pytest

from nl_agents.evaluation import Lifetime, find_visits, lifelong_metrics, task_scores
from nl_agents.evaluation.bins import bin_returns, weighted_mean
from tests.evaluation.lives import LEVELS, blocks, life_of, simulated_life


def values(life: Lifetime, bins_per_task: int) -> list[float]:
    return bin_returns(life, find_visits(life), bins_per_task).value.tolist()


def test_bins_by_hand_one_stream() -> None:
    rows = [
        (0, 30, "a", 0.2, 0),
        (30, 45, "a", 0.4, 0),  # bin 1 (26..50) has two: mean 0.3
        (45, 90, "a", 0.8, 0),  # bin 3; bin 2 carries 0.4's bin mean
        (90, 120, "b", 9.0, 0),  # straddles: counts for neither
        (120, 180, "b", 0.6, 0),  # bin 3 of the second visit; the bins before take it too
    ]
    life = life_of(rows, blocks(100, 2), steps=200, num_envs=1)
    assert values(life, 4) == pytest.approx([0.3, 0.3, 0.3, 0.8, 0.6, 0.6, 0.6, 0.6])


def test_streams_are_averaged_before_bins_whatever_their_number_of_episodes() -> None:
    many = [(begin, begin + 10, "a", 0.0, 0) for begin in range(0, 100, 10)]
    life = life_of([*many, (0, 100, "a", 1.0, 1)], [(0, "a")], steps=100, num_envs=2)
    assert values(life, 2) == pytest.approx([0.5, 0.5])


def test_a_stream_without_a_finished_episode_is_left_out_and_so_is_an_empty_visit() -> None:
    rows = [(0, 50, "a", 1.0, 0), (100, 150, "b", 0.5, 0)]
    life = life_of(rows, blocks(100, 3), steps=300, num_envs=2)
    assert values(life, 2)[:4] == pytest.approx([1.0, 1.0, 0.5, 0.5])
    assert all(map(math.isnan, values(life, 2)[4:]))
    figures = lifelong_metrics(life, LEVELS)
    assert figures["coverage"] == pytest.approx(2 / 3)
    assert figures["normalised_return"] == pytest.approx(0.75)


def test_a_short_last_bin_weighs_by_its_steps() -> None:
    rows = [(0, 100, "a", 1.0, 0), (100, 210, "b", 0.0, 0), (210, 220, "a", 1.0, 0)]
    life = life_of(rows, [(0, "a"), (100, "b"), (210, "a")], steps=230, num_envs=1)
    # visits of 100, 110 and 20 steps, hence bins of 105 / 20 = 5.25 steps
    assert lifelong_metrics(life, LEVELS)["normalised_return"] == pytest.approx(120 / 230)


def test_normalisation_puts_random_at_zero_and_the_expert_at_one() -> None:
    reference = {"a": {"random": -10.0, "expert": 30.0}, "b": {"random": 0.0, "expert": 20.0}}
    rows = [(0, 50, "a", 30.0, 0), (100, 150, "b", 0.0, 0)]
    life = life_of(rows, blocks(100, 2), steps=200, num_envs=1)
    figures = lifelong_metrics(life, reference)
    assert figures["normalised_return/a"] == pytest.approx(1.0)
    assert figures["normalised_return/b"] == pytest.approx(0.0)
    assert figures["normalised_return"] == pytest.approx(0.5)
    assert task_scores(life, reference) == pytest.approx({"a": 1.0, "b": 0.0})


@pytest.mark.parametrize("level", [0.0, 0.37, 1.0])
def test_a_life_at_one_level_scores_that_level_however_long_its_episodes(level: float) -> None:
    life = simulated_life(block=1600, level=level)  # episodes of up to half a visit
    assert lifelong_metrics(life, LEVELS)["normalised_return"] == pytest.approx(level)


def slow_values(life: Lifetime, bins_per_task: int) -> list[float]:
    """The judge: bin by bin, stream by stream, in plain loops, for tasks of one length and exact steps."""
    starts = [step for step, _ in life.task_log] + [life.steps]
    length = starts[1]
    width = length / bins_per_task
    found = []
    for visit, start in enumerate(starts[:-1]):
        table = np.full((bins_per_task, life.num_envs), np.nan)
        for stream in range(life.num_envs):
            for position in range(bins_per_task):
                low, high = start + position * width, start + (position + 1) * width
                inside = [
                    life.returns[row]
                    for row in range(len(life))
                    if life.stream[row] == stream
                    and life.begin[row] >= start
                    and life.step[row] <= starts[visit + 1]
                    and low < life.step[row] <= high
                ]
                if inside:
                    table[position, stream] = np.mean(inside)
                elif position:
                    table[position, stream] = table[position - 1, stream]
            known = np.flatnonzero(np.isfinite(table[:, stream]))
            if len(known):
                table[: known[0], stream] = table[known[0], stream]
        found += [float(np.nanmean(row)) for row in table]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_bins_equal_the_slow_judge(seed: int) -> None:
    life = simulated_life(seed, block=3200, count=5, num_envs=4)
    assert values(life, 20) == pytest.approx(slow_values(life, 20))


def test_weighted_mean_of_nothing_is_not_a_number() -> None:
    assert math.isnan(weighted_mean(np.array([np.nan]), np.array([1.0])))
