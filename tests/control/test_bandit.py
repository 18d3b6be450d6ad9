"""The discounted ordinal bandit: prior, forgetting, borrowing from the inner neighbour."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nl_agents.control.bandit import OrdinalThompson
from nl_agents.control.grid import make_factor


def make_bandit(**options: float) -> OrdinalThompson:
    return OrdinalThompson(make_factor("lr", 1.0), **options)


def test_prior_is_zero_at_the_default_and_falls_outwards() -> None:
    means = make_bandit(penalty=0.1).means()
    np.testing.assert_allclose(means, [-0.3, -0.2, -0.1, 0.0, -0.1, -0.2, -0.3])


def test_posterior_mean_is_the_closed_form() -> None:
    bandit = make_bandit(forget=0.5, prior_weight=4.0, penalty=0.1)
    bandit.update(1, 2.0)
    bandit.update(1, 4.0)
    bandit.update(0, 1.0)
    # arm 1: n = (1 * .5 + 1) * .5, z = (2 * .5 + 4) * .5; arm 0: n = 1, z = 1
    assert bandit.mean(0) == pytest.approx(1 / 5)
    assert bandit.mean(1) == pytest.approx((2.5 + 4 * (1 / 5 - 0.1)) / (0.75 + 4))
    assert bandit.mean(2) == pytest.approx(bandit.mean(1) - 0.1), "an untried arm starts from its inner neighbour"
    assert bandit.mean(-1) == pytest.approx(1 / 5 - 0.1)


def test_evidence_is_forgotten() -> None:
    bandit = make_bandit(forget=0.9)
    bandit.update(1, 3.0)
    for _ in range(200):
        bandit.update(0, 0.0)
    assert bandit.mean(1) == pytest.approx(-0.3, abs=1e-3)


def test_samples_have_the_posterior_spread() -> None:
    bandit = make_bandit(spread=0.5, prior_weight=4.0)
    for _ in range(12):
        bandit.update(0, 1.0)
    rng = np.random.default_rng(0)
    drawn = np.stack([bandit.sample(rng) for _ in range(4000)])
    np.testing.assert_allclose(drawn.mean(0), bandit.means(), atol=0.02)
    np.testing.assert_allclose(drawn.std(0), 0.5 / np.sqrt(bandit.counts + 4), rtol=0.05)


def test_it_follows_a_best_arm_that_moves() -> None:
    """Non-stationary toy: arm +1 is best for 150 pulls, then arm -1."""
    rng = np.random.default_rng(1)
    bandit = make_bandit(forget=0.95)
    pulls = []
    for pull in range(400):
        position = int(np.argmax(bandit.sample(rng))) - bandit.factor.home
        best = 1 if pull < 150 else -1
        bandit.update(position, (1.0 if position == best else 0.0) + rng.normal(0, 0.5))
        pulls.append(position)
    assert np.mean(np.array(pulls[100:150]) == 1) > 0.7
    assert np.mean(np.array(pulls[-100:]) == -1) > 0.7


def test_state_goes_through_json_exactly() -> None:
    bandit, twin = make_bandit(), make_bandit()
    rng = np.random.default_rng(0)
    for _ in range(30):
        bandit.update(int(rng.integers(-3, 4)), float(rng.normal()))
    twin.load_state_dict(json.loads(json.dumps(bandit.state_dict())))
    assert np.array_equal(twin.means(), bandit.means())
