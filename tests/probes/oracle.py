"""Slow judges of the probes: they read x step by step, remember everything in plain Python, and say the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from nl_agents.probes import (
    AaStar,
    Autoencode,
    Batch,
    CountRecall,
    Needle,
    Parity,
    Probe,
    Recall,
    RepeatPrevious,
    SelectiveCopy,
)

Answers = Iterator[int | None]


def read_parity(rows: list[list[float]]) -> Answers:
    ones = 0
    for step, row in enumerate(rows):
        ones += row == [0.0, 1.0]
        yield ones % 2 if step else None


def read_aa_star(rows: list[list[float]], span: int) -> Answers:
    text = ""
    for row in rows:
        text += "a" if row == [0.0, 1.0] else ""
        asked = row == [0.0, 1.0] and len(text) <= span
        yield int(text == "aa" * (len(text) // 2)) if asked else None


def read_pairs(rows: list[list[float]], keys: int, values: int, forget: list[bool] | None = None) -> Answers:
    """Of recall and needle. ``forget`` marks the steps before which everything is forgotten."""
    known: dict[int, int] = {}
    for step, row in enumerate(rows):
        if forget is not None and forget[step]:
            known.clear()
        if row[-1]:
            yield known.get(row[:keys].index(1.0), 0)
            continue
        if 1.0 in row[:keys]:
            known[row[:keys].index(1.0)] = row[keys : keys + values].index(1.0)
        yield None


def read_selective_copy(rows: list[list[float]], symbols: int) -> Answers:
    queue: list[int] = []
    for row in rows:
        code = row.index(1.0)
        queue += [code] if code < symbols else []
        yield queue.pop(0) if code == symbols + 1 else None


def read_repeat_previous(rows: list[list[float]], lag: int) -> Answers:
    seen: list[int] = []
    for row in rows:
        seen.append(row.index(1.0))
        yield seen[-1 - lag] if len(seen) > lag else None


def read_count_recall(rows: list[list[float]], symbols: int) -> Answers:
    seen: list[int] = []
    for row in rows:
        seen.append(row.index(1.0))
        yield seen.count(seen[-1] - symbols - 1) if seen[-1] > symbols else None


def read_autoencode(rows: list[list[float]], symbols: int) -> Answers:
    stack: list[int] = []
    for row in rows:
        code = row.index(1.0)
        stack += [code] if code < symbols else []
        yield stack.pop() if code == symbols else None


def reader(probe: Probe, span: int) -> Callable[[list[list[float]]], Answers]:
    """The judge of a probe."""
    if isinstance(probe, Parity):
        return read_parity
    if isinstance(probe, AaStar):
        return lambda rows: read_aa_star(rows, span)
    if isinstance(probe, Recall | Needle):
        return lambda rows: read_pairs(rows, probe.keys, probe.values)
    if isinstance(probe, SelectiveCopy):
        return lambda rows: read_selective_copy(rows, probe.symbols)
    if isinstance(probe, CountRecall):
        return lambda rows: read_count_recall(rows, probe.symbols)
    if isinstance(probe, Autoencode):
        return lambda rows: read_autoencode(rows, probe.symbols)
    assert isinstance(probe, RepeatPrevious), f"no judge for {type(probe).__name__}: write one"
    return lambda rows: read_repeat_previous(rows, probe.lag)


def judged(probe: Probe, batch: Batch, span: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and mask [T, B] as the judge has them."""
    read = reader(probe, span)
    columns = [list(read(batch.x[:, stream].tolist())) for stream in range(batch.x.shape[1])]
    targets = np.array([[0 if answer is None else answer for answer in column] for column in columns]).T
    return targets, np.array([[answer is not None for answer in column] for column in columns]).T


def memoryless_accuracy(probe: Probe, span: int, streams: int = 2000) -> float:
    """Accuracy of the best table x_t -> class, found on one draw and measured on another."""
    table: dict[bytes, np.ndarray] = {}
    train = probe.batch(np.random.default_rng(1), streams, span)
    for row, target in zip(train.x[train.mask], train.targets[train.mask], strict=True):
        table.setdefault(row.tobytes(), np.zeros(probe.classes))[target] += 1
    test = probe.batch(np.random.default_rng(2), streams, span)
    rows, targets = test.x[test.mask], test.targets[test.mask]
    none = np.zeros(probe.classes)
    return float(np.mean([table.get(row.tobytes(), none).argmax() == t for row, t in zip(rows, targets, strict=True)]))
