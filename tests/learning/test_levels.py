"""Levels step at their period, with the sum of what they waited for."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from nl_agents.learning import LevelScheduler

PERIODS = {"weights": 1, "slow": 3, "slower": 4}


def make(periods: dict[str, int] = PERIODS, max_norm: float = 1e9) -> LevelScheduler:
    return LevelScheduler(
        {name: ([nn.Parameter(torch.zeros(2))], period) for name, period in periods.items()}, max_norm
    )


def gather(scheduler: LevelScheduler, gradient: float) -> dict[str, Tensor | None]:
    """One update in which every parameter has the same gradient; returns what each level is to step with."""
    for level in scheduler.levels:
        level.parameters[0].grad = torch.full((2,), gradient)
    scheduler.gather()
    return {level.name: level.parameters[0].grad for level in scheduler.levels}


def test_levels_step_only_at_their_period_with_the_sum() -> None:
    scheduler = make()
    stepped: dict[str, list[tuple[int, float]]] = {name: [] for name in PERIODS}
    for update in range(1, 13):
        for name, gradient in gather(scheduler, float(update)).items():
            if gradient is not None:
                stepped[name].append((update, float(gradient[0])))
    assert stepped["weights"] == [(update, float(update)) for update in range(1, 13)]
    assert stepped["slow"] == [(3, 6.0), (6, 15.0), (9, 24.0), (12, 33.0)]
    assert stepped["slower"] == [(4, 10.0), (8, 26.0), (12, 42.0)]


def test_each_level_is_clipped_by_itself_after_summing() -> None:
    scheduler = make({"weights": 1, "slow": 2}, max_norm=1.0)
    gather(scheduler, 0.4)
    gradients = gather(scheduler, 0.4)
    assert gradients["weights"] is not None and gradients["slow"] is not None
    assert gradients["weights"].norm().item() == pytest.approx(0.4 * math.sqrt(2.0))
    assert gradients["slow"].norm().item() == pytest.approx(1.0, abs=1e-5)


def test_gather_returns_the_fastest_norm_before_clipping() -> None:
    scheduler = make(max_norm=0.1)
    for level in scheduler.levels:
        level.parameters[0].grad = torch.tensor([3.0, 4.0])
    assert scheduler.gather().item() == pytest.approx(5.0)


def test_a_missing_gradient_counts_as_zero() -> None:
    scheduler = make({"weights": 1, "slow": 2})
    gather(scheduler, 2.0)
    for level in scheduler.levels:
        level.parameters[0].grad = None
    scheduler.gather()
    slow = scheduler.levels[1].parameters[0].grad
    assert slow is not None and slow.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_bad_gradient_does_not_spoil_a_sum(bad: float) -> None:
    scheduler = make({"weights": 1, "slow": 3})
    gather(scheduler, 1.0)
    fast = gather(scheduler, bad)["weights"]
    assert fast is not None and not fast.isfinite().any()  # for the optimizer to refuse
    slow = gather(scheduler, 1.0)["slow"]
    assert slow is not None and slow.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("period", [1, 2, 7])
def test_a_new_period_flushes_the_partial_sum_with_the_next_update(period: int) -> None:
    scheduler = make({"weights": 1, "slow": 5})
    for _ in range(3):
        gather(scheduler, 1.0)
    scheduler.set_period("slow", period)
    assert scheduler.periods() == {"weights": 1, "slow": period}
    flushed = gather(scheduler, 10.0)["slow"]
    assert flushed is not None and flushed.tolist() == [13.0, 13.0]
    due = [gather(scheduler, 1.0)["slow"] is not None for _ in range(14)]
    assert [update for update, is_due in enumerate(due, 1) if is_due] == list(range(period, 15, period))


def test_a_level_of_period_one_may_become_slow() -> None:
    scheduler = make({"weights": 1, "slow": 1})
    gather(scheduler, 1.0)
    scheduler.set_period("slow", 2)
    assert gather(scheduler, 1.0)["slow"] is None
    summed = gather(scheduler, 1.0)["slow"]
    assert summed is not None and summed.tolist() == [2.0, 2.0]


def test_a_saved_scheduler_goes_on_alike() -> None:
    one, other = make(), make()
    for update in range(5):
        gather(one, float(update))
    one.set_period("slow", 6)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for update in range(5, 30):
        mine, theirs = gather(one, float(update)), gather(other, float(update))
        for name in PERIODS:
            a, b = mine[name], theirs[name]
            assert (a is None) == (b is None) and (a is None or b is None or torch.equal(a, b))


def test_rows_name_period_and_unit() -> None:
    rows = make().infos()
    assert [(row.name, row.stores, row.period, row.unit, row.scope) for row in rows] == [
        ("weights", "2 weights", 1, "learner update", "life"),
        ("slow", "2 weights", 3, "learner update", "life"),
        ("slower", "2 weights", 4, "learner update", "life"),
    ]


def test_bad_periods_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match="period of slow must be an integer >= 1"):
        make().set_period("slow", 0)
    with pytest.raises(ValueError, match="no level 'slwo'; levels are weights, slow, slower"):
        make().set_period("slwo", 2)
