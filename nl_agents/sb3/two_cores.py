"""Two pieces of a computation at the same time: a thread that helps while a model learns.

Compiled loops and torch's operations let go of the interpreter's lock, so two threads of Python keep two cores busy.
What is cut in two is cut in the same place whether somebody helps or not: results are the same to the last bit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Work = Callable[[], object]
_own = threading.local()  # .helper: of the thread that is inside of ``two_cores``


class _Helper(threading.Thread):
    """Runs what it is handed, one piece at a time."""

    def __init__(self) -> None:
        super().__init__(name="nl_agents.two_cores", daemon=True)
        self._handed, self._returned = threading.Lock(), threading.Lock()
        self._handed.acquire()
        self._returned.acquire()
        self._work: Work | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        torch.set_num_threads(1)  # of this thread; whoever started it has one at the time
        while True:
            self._handed.acquire()
            if self._work is None:
                return
            try:
                with torch.no_grad():
                    self._work()
            except BaseException as error:
                self._error = error
            self._returned.release()

    def hand(self, work: Work | None) -> None:
        """Begins with ``work``; None ends the thread."""
        self._work = work
        self._handed.release()

    def wait(self) -> BaseException | None:
        """Returns what went wrong in the work that was handed over last, once that has ended."""
        self._returned.acquire()
        error, self._error, self._work = self._error, None, None
        return error


def _cores() -> int:
    """What this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available() -> bool:
    """Whether two cores may be used: this process has them, and torch may use as many threads."""
    return min(_cores(), torch.get_num_threads()) > 1


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Within, an operation of torch uses one thread: its waiting threads would keep the other cores busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def two_cores() -> Iterator[None]:
    """Within, ``both`` uses two cores where that is allowed, and torch's operations one thread each.

    ``torch.set_num_threads(1)`` or ``OMP_NUM_THREADS=1`` forbid it. The helping thread ends with the block.
    """
    helps = available() and getattr(_own, "helper", None) is None
    with one_thread_each():
        if not helps:
            yield
            return
        helper = _own.helper = _Helper()
        helper.start()
        try:
            yield
        finally:
            _own.helper = None
            helper.hand(None)
            helper.join()


def both(one: Work, other: Work) -> None:
    """Runs two pieces of work that need no gradients and do not touch each other's results, to the end of both."""
    helper: _Helper | None = getattr(_own, "helper", None)
    if helper is None:
        one()
        other()
        return
    _own.helper = None  # it has its hands full: what ``one`` divides stays with this thread
    helper.hand(other)
    try:
        one()
    finally:
        error, _own.helper = helper.wait(), helper
    if error is not None:
        raise error
