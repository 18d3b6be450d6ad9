"""Shared vocabulary: the axis legend and the few records that cross layers.

Axis legend, used in every shape comment of the project (time always first):

    T steps of a rollout · B streams (parallel environments) · D features · L levels · A actions
    H heads · K features of a key (one head) · R rows of a memory matrix · C steps of a chunk
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Scope = Literal["episode", "never", "life"]
Unit = Literal["env step", "learner update", "rollout", "decision epoch"]


class LevelInfo(NamedTuple):
    """One row of a nest: something that learns on a time scale of its own (Nested Learning, Definitions 2-4).

    Attributes:
        name: dotted name of the level, for example ``core.memory.never``.
        stores: what the level keeps, in words, with its size in floats where known.
        context: what it learns from (its context flow).
        objective: the objective its update descends.
        period: units between two updates, int >= 1.
        unit: the unit of ``period``.
        scope: the boundary that clears it: ``episode``, ``never`` (survives episodes; cleared with the stream)
            or ``life`` (belongs to the agent: weights, optimizer memory, replay).
    """

    name: str
    stores: str
    context: str
    objective: str
    period: int
    unit: Unit
    scope: Scope


class NestRow(NamedTuple):
    """One row of a whole agent's nest: a level, what it keeps now, and how its period compares with the others'.

    Attributes:
        level: the level.
        learner: what writes it; "nobody" and the like for what learns nothing and is kept all the same.
        numbers: numbers that it keeps now, over all streams.
        every: env steps of one stream between two updates, on average; infinite for what never changes.
    """

    level: LevelInfo
    learner: str
    numbers: int
    every: float


class Episode(NamedTuple):
    """One finished training episode, a row of ``episodes.csv``.

    Attributes:
        step: the sequence's clock (valid env steps over all streams) when it ended.
        stream: index of the stream.
        task: name of the task in force on that stream when it ended.
        return_: undiscounted sum of rewards.
        length: valid env steps.
        begin: the sequence's clock when it began.
    """

    step: int
    stream: int
    task: str
    return_: float
    length: int
    begin: int


NEST_HEAD = ("level", "written by", "stores", "kept now", "learns from", "objective", "updated every", "scope")


def nest_cells(row: NestRow) -> tuple[str, ...]:
    """A row of a nest in words and figures, in the order of ``NEST_HEAD``."""
    level, often = row.level, "never"
    if row.every != float("inf"):
        often = f"{level.period:,} {level.unit}{'s' * (level.period > 1)}"
        mean = f"{row.every:,.1f}".removesuffix(".0")
        often += "" if level.unit == "env step" else f" (~ {mean} env steps)"
    texts = (level.name, row.learner, level.stores, f"{row.numbers:,}", level.context, level.objective)
    return *texts, often, level.scope


def format_nest(rows: list[NestRow]) -> str:
    """Draws a whole agent's nest as a plain table, one line a level."""
    return _align(NEST_HEAD, [nest_cells(row) for row in rows])


def format_levels(rows: list[LevelInfo]) -> str:
    """Draws the nest as a plain table, slowest thinking included: one line a level."""
    head = ("level", "stores", "learns from", "objective", "period", "unit", "scope")
    return _align(head, [tuple(str(field) for field in row) for row in rows])


def _align(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of aligned columns, its head underlined."""
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
