"""(aa)*: is the run of a's read so far of even length?"""

from __future__ import annotations

import numpy as np

from nl_agents.probes.probe import Batch, Probe, first_steps


class AaStar(Probe):
    """Recognition of the language (aa)* on every prefix of a run of a's.

    The input hardly changes: ``lead`` blanks at most, then nothing but a's, so the answer 1 (even: in the language) and
    0 (odd) alternate while x_t stands still. How many blanks come first is random, so that no step clock can be read
    instead of counting. The first ``span`` a's of each stream are asked; chance is 1/2 for even spans, and for odd ones
    (span + 1) / (2 span). After Nested Learning, Table 5, and Bhattamishra et al. (2020), who let strings end instead.

    Args:
        lead: most blanks before the first a, >= 0.
    """

    span_unit = "a's"

    def __init__(self, lead: int = 8) -> None:
        if lead < 0:
            raise ValueError(f"AaStar expected lead >= 0 blanks, got {lead}")
        self.lead = lead
        self.features, self.classes, self.chance = 2, 2, 0.5

    def batch(self, rng: np.random.Generator, streams: int, span: int) -> Batch:
        """Draws the number of blanks of each stream, 0 .. lead alike; T = lead + span."""
        self.check(streams, span)
        steps = self.lead + span
        blanks = rng.integers(self.lead + 1, size=streams)
        read = np.arange(1, steps + 1)[:, None] - blanks  # [T, B] a's up to and including t
        mask = (read >= 1) & (read <= span)
        targets = np.where(mask, 1 - read % 2, 0)
        x = np.eye(2, dtype=np.float32)[(read >= 1).astype(np.int64)]
        return Batch(x, targets, mask, first_steps(steps, streams))
