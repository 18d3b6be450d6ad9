"""The stopwatch counts what it says, and turns go round."""

from __future__ import annotations

import time

import pytest

from benchmarks import windows
from benchmarks.opponents.settings import Settings
from benchmarks.windows import Runner, Stopwatch, Turn, Window


class FakeParent:
    """Grants turns of the given lengths, keeps what it is sent."""

    def __init__(self, turns: list[Turn]) -> None:
        self.turns, self.got = turns, []

    def __call__(self, window: Window | None) -> Turn:
        self.got.append(window)
        time.sleep(0.05)  # the others' turns
        return self.turns.pop(0)


def test_windows_begin_after_the_warm_up_and_exclude_the_others_turns() -> None:
    parent, synchronised = FakeParent([Turn(10), Turn(25), Turn(1)]), []
    watch = Stopwatch(50, parent, lambda: synchronised.append(True))
    for steps in (20, 40, 60, 65, 72, 80, 90, 100):
        watch(steps)
    first, second, third = parent.got
    assert first is None, "the end of the warm-up is no window"
    assert (second.steps, third.steps) == (12, 28)  # 60 -> 72 -> 100
    assert second.seconds < 0.05
    assert third.seconds < 0.05
    assert len(synchronised) == 3


def test_a_window_lasts_its_least_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(windows.time, "perf_counter", lambda: now[0])
    parent = FakeParent([Turn(10, seconds=2.0), Turn(1)])
    watch = Stopwatch(1, parent, lambda: None)
    for steps, at in ((1, 0.0), (50, 1.0), (99, 1.9), (120, 2.5)):
        now[0] = at
        watch(steps)
    assert [window and (window.steps, window.seconds) for window in parent.got] == [None, (119, 2.5)]


def test_speed_is_steps_a_second() -> None:
    assert Window(1000, 4.0, None).speed == 250.0


def test_other_load_is_what_others_used(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, clock, own = iter([100.0, 106.0, 0.0]), iter([10.0, 14.0, 14.0, 0.0]), iter([1.0, 5.0, 0.0])
    monkeypatch.setattr(windows, "machine_cpu_seconds", lambda: next(machine))
    monkeypatch.setattr(windows.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(windows.time, "process_time", lambda: next(own))
    parent = FakeParent([Turn(1), Turn(1)])
    watch = Stopwatch(0, parent, lambda: None)
    watch(0)
    # The next report reads time, machine, own process: 4 s passed, the machine used 6 CPU s, 4 of them ours.
    watch(8)
    assert parent.got[1] == Window(8, 4.0, 0.5)


def test_a_contestant_runs_in_its_own_process_and_stops() -> None:
    settings = Settings(num_envs=4, num_steps=16, width=8)
    runner = Runner("env", "cartpole", settings, threads=1, warmup_steps=1)
    try:
        assert runner.parameters == 0
        turns = [runner.window(Turn(100)) for _ in range(2)]
    finally:
        runner.stop()
    assert all(window.steps >= 100 and window.speed > 0 for window in turns)
    assert not runner._process.is_alive()


def test_a_contestant_that_dies_is_named() -> None:
    with pytest.raises(RuntimeError, match="contestant 'nobody' died"):
        Runner("nobody", "cartpole", Settings(), threads=1, warmup_steps=1)
