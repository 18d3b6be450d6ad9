"""A linear memory of gradients: which mixture of fast and slow momenta foretells the next gradient?

Nested Learning reads momentum as an associative memory of gradients (arXiv 2512.24695, Eqs. 33-50) and asks for a
deeper one, but leaves key, value and objective of Eq. 50 open. **Ours**: the keys are K momenta on periods 1, 10, 100
(a continuum memory system inside the optimizer), the value is the *next* gradient, and the objective is L2 regression::

    L2(w) = 1/2 sum_t rho^(T-t) / c_t |g_t - sum_k w_k m_k|^2_{1/D} + ridge/2 |w - w_0|^2

whose minimum is known in closed form. 1/D is Adam's own metric (D = sqrt(v) + eps), and ``c_t = sum_k |m_k|^2 + |g|^2``
makes every observation weigh the same, whatever the scale of the gradient. The memory is causal: it is read, judged,
and only then taught. With nothing learned yet ``w = w_0``, the prior (1, 0, 0), that is Adam's own momentum.
Pure functions on batches of n tensors; no gradient flows anywhere here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class MemoryOptions:
    """How the memory learns and how much of it is trusted; every figure is **ours**.

    Attributes:
        learn_period: fresh steps between two lessons, >= 1 (7: no divisor of usual numbers of minibatches).
        retention: rho, what a lesson leaves of the older statistics.
        ridge: pull to the prior relative to the mean eigenvalue of the Gram matrix.
        ridge_floor: pull to the prior in absolute terms (observations are normalised), so few lessons change little.
        slow_decay: decay of each slow momentum, per write on its own period.
        gate: share of the proposal before any evidence.
        hedge_rate: eta of the Hedge gate.
        hedge_discount: gamma of the Hedge gate, per lesson.
        rho: least relative length along the anchor.
        tau: largest relative length across the anchor.
    """

    learn_period: int = 7
    retention: float = 0.95
    ridge: float = 1e-2
    ridge_floor: float = 1e-4
    slow_decay: float = 0.9
    gate: float = 0.05
    hedge_rate: float = 1.0
    hedge_discount: float = 0.99
    rho: float = 0.5
    tau: float = 0.5

    def __post_init__(self) -> None:
        """Refuses figures that the closed forms above cannot digest."""
        if self.learn_period < 1 or int(self.learn_period) != self.learn_period:
            raise ValueError(f"learn_period must be an integer >= 1, got {self.learn_period}; 7 is the default")
        for name in ("retention", "slow_decay", "gate", "hedge_discount", "rho"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"{name} must lie in (0, 1), got {value}; see {type(self).__name__} for its meaning")
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{field.name} must be >= 0, got {getattr(self, field.name)}; drop the sign")
        if self.ridge + self.ridge_floor <= 0:
            raise ValueError("ridge and ridge_floor are both 0: the regression has no solution yet; keep one above 0")


class Lesson(NamedTuple):
    """One observation of n tensors, normalised so that ``trace(keys) + value = 1`` (or all 0 where nothing moves).

    Attributes:
        keys: [n, K, K] inner products of the momenta.
        cross: [n, K] inner products of the momenta with the gradient.
        value: [n] squared length of the gradient.
    """

    keys: Tensor
    cross: Tensor
    value: Tensor


def make_lesson(products: Tensor) -> Lesson:
    """Normalises the inner products of K momenta and, last, the gradient.

    Args:
        products: [n, K + 1, K + 1] inner products in the metric 1/D, before the momenta absorbed the gradient.
    """
    scale = products.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(torch.finfo(products.dtype).tiny)
    normalised = torch.nan_to_num(products / scale[:, None, None], nan=0.0, posinf=0.0, neginf=0.0)
    return Lesson(normalised[:, :-1, :-1], normalised[:, :-1, -1], normalised[:, -1, -1])


def solve(gram: Tensor, cross: Tensor, prior: Tensor, *, ridge: float, floor: float) -> Tensor:
    """Returns the minimum of L2: ``w = w_0 + (A + lambda I)^-1 (b - A w_0)``, lambda = ridge tr(A)/K + floor.

    Args:
        gram: [n, K, K] discounted Gram matrices A.
        cross: [n, K] discounted products b with the next gradient.
        prior: [K] weights w_0.
        ridge: relative pull to the prior.
        floor: absolute pull to the prior.

    Returns:
        weights [n, K]; the prior where the solution is not finite.
    """
    keys = gram.shape[-1]
    regular = gram.clone()
    diagonal = regular.diagonal(dim1=-2, dim2=-1)
    diagonal += diagonal.sum(-1, keepdim=True) * (ridge / keys) + floor
    change, _ = torch.linalg.solve_ex(regular, cross - gram @ prior)
    usable = torch.isfinite(change.sum(-1, keepdim=True))
    return torch.where(usable, prior + change, prior)


def gains(lesson: Lesson, weights: Tensor, graft_factor: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what a step along anchor and along proposal would have gained on the fresh gradient, both [n].

    First-order gains ``<g, a>`` and ``<g, q>`` over the one normaliser ``|g| |a|`` (dual norms, so the anchor's lies
    in [-1, 1]); a is momentum 1 and ``q = graft * sum_k w_k m_k``, both as they were before this gradient came.

    Args:
        lesson: the observation.
        weights: [n, K] weights in force when the gradient was made.
        graft_factor: [n] length factor in force then.
    """
    scale = torch.sqrt(lesson.value * lesson.keys[:, 0, 0]).clamp_min(torch.finfo(weights.dtype).tiny)
    return lesson.cross[:, 0] / scale, graft_factor * (weights * lesson.cross).sum(-1) / scale


def errors(lesson: Lesson, weights: Tensor) -> Tensor:
    """Returns squared prediction errors relative to predicting zero, [n, 2]: of the memory, of the fast momentum.

    ``|g - M w|^2 / |g|^2 = 1 - (2 w b - w A w) / |g|^2``; 1 where there is no gradient.
    """
    explained = (weights * (2 * lesson.cross - torch.bmm(lesson.keys, weights[:, :, None])[:, :, 0])).sum(-1)
    momentum = 2 * lesson.cross[:, 0] - lesson.keys[:, 0, 0]
    value = lesson.value.clamp_min(torch.finfo(weights.dtype).tiny)
    return 1 - torch.stack([explained, momentum], 1) / value[:, None]


def slow_weight(writes: int, decay: float) -> float:
    """Returns the weight of the newest value in a slow momentum's ``writes``-th write (counted from 1).

    A plain mean until the exponential average takes over: ``max(1 - decay, 1 / writes)``. No bias correction needed.
    """
    return max(1 - decay, 1 / writes)
