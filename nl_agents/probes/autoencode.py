"""Autoencode: say the whole sequence again, the last symbol first."""

from __future__ import annotations

import numpy as np

from nl_agents.probes.probe import Batch, Probe, check_counts, first_steps


class Autoencode(Probe):
    """A stack: after the last symbol all of them are asked, in reverse (after POPGym's Autoencode).

    What is to be kept grows with the span: a state of fixed size must fail somewhere, and where is the question.

    x_t = [symbol (symbols) | asked (1)], exactly one of them 1.

    Args:
        symbols: how many there are; chance is 1 / symbols.
    """

    span_unit = "symbols"

    def __init__(self, symbols: int = 4) -> None:
        check_counts("Autoencode", symbols=symbols)
        self.symbols = symbols
        self.features, self.classes, self.chance = symbols + 1, symbols, 1 / symbols

    def batch(self, rng: np.random.Generator, streams: int, span: int) -> Batch:
        """Draws ``span`` symbols for each stream; T = 2 span."""
        self.check(streams, span)
        symbols = rng.integers(self.symbols, size=(span, streams))
        codes = np.concatenate((symbols, np.full_like(symbols, self.symbols)))
        targets, mask = np.zeros(codes.shape, np.int64), np.zeros(codes.shape, np.bool_)
        targets[span:], mask[span:] = symbols[::-1], True
        x = np.eye(self.features, dtype=np.float32)[codes]
        return Batch(x, targets, mask, first_steps(len(codes), streams))
