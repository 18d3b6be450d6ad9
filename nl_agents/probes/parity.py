"""Parity: is the number of ones so far odd? The smallest automaton that linear memories cannot be."""

from __future__ import annotations

import numpy as np

from nl_agents.probes.probe import Batch, Probe, first_steps


class Parity(Probe):
    """Running parity of random bits, y_t = b_0 xor ... xor b_t, asked at every step but the first.

    x_t is the bit as one of two symbols. One flipped state spoils every later answer, so accuracy beyond the training
    length tells a counter from a table of short strings (Nested Learning, Table 5; Bhattamishra et al. 2020).
    """

    span_unit = "bits"
    least_span = 2

    def __init__(self) -> None:
        self.features, self.classes, self.chance = 2, 2, 0.5

    def batch(self, rng: np.random.Generator, streams: int, span: int) -> Batch:
        """Draws ``span`` fair bits for each stream; T = span."""
        self.check(streams, span)
        bits = rng.integers(2, size=(span, streams))
        mask = np.ones((span, streams), np.bool_)
        mask[0] = False
        targets = np.where(mask, bits.cumsum(axis=0) % 2, 0)
        return Batch(np.eye(2, dtype=np.float32)[bits], targets, mask, first_steps(span, streams))
