"""When the task changes: pure functions of a seed, on the clock of env steps summed over all streams.

A schedule knows neither the number of streams nor how long the run will be, so the same seed gives the same life for
1, 16 or 64 streams and for every ``--steps``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from nl_agents.seeding import generator


@runtime_checkable
class Schedule(Protocol):
    """What a sequence asks of a schedule."""

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        """Yields ``(step, task index)`` with rising steps; the first pair is at step 0. May be endless.

        Args:
            seed: the life's schedule seed, int >= 0.
            num_tasks: number of tasks of the sequence, >= 1.
        """
        ...

    def shortest_block(self) -> float:
        """Returns the typical length, in env steps over all streams, of the shortest block; ``inf`` if none ends."""
        ...


@dataclass(frozen=True)
class Constant:
    """One task for ever: the life of an expert, of a reference, of a single-task run.

    Args:
        task: index of the task.
    """

    task: int = 0

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        """Yields the only entry, ``(0, task)``."""
        check_task(self.task, num_tasks)
        yield 0, self.task

    def shortest_block(self) -> float:
        """Returns ``inf``: the block never ends."""
        return float("inf")


@dataclass(frozen=True)
class Cyclic:
    """All tasks in their order, each for the same number of steps, for ever.

    Args:
        every: env steps over all streams between two switches, int >= 1.
    """

    every: int

    def __post_init__(self) -> None:
        check_length(self.every, "Cyclic(every=...)")

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        """Yields ``(n * every, n mod num_tasks)``; one task alone yields one entry."""
        yield 0, 0
        if num_tasks > 1:
            for visit in itertools.count(1):
                yield visit * self.every, visit % num_tasks

    def shortest_block(self) -> float:
        """Returns ``every``."""
        return float(self.every)


@dataclass(frozen=True)
class Blocks:
    """A written list of blocks, lived through ``cycles`` times.

    Args:
        blocks: ``(task index, env steps over all streams)`` in their order; every length >= 1.
        cycles: how often the list is lived through, >= 1; the very last block then never ends. None: for ever.
    """

    blocks: Sequence[tuple[int, int]]
    cycles: int | None = None

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("Blocks(blocks=...) expected at least one (task index, env steps), got an empty list")
        for position, (_, length) in enumerate(self.blocks):
            check_length(length, f"block {position} of Blocks")
        if self.cycles is not None and self.cycles < 1:
            raise ValueError(f"Blocks(cycles=...) expected an int >= 1 or None for ever, got {self.cycles}")

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        """Yields the start of every block; blocks that follow one of the same task are merged into it."""
        for task, _ in self.blocks:
            check_task(task, num_tasks)
        rounds = itertools.repeat(self.blocks) if self.cycles is None else itertools.repeat(self.blocks, self.cycles)
        if self.cycles is None and len({task for task, _ in self.blocks}) == 1:
            rounds = itertools.repeat(self.blocks, 1)  # nothing will ever change: an endless search would hang
        step, before = 0, None
        for task, length in itertools.chain.from_iterable(rounds):
            if task != before:
                yield step, task
            step, before = step + length, task

    def shortest_block(self) -> float:
        """Returns the shortest written length; ``inf`` for a single block."""
        return float(min(length for _, length in self.blocks)) if len(self.blocks) > 1 else float("inf")


@dataclass(frozen=True)
class GeometricHidden:
    """Blocks of geometric length: whatever the agent has seen, the chance of a switch at the next step is 1 / mean.

    The next task is drawn uniformly from the others, so with two tasks they alternate.

    Args:
        mean: mean env steps over all streams between two switches, int >= 1.
        seed: a curriculum seed of its own; None takes the life's, on a random stream that nothing else draws from.
    """

    mean: int
    seed: int | None = None

    def __post_init__(self) -> None:
        check_length(self.mean, "GeometricHidden(mean=...)")

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        """Yields the first task at 0, then endless draws; one task alone yields one entry."""
        random = generator(seed if self.seed is None else self.seed, "schedule")
        step, task = 0, int(random.integers(num_tasks))
        yield step, task
        while num_tasks > 1:
            step += int(random.geometric(1.0 / self.mean))
            task = (task + 1 + int(random.integers(num_tasks - 1))) % num_tasks
            yield step, task

    def shortest_block(self) -> float:
        """Returns the mean length."""
        return float(self.mean)


@dataclass(frozen=True)
class Spans:
    """A written timetable: each task from one step to another, without gap or overlap.

    Args:
        spans: ``(task index, first step, step after the last)`` in env steps over all streams, from 0 on; the last
            task stays for ever after its span.
    """

    spans: Sequence[tuple[int, int, int]]

    def __post_init__(self) -> None:
        if not self.spans:
            raise ValueError("Spans(spans=...) expected at least one (task index, start, stop), got an empty list")
        reached = 0
        for position, (_, start, stop) in enumerate(self.spans):
            if start != reached:
                what = "leaves a gap from" if start > reached else "overlaps what is planned up to"
                raise ValueError(f"span {position} of Spans begins at {start} and {what} {reached}: start it there")
            check_length(stop - start, f"span {position} of Spans")
            reached = stop

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        """Yields the start of every span."""
        yield from Blocks([(task, stop - start) for task, start, stop in self.spans], 1).switches(seed, num_tasks)

    def shortest_block(self) -> float:
        """Returns the shortest span; ``inf`` for a single one."""
        return Blocks([(task, stop - start) for task, start, stop in self.spans], 1).shortest_block()


def check_length(length: int, where: str) -> None:
    """Raises ValueError unless ``length`` is an int >= 1."""
    if isinstance(length, bool) or not isinstance(length, int | np.integer) or length < 1:
        raise ValueError(
            f"{where} expected a task length of at least 1 env step (an int), got {length!r}; "
            "leave a task out instead of giving it no time"
        )


def check_task(task: int, num_tasks: int) -> None:
    """Raises ValueError unless the sequence has this task."""
    if not 0 <= task < num_tasks:
        raise ValueError(f"the schedule names task {task}, but the sequence has tasks 0 to {num_tasks - 1}")
