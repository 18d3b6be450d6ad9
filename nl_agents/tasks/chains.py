"""Schedules in which what has been lived decides what comes next: a Markov chain over tasks, a curriculum."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nl_agents.seeding import generator
from nl_agents.tasks.schedules import check_length, check_task


@dataclass(frozen=True)
class Markov:
    """At every ``every``-th step the next task is drawn given the present one: P(j | i) = transitions[i][j].

    A draw may stay; the block then lasts longer, so with a diagonal p the mean block is ``every / (1 - p)`` steps.

    Args:
        transitions: one row of probabilities for each task, each summing to 1.
        every: env steps over all streams between two draws, int >= 1.
        first: index of the task at step 0.
        seed: a curriculum seed of its own; None takes the life's.
    """

    transitions: Sequence[Sequence[float]]
    every: int
    first: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        check_length(self.every, "Markov(every=...)")
        width = len(self.transitions)
        for task, row in enumerate(self.transitions):
            if len(row) != width or not (min(row) >= 0 and abs(sum(row) - 1) <= 1e-9):  # NaN fails
                raise ValueError(
                    f"Markov(transitions=...) expected {width} probabilities that sum to 1 in every row, one a task, "
                    f"got row {task}: {list(row)}"
                )

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        """Yields every draw, also those that stay; endless unless there is one task."""
        if len(self.transitions) != num_tasks:
            raise ValueError(f"Markov has {len(self.transitions)} rows, but the sequence has {num_tasks} tasks")
        check_task(self.first, num_tasks)
        random, reach, task = generator(seed if self.seed is None else self.seed, "markov"), [], self.first
        for row in self.transitions:
            last = max(index for index, chance in enumerate(row) if chance > 0)
            reach.append(np.append(np.cumsum(row)[:last], np.inf))  # rounding must not reach a task of chance 0
        yield 0, task
        for visit in itertools.count(1) if num_tasks > 1 else ():
            task = int(np.searchsorted(reach[task], random.random(), side="right"))
            yield visit * self.every, task

    def shortest_block(self) -> float:
        """Returns ``every``."""
        return float(self.every)


@dataclass(frozen=True)
class Curriculum:
    """The tasks in their order; between two new ones, blocks of earlier ones come back by chance.

    Every block is, with probability ``review``, one of the tasks met before (uniform, the running one excepted where
    others are known), else the next new task. Once all are known, the last one stays if ``review`` is 0; otherwise
    every further block is a review.

    Args:
        every: env steps over all streams of a block, int >= 1.
        review: chance that a block goes back, in [0, 1).
        seed: a curriculum seed of its own; None takes the life's.
    """

    every: int
    review: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        check_length(self.every, "Curriculum(every=...)")
        if not 0 <= self.review < 1:
            raise ValueError(f"Curriculum(review=...) expected a chance in [0, 1), got {self.review}")

    def switches(self, seed: int, num_tasks: int) -> Iterator[tuple[int, int]]:
        """Yields the start of every block."""
        random = generator(seed if self.seed is None else self.seed, "curriculum")
        yield 0, 0
        task, known = 0, 1
        for block in itertools.count(1):
            if num_tasks == 1 or (known == num_tasks and not self.review):
                return
            if known == num_tasks or (known > 1 and random.random() < self.review):
                task = (task + 1 + int(random.integers(known - 1))) % known
            else:
                task, known = known, known + 1
            yield block * self.every, task

    def shortest_block(self) -> float:
        """Returns ``every``."""
        return float(self.every)
