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


def format_levels(rows: list[LevelInfo]) -> str:
    """Draws the nest as a plain table, slowest thinking included: one line a level."""
    head = ("level", "stores", "learns from", "objective", "period", "unit", "scope")
    cells = [head] + [tuple(str(field) for field in row) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
