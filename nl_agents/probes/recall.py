"""In-context recall: which value came with this key? Clean, or with noise in between."""

from __future__ import annotations

import numpy as np

from nl_agents.probes.probe import Batch, Probe, check_counts, first_steps, shuffled, some_steps


class Recall(Probe):
    """Key-value pairs are shown once each, then every key is asked once, in another order.

    Keys of a stream differ, values are free, and both are drawn anew for every stream, so nothing but memory helps. A
    pair is shown in one step (key and value side by side), because what is probed is the memory and not whether a core
    can look one step back. After "in-context recall" and "noisy recall" of MAD (Poli et al. 2024), whose tokens come
    one by one.

    x_t = [key (keys) | value (values) | noise (noise_symbols) | asked (1)], each part one of its symbols or all 0.

    Args:
        keys: symbols that keys are drawn from; the largest span.
        values: symbols that values are drawn from; chance is 1 / values.
        noise: steps of noise for each pair, scattered over the whole stream; 0 is clean recall.
        noise_symbols: what such steps show.
    """

    span_unit = "pairs"

    def __init__(self, keys: int = 64, values: int = 8, noise: int = 0, noise_symbols: int = 8) -> None:
        check_counts("Recall", keys=keys, values=values, noise_symbols=noise_symbols)
        if noise < 0:
            raise ValueError(f"Recall expected noise >= 0 steps a pair, got {noise}")
        self.keys, self.values, self.noise, self.noise_symbols = keys, values, noise, noise_symbols
        self.features, self.classes, self.chance = keys + values + noise_symbols + 1, values, 1 / values

    def batch(self, rng: np.random.Generator, streams: int, span: int) -> Batch:
        """Draws ``span`` pairs for each stream; T = (2 + noise) span.

        Raises:
            ValueError: more pairs than keys.
        """
        self.check(streams, span)
        if span > self.keys:
            raise ValueError(f"Recall expected at most {self.keys} pairs, one for each key, got {span}; raise keys")
        steps, column = (2 + self.noise) * span, np.arange(streams)
        keys = shuffled(rng, self.keys, streams)[:span]  # [P, B]
        values = rng.integers(self.values, size=(span, streams))
        order = shuffled(rng, span, streams)
        at = some_steps(rng, 2 * span, steps, streams)  # [2P, B] the steps that are not noise
        noise = rng.integers(self.noise_symbols, size=(steps, streams))
        shown, asked = at[:span], at[span:]
        x = np.zeros((steps, streams, self.features), np.float32)
        np.put_along_axis(x, self.keys + self.values + noise[..., None], 1.0, axis=2)
        x[at, column] = 0.0
        x[shown, column, keys] = 1.0
        x[shown, column, self.keys + values] = 1.0
        x[asked, column, keys[order, column]] = 1.0
        x[asked, column, -1] = 1.0
        targets, mask = np.zeros((steps, streams), np.int64), np.zeros((steps, streams), np.bool_)
        targets[asked, column], mask[asked, column] = values[order, column], True
        return Batch(x, targets, mask, first_steps(steps, streams))
