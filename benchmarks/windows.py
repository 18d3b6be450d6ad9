"""Timing in windows: a contestant lives in a process of its own and runs only when it is its turn.

The parent asks each contestant in turn for one window (A B A B ...), so that a change in the machine's load meets all
of them alike. Between its turns a contestant sleeps on its pipe.
A window lasts for a least number of steps and a least time, so that fast contestants are not timed over milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Turn:
    """How long a window lasts: until both are reached, in whole updates.

    Attributes:
        steps: least env steps.
        seconds: least wall-clock.
    """

    steps: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Window:
    """What one window measured.

    Attributes:
        steps: valid env steps.
        seconds: wall-clock.
        other_load: CPU seconds a second that the rest of the machine used meanwhile; None where /proc is missing.
    """

    steps: int
    seconds: float
    other_load: float | None

    @property
    def speed(self) -> float:
        """Env steps a second."""
        return self.steps / self.seconds


def machine_cpu_seconds() -> float | None:
    """CPU seconds that all processes have used since boot, idle and waiting excluded."""
    try:
        ticks = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, *rest = (int(tick) for tick in ticks[:8])
    return (user + nice + system + sum(rest)) / float(os.sysconf("SC_CLK_TCK"))


class Stopwatch:
    """Turns "so many steps so far" reports of a contestant into windows, and hands the turn back after each.

    Args:
        warmup_steps: env steps before the first window.
        take_turn: sends the last window (None after the warm-up), blocks until the next turn, returns its length.
        synchronise: waits for the device before the clock is read.
    """

    def __init__(
        self, warmup_steps: int, take_turn: Callable[[Window | None], Turn], synchronise: Callable[[], None]
    ) -> None:
        self._take_turn, self._synchronise = take_turn, synchronise
        self._target, self._seconds = warmup_steps, 0.0
        self._begin: tuple[int, float, float, float | None] | None = None

    def __call__(self, steps: int) -> None:
        """Takes a report; called after each update."""
        if steps < self._target:
            return
        if self._begin is not None and time.perf_counter() - self._begin[1] < self._seconds:
            return
        self._synchronise()
        window = None
        if self._begin is not None:
            begin_steps, begin_time, begin_own, begin_machine = self._begin
            seconds = time.perf_counter() - begin_time
            machine, other = machine_cpu_seconds(), None
            if machine is not None and begin_machine is not None:
                own = time.process_time() - begin_own
                other = max(0.0, machine - begin_machine - own) / seconds
            window = Window(steps - begin_steps, seconds, other)
        turn = self._take_turn(window)
        self._target, self._seconds = steps + turn.steps, turn.seconds
        self._begin = (steps, time.perf_counter(), time.process_time(), machine_cpu_seconds())


def _play(connection: Connection, name: str, env: str, settings: Any, threads: int, warmup_steps: int) -> None:
    """Body of a contestant's process."""
    import torch

    from benchmarks.contestants import CONTESTANTS

    torch.set_num_threads(threads)
    prepared = CONTESTANTS[name].prepare(env, settings)

    def take_turn(window: Window | None) -> Turn:
        connection.send(window if window is not None else prepared.parameters)
        turn: Turn | None = connection.recv()
        if turn is None:
            sys.exit(0)
        return turn

    synchronise = torch.cuda.synchronize if settings.device == "cuda" else lambda: None
    prepared.run(Stopwatch(warmup_steps, take_turn, synchronise))


class Runner:
    """A contestant's process, seen from outside.

    Args:
        name: key of ``CONTESTANTS``.
        env: key of ``WORLDS``.
        settings: sizes.
        threads: torch and OpenMP threads.
        warmup_steps: env steps of learning before the first window.
    """

    def __init__(self, name: str, env: str, settings: Any, *, threads: int, warmup_steps: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._connection, theirs = context.Pipe()
        arguments = (theirs, name, env, settings, threads, warmup_steps)
        self._process = context.Process(target=_play, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.parameters: int = self._receive()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"contestant {self.name!r} died (exit code {self._process.exitcode}); see above"
            ) from None

    def window(self, turn: Turn) -> Window:
        """Lets the contestant run for one window."""
        self._connection.send(turn)
        window: Window = self._receive()
        return window

    def stop(self) -> None:
        """Ends the process."""
        if self._process.is_alive():
            self._connection.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
