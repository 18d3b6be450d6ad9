"""The meta-controller in toy worlds: it repairs, it does little harm, it credits what ran, and it keeps its rules."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nl_agents.control import Decision, MetaController, SafetyRules, replay
from nl_agents.errors import StateMismatchError

SPACE: dict[str, int | float | bool] = {
    "level.slow.period": 16,
    "level.slow.lr": 3e-4,
    "replay.ratio": 1.0,
    "level.slow.on": True,
}
World = Callable[[dict[str, int]], float]


def make_controller(seed: int = 0, **options: Any) -> MetaController:
    return MetaController(SPACE, seed=seed, **options)


def live(controller: MetaController, world: World, epochs: int, seed: int, begin: int = 0) -> list[Decision]:
    """Runs epochs of 30 noisy episodes whose mean depends on the positions in force."""
    rng = np.random.default_rng([seed, begin])
    decisions = []
    for epoch in range(begin, begin + epochs):
        decision = controller.propose(epoch)
        drift = rng.normal(0, 4)
        controller.observe(epoch, rng.normal(world(decision.positions) + drift, 25, 30).tolist())
        decisions.append(decision)
    return decisions


def lifetime(world: World, decisions: list[Decision]) -> float:
    return float(np.mean([world(decision.positions) for decision in decisions]))


# ------------------------------------------------------------------- what for


def test_it_repairs_a_misset_start() -> None:
    """The learning rate starts at 1/8 of what is good; every doubling is worth 20 of 100."""

    def world(positions: dict[str, int]) -> float:
        return 100 + 20 * positions["level.slow.lr"]

    gains, ends = [], []
    for seed in range(8):
        decisions = live(make_controller(seed), world, 100, seed)
        gains.append(lifetime(world, decisions) - 100)
        ends.append(np.mean([decision.positions["level.slow.lr"] for decision in decisions[-20:]]))
    assert np.mean(gains) > 15, gains
    assert min(gains) > -1, gains
    assert np.mean(ends) > 1.5, ends


def test_it_follows_a_best_setting_that_moves() -> None:
    """Non-stationary: long periods are good for 100 epochs, then short ones are; old evidence is in the way."""

    def before(positions: dict[str, int]) -> float:
        return 100 + 20 * positions["level.slow.period"]

    def after(positions: dict[str, int]) -> float:
        return 100 - 20 * positions["level.slow.period"]

    ends = []
    for seed in range(6):
        controller = make_controller(seed)
        first = live(controller, before, 100, seed)
        second = live(controller, after, 150, seed, begin=100)
        ends.append([np.mean([d.positions["level.slow.period"] for d in part[-20:]]) for part in (first, second)])
    assert np.mean(ends, axis=0)[0] > 1.5 and np.mean(ends, axis=0)[1] < 0.8, ends


@pytest.mark.parametrize("harm", [0.0, 3.0])
def test_it_costs_at_most_three_percent_where_the_default_is_best(harm: float) -> None:
    def world(positions: dict[str, int]) -> float:
        return 100 - harm * sum(abs(position) for position in positions.values())

    lives = [lifetime(world, live(make_controller(seed), world, 80, seed)) for seed in range(10)]
    assert np.mean(lives) >= 97, lives


# --------------------------------------------------------------------- credit


def test_credit_goes_to_the_decision_that_ran() -> None:
    """Off by one, every credit would name the neighbouring epoch's positions: compare with what really ran."""
    controller = make_controller(3)
    ran: dict[int, dict[str, int]] = {}
    rng = np.random.default_rng(0)
    for epoch in range(60):
        decision = controller.propose(epoch)
        ran[decision.id] = decision.positions
        bonus = 60 * decision.positions["level.slow.lr"]
        controller.observe(epoch, rng.normal(100 + bonus, 10, 30).tolist())
    credits = [record for record in controller.log if record["kind"] == "credit"]
    assert [record["decision"] for record in credits] == list(range(60))
    judged = [record for record in credits if record["credit"]]
    assert len(judged) > 40
    for record in judged:
        expected = 100 + 60 * ran[record["decision"]]["level.slow.lr"]
        assert abs(record["mean"] - expected) < 12, "the mean belongs to the positions that ran"
    means = controller._bandits["level.slow.lr"].means()
    assert np.argmax(means) > controller.grid["level.slow.lr"].home, means


def test_only_arms_in_force_are_credited() -> None:
    controller = make_controller(1)
    for epoch in range(30):
        before = {name: bandit.counts.copy() for name, bandit in controller._bandits.items()}
        decision = controller.propose(epoch)
        controller.observe(epoch, np.random.default_rng(epoch).normal(100, 10, 30).tolist())
        if controller.log[-1]["credit"]:
            for name, bandit in controller._bandits.items():
                grown = np.flatnonzero(bandit.counts > before[name])
                assert grown.tolist() == [decision.positions[name] + controller.grid[name].home]


