"""Count recall: how often was this symbol shown? One counter for each symbol, asked one after another."""

from __future__ import annotations

import numpy as np

from nl_agents.probes.probe import Batch, Probe, check_counts, first_steps, shuffled, some_steps


class CountRecall(Probe):
    """Symbols are shown among blanks; at the end every symbol is asked for once: how often was it there?

    A memory of pairs is not enough, each key's value must be raised by one. After POPGym's CountRecall, which asks at
    every step; there a guess grows better with the length of the stream alone. Here each symbol's count is drawn
    uniformly from 0 .. most, so that x_t tells nothing, and the span is only what must be left out.

    x_t = [symbol shown (symbols) | blank (1) | symbol asked (symbols)], exactly one of them 1.

    Args:
        symbols: how many there are.
        most: largest count; chance is 1 / (most + 1).
    """

    span_unit = "blanks"

    def __init__(self, symbols: int = 4, most: int = 7) -> None:
        check_counts("CountRecall", symbols=symbols, most=most)
        self.symbols, self.most = symbols, most
        self.features, self.classes, self.chance = 2 * symbols + 1, most + 1, 1 / (most + 1)

    def batch(self, rng: np.random.Generator, streams: int, span: int) -> Batch:
        """Draws counts, places and the order of questions; T = span + (most + 1) symbols.

        What a symbol is shown less than ``most`` times becomes further blanks, so that T does not tell the counts.
        """
        self.check(streams, span)
        shown = span + self.most * self.symbols
        counts = rng.integers(self.most + 1, size=(self.symbols, streams))
        each, number = np.divmod(np.arange(self.most * self.symbols), self.most)  # symbol, how-manieth
        symbols = np.where(number[:, None] < counts[each], each[:, None], self.symbols)  # [M S, B], blank = symbols
        column = np.arange(streams)
        symbols = symbols[shuffled(rng, len(symbols), streams), column]
        codes = np.full((shown + self.symbols, streams), self.symbols)
        codes[some_steps(rng, len(symbols), shown, streams), column] = symbols
        order = shuffled(rng, self.symbols, streams)
        codes[shown:] = self.symbols + 1 + order
        targets, mask = np.zeros(codes.shape, np.int64), np.zeros(codes.shape, np.bool_)
        targets[shown:], mask[shown:] = counts[order, column], True
        x = np.eye(self.features, dtype=np.float32)[codes]
        return Batch(x, targets, mask, first_steps(len(codes), streams))
