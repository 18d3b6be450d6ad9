"""Safety rules, told of made-up epochs."""

from __future__ import annotations

import json

import pytest

from nl_agents.control.safety import Safety, SafetyRules


def test_a_move_stays_for_its_dwell() -> None:
    safety = Safety(SafetyRules(dwell=3))
    assert safety.obstacle() is None
    safety.moved("lr", 0)
    for epoch in range(3):
        assert safety.obstacle() == "dwell"
        safety.judged(epoch, 0.0, ran_default=False, at_walk=True)
    assert safety.obstacle() is None


def test_a_control_epoch_does_not_count_as_dwell() -> None:
    safety = Safety(SafetyRules(dwell=1))
    safety.moved("lr", 0)
    safety.judged(0, 0.0, ran_default=True, at_walk=False)
    assert safety.obstacle() == "dwell"


def test_a_bad_epoch_after_a_move_is_rolled_back_but_not_one_long_after() -> None:
    safety = Safety(SafetyRules(watch=2, dwell=2))
    safety.moved("lr", -1)
    assert safety.judged(0, -3.5, ran_default=False, at_walk=True)
    assert safety.state.pending_rollback == ("lr", -1)
    late = Safety(SafetyRules(watch=2, dwell=2))
    late.moved("lr", 0)
    assert not late.judged(0, 0.0, ran_default=False, at_walk=True)
    assert not late.judged(1, 0.0, ran_default=False, at_walk=True)
    assert not late.judged(2, -9.0, ran_default=False, at_walk=True), "a drop without a move is the world's doing"


def test_too_many_rollbacks_freeze() -> None:
    safety = Safety(SafetyRules(alarms=2, alarm_window=100))
    for epoch in range(3):
        safety.moved("lr", 0)
        safety.judged(epoch, -5.0, ran_default=False, at_walk=True)
    assert safety.obstacle() == "frozen: 3 rollbacks within 100 epochs"


def test_old_alarms_expire() -> None:
    safety = Safety(SafetyRules(alarms=1, alarm_window=10))
    for epoch in (0, 20, 40):
        safety.moved("lr", 0)
        safety.judged(epoch, -5.0, ran_default=False, at_walk=True)
    assert safety.state.frozen is None


def test_cooldown_lasts_after_the_shift_itself() -> None:
    safety = Safety(SafetyRules(cooldown=2))
    safety.shifted()
    safety.void()  # the epoch that held the shift
    for _ in range(2):
        assert safety.obstacle() == "cooldown after a shift"
        safety.void()
    assert safety.obstacle() is None


@pytest.mark.parametrize(("name", "value"), [("dwell", 0), ("control_every", 0), ("cooldown", -1), ("bad", 0.0)])
def test_rules_that_cannot_be_kept_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        SafetyRules(**{name: value})


def test_state_goes_through_json_exactly() -> None:
    safety, twin = Safety(SafetyRules()), Safety(SafetyRules())
    safety.moved("lr", -2)
    safety.judged(7, -4.0, ran_default=False, at_walk=True)
    safety.moved("rate", 1)
    twin.load_state_dict(json.loads(json.dumps(safety.state_dict())))
    assert twin.state == safety.state