def test_a_decision_is_logged_before_it_takes_effect() -> None:
    seen = []
    controller = make_controller(2)
    controller._on_record = lambda record: seen.append((record, controller.settings()))
    live(controller, lambda positions: 100.0, 30, 0)
    decisions = [(record, settings) for record, settings in seen if record["kind"] == "decision"]
    moved = [(r, s) for r, s in decisions if r["factor"] is not None]
    assert moved
    for record, settings_then in moved:
        assert settings_then[record["factor"]] != record["settings"][record["factor"]]
    credited = [record["decision"] for record, _ in seen if record["kind"] == "credit"]
    assert [record["id"] for record, _ in decisions] == credited


def test_void_epochs_teach_nothing() -> None:
    controller = make_controller()
    live(controller, lambda positions: 100.0, 10, 0)
    before = controller.state_dict()["bandits"]
    for returns in ([], [1.0, 2.0], [100.0] * 20 + [math.nan], [math.inf] * 30, [1e300] * 30):
        controller.propose(11)
        controller.observe(12, returns)
        assert controller.log[-1]["void"] is not None
        assert controller.log[-1]["credit"] == {}
    assert controller.state_dict()["bandits"] == before


def test_a_shift_voids_its_epoch_and_cools_down() -> None:
    controller = make_controller()
    live(controller, lambda positions: 100.0, 10, 0)
    rng = np.random.default_rng(0)
    before = controller.state_dict()["bandits"]
    first = controller.propose(10)
    controller.observe(10, [*rng.normal(100, 5, 20), *rng.normal(10, 5, 20)])
    assert controller.log[-1]["void"] == "shift"
    second = controller.propose(11)
    assert second.factor is None and second.reason == "cooldown after a shift"
    assert second.positions == first.positions
    controller.observe(11, rng.normal(10, 5, 40).tolist())
    assert controller.log[-1]["void"] == "cooldown"
    assert controller.state_dict()["bandits"] == before
    assert not controller._expectation.calibrated, "the new regime is unknown"


def test_a_shift_between_epochs_is_seen_where_nothing_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = make_controller()
    monkeypatch.setattr(controller, "_explore", lambda: (None, dict(controller._walk), "held for the test"))
    live(controller, lambda positions: 100.0, 8, 0)
    assert controller.log[-1]["void"] is None
    live(controller, lambda positions: 10.0, 1, 1)
    assert controller.log[-1]["void"] == "shift"


# --------------------------------------------------------------------- safety


def adversary(rng: np.random.Generator, epoch: int) -> list[float]:
    """Returns that no environment gives: empty, huge, tiny, NaN, constant, alternating."""
    kinds: list[list[float]] = [
        [],
        [math.nan] * 30,
        [math.inf, -math.inf] * 15,
        rng.normal(0, 1e90, 30).tolist(),
        rng.normal(0, 1e-90, 30).tolist(),
        [0.0] * 30,
        [(-1.0) ** epoch * 1e6] * 30,
        rng.standard_cauchy(30).tolist(),
        rng.normal(100, 10, 30).tolist(),
    ]
    return kinds[int(rng.integers(len(kinds)))]


@pytest.mark.parametrize("seed", range(5))
def test_bounds_and_steps_hold_under_adversarial_returns(seed: int) -> None:
    bounds = {"level.slow.lr": (1e-4, 1e-3), "level.slow.period": (8, 64)}
    controller = MetaController(SPACE, bounds, seed, rules=SafetyRules(alarms=1000))
    rng = np.random.default_rng(seed)
    previous = dict.fromkeys(SPACE, 0)
    for epoch in range(300):
        decision = controller.propose(epoch)
        settings = decision.settings
        assert 1e-4 <= settings["level.slow.lr"] <= 1e-3 and 8 <= settings["level.slow.period"] <= 64
        assert isinstance(settings["level.slow.period"], int) and isinstance(settings["level.slow.on"], bool)
        assert 1 / 8 <= settings["replay.ratio"] <= 8
        if decision.reason.startswith("control"):
            assert not any(decision.positions.values())
        else:
            changes = [abs(decision.positions[name] - previous[name]) for name in SPACE]
            assert sum(changes) <= 1, "one factor, one neighbour"
            assert (decision.factor is not None) == (sum(changes) == 1)
            previous = decision.positions
        controller.observe(epoch, adversary(rng, epoch))
    assert any(record["kind"] == "decision" and record["factor"] for record in controller.log)
    json.dumps(controller.log, allow_nan=False)
    json.dumps(controller.state_dict(), allow_nan=False)


def test_the_default_keeps_a_tenth_of_the_epochs() -> None:
    controller = make_controller(1)
    decisions = live(controller, lambda positions: 100 + 30 * positions["level.slow.lr"], 200, 1)
    at_home = [not any(decision.positions.values()) for decision in decisions]
    for begin in range(0, 190):
        assert any(at_home[begin : begin + 11]), f"no epoch at the default from {begin}"
    assert 0.08 <= np.mean(at_home[60:]) <= 0.5


