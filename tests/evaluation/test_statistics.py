from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nl_agents.evaluation import cluster_bootstrap, iqm, probability_of_improvement, stratified_bootstrap
from nl_agents.evaluation.statistics import mean

RANDOM = np.random.default_rng(0)


def test_iqm_by_hand() -> None:
    assert iqm([0.0, 1.0, 2.0, 100.0]) == 1.5
    assert iqm([3.0]) == 3.0
    assert iqm([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]]).tolist() == [2.0, 6.0]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 30, 101])
def test_iqm_is_scipys_trimmed_mean(size: int) -> None:
    scores = RANDOM.normal(size=size)
    assert iqm(scores) == pytest.approx(stats.trim_mean(scores, 0.25))


def test_bootstrap_of_two_runs_by_hand() -> None:
    # draws of two runs out of {0, 1}: mean 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    interval = cluster_bootstrap([0.0, 1.0], mean)
    assert interval == (0.5, 0.0, 1.0)
    inner = cluster_bootstrap([0.0, 1.0], mean, level=0.4)  # the 30th and 70th percentile
    assert inner == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("bootstrap", [cluster_bootstrap, stratified_bootstrap])
def test_bootstrap_agrees_with_scipy(bootstrap: object) -> None:
    scores = np.random.default_rng(1).gamma(2.0, size=25)
    ours = bootstrap(scores, mean, repeats=20_000)  # type: ignore[operator]
    theirs = stats.bootstrap((scores,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.high, abs=0.03)


def test_resampling_whole_runs_is_wider_where_the_tasks_of_a_run_go_together() -> None:
    run = np.random.default_rng(2).normal(size=(12, 1))
    scores = run + 0.01 * np.random.default_rng(3).normal(size=(12, 6))
    cluster, stratified = cluster_bootstrap(scores, mean), stratified_bootstrap(scores, mean)
    assert cluster.estimate == stratified.estimate == pytest.approx(scores.mean())
    assert cluster.high - cluster.low > 1.8 * (stratified.high - stratified.low)


def test_equal_seeds_give_equal_intervals_and_global_randomness_is_left_alone() -> None:
    scores = np.arange(9.0)
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    first = cluster_bootstrap(scores, seed=3)
    assert np.array_equal(before, np.random.get_state()[1])
    assert first == cluster_bootstrap(scores, seed=3)
    assert first != cluster_bootstrap(scores, seed=4)


def test_many_draws_in_batches_equal_their_parts() -> None:
    interval = cluster_bootstrap(np.zeros((300, 40)), repeats=2000)
    assert interval == (0.0, 0.0, 0.0)


def test_probability_of_improvement_by_hand_and_by_scipy() -> None:
    ours, theirs = [1.0, 2.0, 2.0], [0.0, 2.0]
    found = probability_of_improvement(ours, theirs)
    # against 0 all three win; against 2 one loses and two tie
    assert found.estimate == pytest.approx((3 + 0 + 2 * 0.5) / 6)
    assert found.estimate == pytest.approx(stats.mannwhitneyu(ours, theirs).statistic / 6)
    assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_improvement_is_certain_where_all_are_better_and_even_where_all_are_equal() -> None:
    assert probability_of_improvement([2.0, 3.0], [0.0, 1.0]) == (1.0, 1.0, 1.0)
    assert probability_of_improvement([1.0, 1.0], [1.0]) == (0.5, 0.5, 0.5)


def test_bad_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="not empty, got shape"):
        cluster_bootstrap([])
    with pytest.raises(ValueError, match="1 that are not"):
        cluster_bootstrap([1.0, np.nan])
    with pytest.raises(ValueError, match="same tasks, got 2 and 1 columns"):
        probability_of_improvement([[1.0, 2.0]], [[1.0]])
    with pytest.raises(ValueError, match=r"level must lie in \(0, 1\)"):
        cluster_bootstrap([1.0], level=95)
    with pytest.raises(ValueError, match="repeats must be an integer >= 1"):
        cluster_bootstrap([1.0], repeats=0)
    with pytest.raises(ValueError, match="at least one score"):
        iqm([])
