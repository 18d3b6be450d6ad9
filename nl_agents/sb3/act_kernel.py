"""What an actor-critic does behind its memory when it acts, in compiled calls: two perceptrons, and a drawn action.

For who acts on CPU. With few streams a step's arithmetic is small and each call of a general library costs more than
its numbers. Loaded where numba works.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nl_agents.memory.lanes import LANES, compiled, largest, load, splat, store
from nl_agents.memory.streams import in_rows, linear, side_by_side, squash

Array = NDArray[Any]
TANH, RELU = 0, 1
"""What may stand between two layers."""


@compiled
def perceptron(rows: Array, layers: tuple[tuple[Array, Array], ...], kind: int) -> Array:
    """Rows [B, F] through layers (weight [O, I], bias [O]), bent between two of them; rows [B, O]."""
    given = side_by_side(rows)
    zero = splat(rows.dtype.type(0.0))
    for index in range(len(layers)):
        weight, bias = layers[index]
        out = np.empty((len(weight), given.shape[1]), rows.dtype)
        linear(weight, bias, given, 0, out, False)
        if index < len(layers) - 1:
            if kind == TANH:
                squash(out, np.ones(len(weight), rows.dtype))
            else:
                for n in range(len(out)):
                    for s in range(0, out.shape[1], LANES):
                        store(out, (n, s), largest(zero, load(out, (n, s))))
        given = out
    said = np.empty((len(rows), len(given)), rows.dtype)
    in_rows(given, 0, said)
    return said


@compiled
def draw(logits: Array, noise: Array) -> tuple[Array, Array]:
    """Draws from categorical distributions as torch does: the largest of p / e, e drawn from Exp(1).

    Args:
        logits: [B, A].
        noise: [B, A], positive.

    Returns:
        actions [B] int64 and their log-probabilities [B].
    """
    batch, choices = logits.shape
    actions, log_probs = np.empty(batch, np.int64), np.empty(batch, logits.dtype)
    for b in range(batch):
        most, total = logits[b].max(), 0.0
        for a in range(choices):
            total += math.exp(logits[b, a] - most)
        norm, best, picked = most + math.log(total), -1.0, 0
        for a in range(choices):
            score = math.exp(logits[b, a] - norm) / noise[b, a]
            if score > best:
                best, picked = score, a
        actions[b], log_probs[b] = picked, logits[b, picked] - norm
    return actions, log_probs
