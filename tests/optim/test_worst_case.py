"""Small worlds with known answers: DeepMomentum is within 5 % of AdamW everywhere, and ahead where there is drift."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nl_agents.optim import DeepMomentum

STEPS = 900


def mean_loss(make: Callable[[list[nn.Parameter]], Optimizer], world: str, seed: int) -> float:
    """Mean loss over a life on a noisy diagonal quadratic with curvatures over several decades.

    Worlds: ``fixed`` minimum; ``drifting`` with constant velocity; ``delayed`` gradients, five steps old;
    ``switching`` to a new minimum every 300 steps.
    """
    generator = torch.Generator().manual_seed(seed)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((200,), (20, 10))]
    curvature = [torch.exp(torch.randn(p.shape, generator=generator)) for p in params]
    velocity = [0.005 * torch.randn(p.shape, generator=generator) for p in params]
    minimum = [torch.zeros_like(p) for p in params]
    optimizer, past, total = make(params), list[list[Tensor]](), 0.0
    for step in range(STEPS):
        if world == "drifting":
            minimum = [m + v for m, v in zip(minimum, velocity, strict=True)]
        if world == "switching" and step % 300 == 0:
            minimum = [2 * torch.randn(p.shape, generator=generator) for p in params]
        with torch.no_grad():
            slopes = [c * (p - m) for c, p, m in zip(curvature, params, minimum, strict=True)]
            total += sum(float((g * g / c).sum()) / 2 for g, c in zip(slopes, curvature, strict=True))
        past.append(slopes)
        seen = past[max(0, step - 5)] if world == "delayed" else slopes
        for param, slope in zip(params, seen, strict=True):
            param.grad = slope + torch.randn(slope.shape, generator=generator)
        optimizer.step()
    return total / STEPS


def ratio(world: str, rate: float) -> float:
    """Mean loss of DeepMomentum over that of AdamW, two seeds."""
    ours = sum(mean_loss(lambda params: DeepMomentum(params, lr=rate), world, seed) for seed in range(2))
    theirs = sum(mean_loss(lambda params: AdamW(params, lr=rate, weight_decay=0.0), world, seed) for seed in range(2))
    return ours / theirs


@pytest.mark.parametrize("rate", [1e-2, 5e-2])
@pytest.mark.parametrize("world", ["fixed", "drifting", "delayed", "switching"])
def test_within_five_percent_of_adamw_and_ahead_on_drift(world: str, rate: float) -> None:
    assert ratio(world, rate) < (1.0 if world == "drifting" else 1.05)