def test_nothing_moves_before_the_expectation_is_calibrated() -> None:
    decisions = live(make_controller(), lambda positions: 100.0, 4, 0)
    assert [decision.factor for decision in decisions[:3]] == [None, None, None]


def test_a_move_that_a_bad_epoch_follows_is_rolled_back() -> None:
    controller = make_controller(0)
    rng = np.random.default_rng(0)
    for epoch in range(200):
        decision = controller.propose(epoch)
        if decision.factor is not None and decision.reason.startswith("sampled"):
            break
        controller.observe(epoch, rng.normal(100, 10, 30).tolist())
    assert decision.factor is not None
    controller.observe(epoch, rng.normal(-100, 10, 30).tolist())
    assert controller.log[-1]["rollback"]
    back = controller.propose(epoch + 1)
    assert back.factor == decision.factor and back.reason.startswith("rollback")
    assert back.positions == {**decision.positions, decision.factor: back.position}
    assert abs(back.positions[decision.factor] - decision.positions[decision.factor]) == 1
    assert controller._bandits[decision.factor].mean(decision.positions[decision.factor]) < -0.5


def test_many_rollbacks_freeze_at_the_default() -> None:
    def world(positions: dict[str, int]) -> float:
        return 100 - 1000 * any(positions.values())

    controller = make_controller(0, rules=SafetyRules(alarms=2, alarm_window=10_000))
    decisions = live(controller, world, 200, 0)
    assert decisions[-1].reason.startswith("frozen: 3 rollbacks")
    assert controller.settings() == SPACE


def test_the_kill_switch_returns_to_the_default() -> None:
    controller = make_controller(1)
    live(controller, lambda positions: 100 + 30 * positions["level.slow.lr"], 60, 1)
    assert controller.settings() != SPACE
    controller.freeze("operator")
    for epoch in range(60, 80):
        decision = controller.propose(epoch)
        assert decision.settings == SPACE and decision.reason == "frozen: operator"
        controller.observe(epoch, [100.0] * 30)
    controller.thaw()
    assert any(decision.factor for decision in live(controller, lambda positions: 100.0, 30, 2, begin=80))


def test_a_space_of_nothing_holds_still() -> None:
    controller = MetaController({}, {}, 0)
    assert [d.factor for d in live(controller, lambda positions: 100.0, 10, 0)] == [None] * 10


# ------------------------------------------------------------- order, resuming


def test_propose_and_observe_alternate() -> None:
    controller = make_controller()
    with pytest.raises(ValueError, match=r"expected propose\(\) before observe\(\)"):
        controller.observe(0, [1.0])
    controller.propose(0)
    with pytest.raises(ValueError, match=r"expected observe\(\) for decision 0"):
        controller.propose(1)


@pytest.mark.parametrize("pending", [False, True])
def test_resume_is_exact(pending: bool) -> None:
    def world(positions: dict[str, int]) -> float:
        return 100 + 10 * positions["level.slow.lr"]

    one, two = make_controller(5), make_controller(6)
    live(one, world, 37, 5)
    if pending:
        one.propose(37)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert two.settings() == one.settings()
    for controller in (one, two):
        if pending:
            controller.observe(37, [101.0, 99.0] * 15)
    ahead = [live(controller, world, 60, 7, begin=38) for controller in (one, two)]
    assert ahead[0] == ahead[1]
    assert one.state_dict() == two.state_dict()


def test_the_state_of_another_controller_is_refused() -> None:
    state = make_controller().state_dict()
    with pytest.raises(StateMismatchError, match="expected a controller over"):
        MetaController({"lr": 1.0}).load_state_dict(state)
    with pytest.raises(StateMismatchError, match="version 1, got 99"):
        make_controller().load_state_dict({**state, "version": 99})


def test_the_log_alone_reproduces_the_settings() -> None:
    lines: list[str] = []
    controller = make_controller(4, on_record=lambda record: lines.append(json.dumps(record)))
    decisions = live(controller, lambda positions: 100 + 20 * positions["replay.ratio"], 80, 4)
    records = [json.loads(line) for line in lines]
    assert [replay(records, decision.step) for decision in decisions] == [d.settings for d in decisions]
    assert replay(records) == controller.settings()
    assert len({tuple(d.settings.items()) for d in decisions}) > 3
    with pytest.raises(ValueError, match="expected at least one decision up to step -1"):
        replay(records, -1)


def test_a_controller_shows_its_levels() -> None:
    controller = MetaController({"fast.rate": 1e-3, "slow.rate": 1e-3, "slow.period": 16}, seed=0)
    rows = controller.levels()
    assert [row.name for row in rows] == ["control", "control.bandits", "control.expectation"]
    assert rows[0].stores == "3 settings (period, rate)" and "21 positions of 3 factors" in rows[1].stores
    assert {(row.period, row.unit, row.scope) for row in rows} == {(1, "decision epoch", "life")}
