"""PPO's losses of a minibatch and their gradients, in double precision. Loaded where numba works."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nl_agents.memory.lanes import compiled

Array = NDArray[Any]


@compiled
def losses(
    values: Array,
    log_probs: Array,
    entropies: Array,
    old_values: Array,
    old_log_probs: Array,
    advantages: Array,
    returns: Array,
    trains: Array,
    clip: float,
    clip_value: float,
    weights: tuple[float, float],
    normalises: bool,
    to_value: Array,
    to_log_prob: Array,
    to_entropy: Array,
) -> Array:
    """Loss = policy + weights[0] * (-entropy) + weights[1] * squared error of the value, means over rows that train.

        policy = -min(A r, A clamp(r, 1 - clip, 1 + clip)), r = exp(log p - old log p)

    Args:
        values: [N], as all rows that follow.
        log_probs: of the actions.
        entropies: nats.
        old_values: of who acted.
        old_log_probs: of who acted.
        advantages: as they were found.
        returns: what values should be.
        trains: bool; length 0: all.
        clip: half the width of the ratio's range.
        clip_value: furthest that a value counts from the old one; <= 0: any.
        weights: of the entropy and of the value's loss.
        normalises: whether advantages are taken by mean and deviation, where there is more than one.
        to_value: [N], written: the loss's gradient, as
        to_log_prob: [N], and
        to_entropy: [N].

    Returns:
        KL from who acted, share of clipped ratios, policy's, value's and entropy's loss, and the weighted sum.
    """
    count, mean, square, some = 0, 0.0, 0.0, len(trains) > 0
    for n in range(len(values)):
        if not some or trains[n]:
            count, mean = count + 1, mean + advantages[n]
    mean /= count
    for n in range(len(values)):
        if not some or trains[n]:
            square += (advantages[n] - mean) ** 2
    scale = 1.0
    if normalises and count > 1:
        scale = 1.0 / (math.sqrt(square / (count - 1)) + 1e-8)
    else:
        mean = 0.0
    found, share = np.zeros(6), 1.0 / count
    for n in range(len(values)):
        if some and not trains[n]:
            to_value[n] = to_log_prob[n] = to_entropy[n] = 0.0
            continue
        advantage = (advantages[n] - mean) * scale
        log_ratio = np.float64(log_probs[n]) - np.float64(old_log_probs[n])
        ratio = math.exp(log_ratio)
        free, bound = advantage * ratio, advantage * min(max(ratio, 1.0 - clip), 1.0 + clip)
        outside = abs(ratio - 1.0) > clip
        found[0] += (ratio - 1.0) - log_ratio
        found[1] += 1.0 if outside else 0.0
        found[2] -= bound if bound < free else free
        to_log_prob[n] = 0.0 if bound < free and outside else -free * share
        moved, passes = values[n] - old_values[n], True
        if clip_value > 0.0:
            passes = abs(moved) <= clip_value
            moved = min(max(moved, -clip_value), clip_value)
            off = old_values[n] + moved - returns[n]
        else:
            off = values[n] - returns[n]
        found[3] += off * off
        to_value[n] = 2.0 * weights[1] * off * share if passes else 0.0
        found[4] -= entropies[n]
        to_entropy[n] = -weights[0] * share
    found *= share
    found[5] = found[2] + weights[0] * found[4] + weights[1] * found[3]
    return found
