"""Selective copying: repeat the symbols in their order, leave the blanks out."""

from __future__ import annotations

import numpy as np

from nl_agents.probes.probe import Batch, Probe, check_counts, first_steps, some_steps


class SelectiveCopy(Probe):
    """A few symbols lie scattered among blanks; after the last step they are asked one after another.

    What is to be kept does not grow with the span; what is to be left out does (Gu & Dao 2023, "Mamba"; MAD's
    "selective copying").

    x_t = [symbol (symbols) | blank (1) | asked (1)], exactly one of them 1.

    Args:
        symbols: how many there are; chance is 1 / symbols.
        count: how many are to be copied.
    """

    span_unit = "blanks"

    def __init__(self, symbols: int = 8, count: int = 8) -> None:
        check_counts("SelectiveCopy", symbols=symbols, count=count)
        self.symbols, self.count = symbols, count
        self.features, self.classes, self.chance = symbols + 2, symbols, 1 / symbols

    def batch(self, rng: np.random.Generator, streams: int, span: int) -> Batch:
        """Draws symbols and places for each stream; T = span + 2 count."""
        self.check(streams, span)
        shown = span + self.count
        symbols = rng.integers(self.symbols, size=(self.count, streams))
        places = some_steps(rng, self.count, shown, streams)
        codes = np.full((shown + self.count, streams), self.symbols)
        codes[places, np.arange(streams)] = symbols
        codes[shown:] = self.symbols + 1
        targets, mask = np.zeros(codes.shape, np.int64), np.zeros(codes.shape, np.bool_)
        targets[shown:], mask[shown:] = symbols, True
        x = np.eye(self.features, dtype=np.float32)[codes]
        return Batch(x, targets, mask, first_steps(len(codes), streams))
