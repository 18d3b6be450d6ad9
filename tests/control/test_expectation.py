"""Expectation and shift detector."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from nl_agents.control.expectation import Expectation, ShiftDetector, change_score


def test_noise_scores_low_and_a_switch_scores_high() -> None:
    rng = np.random.default_rng(0)
    quiet = [change_score(rng.normal(50, 10, 40).tolist()) for _ in range(300)]
    switch = [change_score([*rng.normal(50, 10, 20), *rng.normal(10, 10, 20)]) for _ in range(300)]
    assert np.mean(np.array(quiet) > 6) < 0.01
    assert np.mean(np.array(switch) > 6) > 0.95


@pytest.mark.parametrize("scale", [1e-80, 1e-3, 1.0, 1e80])
def test_the_score_has_no_unit(scale: float) -> None:
    rng = np.random.default_rng(3)
    returns = [*rng.normal(5, 1, 15), *rng.normal(1, 1, 15)]
    assert change_score([scale * r for r in returns]) == pytest.approx(change_score(returns), rel=1e-6)


def test_constant_or_short_runs_score_zero() -> None:
    assert change_score([3.0] * 50) == 0.0
    assert change_score([0.0] * 50) == 0.0
    assert change_score([1.0, 2.0, 9.0]) == 0.0


def test_switches_in_every_epoch_become_usual() -> None:
    rng = np.random.default_rng(0)
    detector = ShiftDetector()
    seen = [detector.observe([*rng.normal(50, 5, 20), *rng.normal(10, 5, 20)]) for _ in range(60)]
    assert seen[0], "the first one is news"
    assert not any(seen[-20:]), "in the end they are the noise of this life"


def test_level_stays_that_of_the_default_while_other_settings_run() -> None:
    rng = np.random.default_rng(0)
    expectation = Expectation()
    for _ in range(10):
        expectation.absorb(100 + rng.normal(0, 5), 0.0, True)
    gain = 2.0
    for _ in range(40):
        expectation.absorb(100 + gain * expectation.regime.scale + rng.normal(0, 5), gain, False)
    assert expectation.regime.level == pytest.approx(100, abs=6)


def test_a_known_regime_is_found_again_and_a_new_one_is_founded() -> None:
    rng = np.random.default_rng(0)
    expectation = Expectation()
    for _ in range(20):
        expectation.absorb(100 + rng.normal(0, 5), 0.0, True)
    expectation.enter(400.0)
    assert expectation.current == 1 and not expectation.calibrated
    for _ in range(20):
        expectation.absorb(400 + rng.normal(0, 5), 0.0, True)
    expectation.enter(103.0)
    assert expectation.current == 0 and expectation.regime.level == pytest.approx(100, abs=5)


def test_regimes_are_few() -> None:
    expectation = Expectation(most_regimes=3)
    for level in range(10):
        for _ in range(5):
            expectation.absorb(1000.0 * level + 1, 0.0, True)
        expectation.enter(1000.0 * (level + 1))
    assert len(expectation.regimes) == 3


def test_state_goes_through_json_exactly() -> None:
    expectation, twin = Expectation(), Expectation()
    for mean in (1.0, 2.0, 3.5, 2.0):
        expectation.absorb(mean, 0.0, True)
    expectation.enter(50.0)
    expectation.absorb(51.0, 0.3, False)
    twin.load_state_dict(json.loads(json.dumps(expectation.state_dict())))
    assert [asdict(r) for r in twin.regimes] == [asdict(r) for r in expectation.regimes]
    assert twin.current == expectation.current
