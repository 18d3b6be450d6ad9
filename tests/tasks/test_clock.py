"""The clock follows its schedule and refuses one that makes no sense."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nl_agents.errors import StateMismatchError
from nl_agents.tasks import Cyclic
from nl_agents.tasks.clock import TaskClock


class Written:
    """A user's schedule: whatever list it is given."""

    def __init__(self, *switches: tuple[int, int]) -> None:
        self.list = switches

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        yield from self.list

    def shortest_block(self) -> float:
        return float("inf")


def test_several_switches_within_one_advance_are_all_logged() -> None:
    clock = TaskClock(Cyclic(3), 0, ["a", "b"])
    assert clock.scheduled == 0
    assert not clock.advance(2)
    assert clock.advance(8)
    assert clock.log == [(0, "a"), (3, "b"), (6, "a"), (9, "b")]
    assert (clock.now, clock.scheduled) == (10, 1)


def test_a_schedule_may_end_and_may_repeat_a_task() -> None:
    clock = TaskClock(Written((0, 0), (4, 0), (6, 1)), 0, ["a", "b"])
    clock.advance(10**9)
    assert clock.log == [(0, "a"), (6, "b")]


def test_rewind_follows_the_schedule_or_complains() -> None:
    old, new = TaskClock(Cyclic(3), 0, ["a", "b"]), TaskClock(Cyclic(3), 0, ["a", "b"])
    old.advance(10)
    new.rewind_to(10, list(old.log))
    assert (new.now, new.scheduled, new.log) == (old.now, old.scheduled, old.log)
    with pytest.raises(StateMismatchError, match="give the same schedule"):
        TaskClock(Cyclic(4), 0, ["a", "b"]).rewind_to(10, list(old.log))


def test_gaps_and_disorder_are_refused() -> None:
    with pytest.raises(ValueError, match="begins at 5: close the gap"):
        TaskClock(Written((5, 0)), 0, ["a"])
    with pytest.raises(ValueError, match="rising steps, got 4 after 4"):
        TaskClock(Written((0, 0), (4, 1), (4, 0)), 0, ["a", "b"]).advance(4)
    with pytest.raises(ValueError, match="task 7 of 2"):
        TaskClock(Written((0, 7)), 0, ["a", "b"])
