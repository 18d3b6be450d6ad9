"""The one interface of all probes: batches of streams with a question somewhere and one right answer.

A probe is no environment: nothing acts and nothing is rewarded. It asks a memory core alone, by supervised learning,
what it can keep: x_t goes in, and at the asked steps a class is to be named that x_t does not tell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Batch(NamedTuple):
    """B streams over T steps, time first.

    Attributes:
        x: [T, B, F] float32, what is seen; every feature is 0 or 1.
        targets: [T, B] int64, the right class 0 .. classes - 1; 0 where nothing is asked.
        mask: [T, B] bool, the steps at which an answer is asked.
        is_first: [T, B] bool, the first step of an episode.
    """

    x: FloatArray
    targets: IntArray
    mask: BoolArray
    is_first: BoolArray


class Probe(ABC):
    """A generator of questions whose difficulty is one number, the span.

    Attributes:
        span_unit: what the span counts, for tables: "distractor steps", "pairs" ...
        features: F of ``x``.
        classes: how many answers there are.
        chance: expected accuracy of the best answer that looks at x_t alone (guesses the rest).
        least_span: the smallest span that makes sense.
    """

    span_unit: ClassVar[str]
    features: int
    classes: int
    chance: float
    least_span: int = 1

    @abstractmethod
    def batch(self, rng: np.random.Generator, streams: int, span: int) -> Batch:
        """Draws whole streams, each with an answer of its own.

        Args:
            rng: the only source of randomness.
            streams: B, >= 1.
            span: the difficulty, >= ``least_span``, in ``span_unit``.

        Raises:
            ValueError: too few streams, or a span out of range.
        """

    def stream(self, rng: np.random.Generator, streams: int, span: int, segment: int = 1024) -> Iterator[Batch]:
        """Gives the same streams piece after piece, at most ``segment`` steps each, for memories that are carried on.

        The pieces of one generator state are equal to ``batch`` of that state, however they are cut.

        Args:
            rng: as in ``batch``.
            streams: as in ``batch``.
            span: as in ``batch``.
            segment: longest piece in steps, >= 1.
        """
        whole = self.batch(rng, streams, span)
        for start in range(0, len(whole.x), check_segment(segment)):
            yield Batch._make(leaf[start : start + segment] for leaf in whole)

    def check(self, streams: int, span: int) -> None:
        """Raises ValueError for fewer than one stream or a span below ``least_span``."""
        if streams < 1:
            raise ValueError(f"{type(self).__name__} expected at least 1 stream, got {streams}")
        if span < self.least_span:
            raise ValueError(
                f"{type(self).__name__} expected a span of at least {self.least_span} {self.span_unit}, got {span}"
            )


def check_counts(owner: str, **counts: int) -> None:
    """Raises ValueError naming the first count that is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{owner} expected {name} >= 1, got {count}")


def check_segment(segment: int) -> int:
    """Returns ``segment``; ValueError if a piece would be empty."""
    if segment < 1:
        raise ValueError(f"a stream is cut into segments of at least 1 step, got {segment}")
    return segment


def join(pieces: Iterable[Batch]) -> Batch:
    """Puts pieces that follow each other back together."""
    return Batch._make(np.concatenate(leaves) for leaves in zip(*pieces, strict=True))


def first_steps(steps: int, streams: int) -> BoolArray:
    """Returns ``is_first`` [T, B] of streams that are one episode each."""
    is_first = np.zeros((steps, streams), np.bool_)
    is_first[0] = True
    return is_first


def shuffled(rng: np.random.Generator, count: int, streams: int) -> IntArray:
    """Returns a random order of 0 .. count - 1 for each stream [count, B]."""
    return rng.random((count, streams)).argsort(axis=0)


def some_steps(rng: np.random.Generator, count: int, steps: int, streams: int) -> IntArray:
    """Returns ``count`` different steps out of ``steps`` for each stream [count, B], rising."""
    return np.sort(shuffled(rng, steps, streams)[:count], axis=0)
