"""Repeat previous: name the symbol of some steps ago, at every step."""

from __future__ import annotations

import numpy as np

from nl_agents.probes.probe import Batch, Probe, check_counts, first_steps


class RepeatPrevious(Probe):
    """A queue: y_t is the symbol of step t - lag, asked from step lag on (after POPGym's RepeatPrevious).

    Nothing is kept for longer than ``lag`` steps, but always ``lag`` things at once, and the memory must let go of them
    for as long as the stream lasts.

    Args:
        lag: env steps between a symbol and its question.
        symbols: how many there are; chance is 1 / symbols.
    """

    span_unit = "steps"

    def __init__(self, lag: int = 4, symbols: int = 4) -> None:
        check_counts("RepeatPrevious", lag=lag, symbols=symbols)
        self.lag, self.symbols, self.least_span = lag, symbols, lag + 1
        self.features, self.classes, self.chance = symbols, symbols, 1 / symbols

    def batch(self, rng: np.random.Generator, streams: int, span: int) -> Batch:
        """Draws ``span`` symbols for each stream; T = span."""
        self.check(streams, span)
        symbols = rng.integers(self.symbols, size=(span, streams))
        targets, mask = np.zeros((span, streams), np.int64), np.zeros((span, streams), np.bool_)
        targets[self.lag :], mask[self.lag :] = symbols[: -self.lag], True
        return Batch(np.eye(self.symbols, dtype=np.float32)[symbols], targets, mask, first_steps(span, streams))
