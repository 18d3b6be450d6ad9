"""Running mean and variance as a value: state in, state out, nothing learns behind your back.

Freezing is simply not calling ``update_moments``: a rollout and the epochs on it all see the same state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """What has been seen of a feature vector, in float64.

    Attributes:
        weight: [] total weight of the samples behind the estimate (at most ``horizon`` when forgetting).
        mean: [D...] weighted mean.
        m2: [D...] weighted sum of squared deviations from ``mean``.
    """

    weight: Tensor
    mean: Tensor
    m2: Tensor


def initial_moments(shape: Sequence[int], device: torch.device | str | None = None) -> Moments:
    """Returns the state that has seen nothing, for features of ``shape``; ``normalise`` then changes nothing."""
    zeros = torch.zeros(tuple(shape), dtype=torch.float64, device=device)
    return Moments(torch.zeros((), dtype=torch.float64, device=device), zeros, zeros.clone())


@torch.no_grad()
def update_moments(state: Moments, batch: Tensor, mask: Tensor | None = None, horizon: float = math.inf) -> Moments:
    """Adds a batch by the parallel rule of Chan, Golub & LeVeque (1979).

    n = n_a + n_b,  d = mean_b - mean_a,  mean = mean_a + d n_b / n,  M2 = M2_a + M2_b + d^2 n_a n_b / n.

    With a finite ``horizon`` the old weight is first multiplied by exp(-n_b / horizon): the estimate follows drift with
    that time constant. The d^2 term keeps the spread wide while the mean is on its way, so a sudden shift widens the
    scale instead of collapsing it.

    Args:
        state: moments so far.
        batch: [..., D...] samples, any number of leading axes.
        mask: bool [...] over the leading axes; False leaves a sample out, whatever it holds.
        horizon: time constant of forgetting in samples, > 0; infinity never forgets.

    Returns:
        The new moments; equal to the old ones when no sample is left.

    Raises:
        ValueError: shapes do not fit, or ``horizon`` is not positive.
    """
    if not horizon > 0.0:
        raise ValueError(f"horizon must be > 0 samples, got {horizon}; leave it out to weigh all samples alike")
    samples, weights = _flatten(state, batch, mask)  # [N, D...], [N, 1...]
    added = weights.sum()
    safe = added.clamp(min=1.0)
    mean = (samples * weights).sum(0) / safe
    m2 = ((samples - mean).square() * weights).sum(0)
    keep = torch.exp(-added / horizon)
    old = state.weight * keep
    total = (old + added).clamp(min=torch.finfo(torch.float64).tiny)
    shift = (mean - state.mean) * (added > 0)
    return Moments(
        old + added, state.mean + shift * (added / total), state.m2 * keep + m2 + shift.square() * (old * added / total)
    )


def variance(state: Moments) -> Tensor:
    """Returns the population variance [D...]; 1 before anything was seen."""
    spread = state.m2 / state.weight.clamp(min=1e-12)
    return torch.where(state.weight > 0, spread, torch.ones_like(spread))


def normalise(x: Tensor, state: Moments, clip: float = 10.0, epsilon: float = 1e-4) -> Tensor:
    """Returns clip((x - mean) / sqrt(variance + epsilon), ±clip) in the dtype of ``x`` (float32 for integers).

    Args:
        x: [..., D...] raw features.
        state: moments of those features; a constant, gradients flow through ``x`` alone.
        clip: bound of the result.
        epsilon: added to the variance, in squared units of ``x``: a feature that never moves stays near 0.
    """
    dtype = x.dtype if x.is_floating_point() else torch.float32
    mean = state.mean.to(dtype)
    scale = (variance(state) + epsilon).rsqrt().to(dtype)
    return ((x - mean) * scale).clamp(-clip, clip)


def _flatten(state: Moments, batch: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns samples [N, D...] in float64 (0 where masked) and weights [N, 1...] of 0 and 1."""
    features = state.mean.shape
    leading = batch.shape[: batch.ndim - len(features)]
    if batch.shape[len(leading) :] != features:
        raise ValueError(
            f"batch must end in the features {tuple(features)}, got {tuple(batch.shape)}; "
            "put the time and stream axes first"
        )
    if mask is not None and mask.shape != leading:
        raise ValueError(f"mask must have the leading shape {tuple(leading)}, got {tuple(mask.shape)}")
    samples = batch.reshape(-1, *features).to(torch.float64)
    chosen = torch.ones(samples.shape[0], dtype=torch.bool, device=samples.device) if mask is None else mask.reshape(-1)
    chosen = chosen.reshape(-1, *(1 for _ in features))
    return samples.masked_fill(~chosen, 0.0), chosen.to(torch.float64)
