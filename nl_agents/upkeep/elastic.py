"""Elastic weights: what mattered for earlier tasks is held where it was, the more the more it mattered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nl_agents.errors import ConfigError
from nl_agents.types import LevelInfo
from nl_agents.upkeep.base import Upkeep


class ElasticWeights(Upkeep):
    """Elastic weight consolidation, its two forms in one rule: loss + weight / 2 * sum_j Omega_j (theta_j - mu_j)^2.

    Kirkpatrick et al. 2017 keep one quadratic a task, sum_i F_i (theta - theta_i)^2. Sums of quadratics are
    quadratics: with Omega = sum F_i and Omega mu = sum F_i theta_i the gradient is the same, in constant memory.
    Online EWC (Schwarz et al. 2018, Section 3.2) lets old importance fade and anchors at the newest weights only::

        EWC:     Omega <- Omega + F,           Omega mu <- Omega mu + F theta
        online:  Omega <- decay Omega + F,     mu <- theta

    (Schwarz et al. put decay before Omega in the penalty once more, a constant factor, which ``weight`` holds here.)
    F is the diagonal of the Fisher information at the end of a task. **Must be told where tasks end.**

    Args:
        parameters: to be held.
        weight: lambda >= 0; 500 in CORA's runs, 1e4 in Continual World's.
        decay: gamma in [0, 1] of the online form; None for the form of 2017.
    """

    name = "ewc"

    def __init__(self, parameters: Iterable[nn.Parameter], weight: float, decay: float | None = None) -> None:
        if weight < 0.0 or (decay is not None and not 0.0 <= decay <= 1.0):
            raise ConfigError(f"EWC needs a weight >= 0 and a decay in [0, 1] or None, got {weight} and {decay}")
        self.parameters, self.weight, self.decay = list(parameters), weight, decay
        self.importance = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.anchor = [parameter.detach().clone() for parameter in self.parameters]
        self.tasks = 0

    def penalty(self) -> Tensor | None:
        """Weight / 2 * sum Omega (theta - mu)^2; None before the first consolidation."""
        if self.tasks == 0:
            return None
        gaps = torch._foreach_sub(list(self.parameters), self.anchor)
        terms = [(omega * gap.square()).sum() for omega, gap in zip(self.importance, gaps, strict=True)]
        return 0.5 * self.weight * torch.stack(terms).sum()

    @torch.no_grad()
    def consolidate(self, fisher: Sequence[Tensor]) -> None:
        """Files a task that has just ended.

        Args:
            fisher: diagonal of its Fisher information at today's weights, one tensor a parameter.
        """
        for omega, mu, theta, one in zip(self.importance, self.anchor, self.parameters, fisher, strict=True):
            if self.decay is not None:
                omega.mul_(self.decay).add_(one)
                mu.copy_(theta)
            else:
                total = omega + one
                mu.copy_(torch.where(total > 0, (omega * mu + one * theta) / total.where(total > 0, 1.0), theta))
                omega.copy_(total)
        self.tasks += 1

    def metrics(self) -> dict[str, float]:
        """Tasks filed so far."""
        return {"consolidated_tasks": float(self.tasks)}

    def state_dict(self) -> dict[str, Any]:
        """Importance, anchor, count."""
        return {"importance": list(self.importance), "anchor": list(self.anchor), "tasks": self.tasks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        for name in ("importance", "anchor"):
            for mine, saved in zip(getattr(self, name), state[name], strict=True):
                mine.copy_(saved)
        self.tasks = int(state["tasks"])

    def level(self) -> LevelInfo:
        """Its row of a nest."""
        count = sum(tensor.numel() for tensor in self.anchor)
        stores = f"importance of weights and where they were, {2 * count:,} floats"
        return LevelInfo("upkeep.ewc", stores, "told switches", "Fisher information", 1, "rollout", "life")


def diagonal_fisher(scores: Iterable[Tensor], parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Mean over draws of the squared gradient of a score: an unbiased diagonal of the Fisher information.

    A score is the sum over steps of log p(y_t), with every y_t drawn **from the model itself**: gradients of single
    steps then have mean zero and are independent, so that the square of their sum has the mean of the sum of their
    squares. (Recorded actions give the "empirical Fisher", the square of a batch's mean gradient gives neither.)

    Args:
        scores: one scalar a draw, over the same steps.
        parameters: to differentiate by; what a score does not reach gets 0.
    """
    total, count = [torch.zeros_like(parameter) for parameter in parameters], 0
    for score in scores:
        gradients = torch.autograd.grad(score, list(parameters), allow_unused=True)
        for sum_, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                sum_.addcmul_(gradient, gradient)
        count += 1
    if count == 0:
        raise ValueError("expected at least one score, got none")
    return [sum_ / count for sum_ in total]
