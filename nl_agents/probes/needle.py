"""A needle in a lifetime: a pair shown once, a long time of something else, then the question."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nl_agents.probes.probe import (
    Batch,
    BoolArray,
    FloatArray,
    IntArray,
    Probe,
    check_counts,
    check_segment,
    join,
    shuffled,
)


class Needle(Probe):
    """Pairs are shown, ``span`` distractor steps follow, then each key is asked for its value.

    With ``across_episodes`` episodes end and begin among the distractors, at least one between the last pair and the
    first question: a memory that is cleared at episodes is left with chance, whatever its capacity. Without, the whole
    stream is one episode. Streams of any length take no more memory than one segment (``stream``).

    x_t = [key (keys) | value (values) | distractor (distractors) | asked (1)], each part one of its symbols or all 0.

    Args:
        across_episodes: whether episodes begin between pair and question.
        pairs: pairs of a stream, with different keys, asked in another order.
        keys: symbols that keys are drawn from.
        values: symbols that values are drawn from; chance is 1 / values.
        distractors: symbols that the steps in between show.
        episode_length: mean env steps of an episode where there are several (geometric).
    """

    span_unit = "distractor steps"

    def __init__(
        self,
        across_episodes: bool = False,
        pairs: int = 1,
        keys: int = 8,
        values: int = 8,
        distractors: int = 8,
        episode_length: int = 200,
    ) -> None:
        counts = {"pairs": pairs, "keys": keys, "values": values, "distractors": distractors}
        check_counts("Needle", **counts, episode_length=episode_length)
        if pairs > keys:
            raise ValueError(f"Needle expected at most {keys} pairs, one for each key, got {pairs}; raise keys")
        self.across_episodes, self.pairs, self.keys = across_episodes, pairs, keys
        self.values, self.distractors, self.episode_length = values, distractors, episode_length
        self.features, self.classes, self.chance = keys + values + distractors + 1, values, 1 / values

    def batch(self, rng: np.random.Generator, streams: int, span: int) -> Batch:
        """Draws whole streams of 2 pairs + span steps; long ones are better taken from ``stream``."""
        return join(self.stream(rng, streams, span, 2 * self.pairs + max(span, 1)))

    def stream(self, rng: np.random.Generator, streams: int, span: int, segment: int = 1024) -> Iterator[Batch]:
        """Gives streams of 2 pairs + span steps in pieces that are drawn one after another."""
        self.check(streams, span)
        check_segment(segment)
        shown, asked = self.pairs, self.pairs + span  # first distractor, first question
        keys = shuffled(rng, self.keys, streams)[:shown]  # [P, B]
        values = rng.integers(self.values, size=(shown, streams))
        order = shuffled(rng, shown, streams)
        cut = shown + rng.integers(span + 1, size=streams)  # a distractor or the first question begins an episode
        # Everything that is fixed: shown and asked rows of x, by their step.
        marks = {step: self._pair(keys[step], values[step]) for step in range(shown)}
        column = np.arange(streams)
        marks |= {asked + place: self._question(keys[order[place], column]) for place in range(shown)}
        answers = {asked + place: values[order[place], column] for place in range(shown)}
        for start in range(0, asked + shown, segment):
            steps = np.arange(start, min(start + segment, asked + shown))
            among = (steps >= shown) & (steps < asked)
            x, begins = self._distractors(rng, among, streams)
            is_first = (steps[:, None] == 0) | np.zeros((1, streams), np.bool_)
            if self.across_episodes:
                is_first = is_first | begins | (steps[:, None] == cut)
            targets, mask = np.zeros(is_first.shape, np.int64), np.zeros(is_first.shape, np.bool_)
            for row in np.flatnonzero(~among):
                step = int(steps[row])
                x[row] = marks[step]
                if step in answers:
                    targets[row], mask[row] = answers[step], True
            yield Batch(x, targets, mask, is_first)

    def _distractors(self, rng: np.random.Generator, among: BoolArray, streams: int) -> tuple[FloatArray, BoolArray]:
        """Draws x [T, B, F] and where episodes begin [T, B] for the steps marked in ``among`` [T]; 0 elsewhere."""
        draws = rng.random((int(among.sum()), 2, streams))
        symbols = (draws[:, 0] * self.distractors).astype(np.int64)
        x = np.zeros((len(among), streams, self.features), np.float32)
        rows, column = np.flatnonzero(among)[:, None], np.arange(streams)
        x[rows, column, self.keys + self.values + symbols] = 1.0
        begins = np.zeros((len(among), streams), np.bool_)
        begins[among] = draws[:, 1] < 1 / self.episode_length
        return x, begins

    def _pair(self, key: IntArray, value: IntArray) -> FloatArray:
        """Returns the row [B, F] that shows a pair."""
        x = np.zeros((len(key), self.features), np.float32)
        x[np.arange(len(key)), key] = x[np.arange(len(key)), self.keys + value] = 1.0
        return x

    def _question(self, key: IntArray) -> FloatArray:
        """Returns the row [B, F] that asks for a key."""
        x = np.zeros((len(key), self.features), np.float32)
        x[np.arange(len(key)), key] = x[:, -1] = 1.0
        return x
