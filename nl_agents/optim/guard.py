"""The guard: how far a learned proposal may pull an optimizer step away from its anchor.

Two pure parts. *Geometry* bounds angle and length of the step for every input. *Evidence* (a prequential Hedge on two
experts, anchor and proposal) says how much of the proposal is wanted at all. Neither is in the Nested Learning paper,
which leaves the safety of deep optimizers open; both are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def graft(anchor_sq: Tensor, proposal_sq: Tensor) -> Tensor:
    """Returns the factor that gives a proposal the anchor's length, ``|a| / |q|``; 0 where the proposal vanishes.

    Args:
        anchor_sq: [n] squared lengths of the anchors.
        proposal_sq: [n] squared lengths of the proposals.
    """
    usable = proposal_sq > 0
    return torch.where(usable, torch.sqrt(anchor_sq / proposal_sq.where(usable, 1.0)), 0.0)


def bound(
    anchor_sq: Tensor,
    cross: Tensor,
    proposal_sq: Tensor,
    gate: Tensor,
    *,
    rho: float = 0.5,
    tau: float = 0.5,
    kappa: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Bounds the step ``u = alpha a + beta q`` between an anchor a and a proposal q.

    With the residual ``r = s (q - a)`` split along and across the anchor, ``r = c a + r'``::

        u = (1 + clip(c, rho - 1, kappa)) a + r' min(1, tau |a| / |r'|)

    so that for every input ``cos(u, a) >= rho / sqrt(rho^2 + tau^2)`` and
    ``rho <= |u| / |a| <= sqrt((1 + kappa)^2 + tau^2)``: .707 and .5 … 1.58 at the defaults. Everything follows from
    three dot products, so whole tensors enter only once more, in ``alpha a + beta q``. The squared length of r' is
    enlarged by the rounding error of its own subtraction, which keeps the bound when q is nearly parallel to a and
    many decades longer. Where the anchor vanishes the step is the anchor (alpha 1, beta 0).

    Args:
        anchor_sq: [n] squared lengths ``|a|^2``.
        cross: [n] dot products ``<a, q>``.
        proposal_sq: [n] squared lengths ``|q|^2``.
        gate: [n] share s in [0, 1] of the proposal.
        rho: least relative length along the anchor, in (0, 1].
        tau: largest relative length across the anchor, >= 0.
        kappa: largest relative growth along the anchor, >= 0.

    Returns:
        alpha, beta: [n] coefficients of a and of q.
    """
    usable = (anchor_sq > 0) & torch.isfinite(proposal_sq) & torch.isfinite(cross)
    safe_anchor = anchor_sq.where(usable, 1.0)
    along = cross / safe_anchor
    across_sq = (proposal_sq - cross * along).clamp_min(0) + 32 * torch.finfo(cross.dtype).eps * proposal_sq
    length = gate * across_sq.sqrt()
    allowed = tau * safe_anchor.sqrt()
    beta = torch.where(length > allowed, gate * allowed / length.where(length > 0, 1.0), gate)
    alpha = 1 + (gate * (along - 1)).clamp(rho - 1, kappa) - beta * along
    return torch.where(usable, alpha, 1.0), torch.where(usable, beta, 0.0)


def bound_grafted(
    anchor_sq: Tensor, cross: Tensor, proposal_sq: Tensor, gate: Tensor, *, rho: float = 0.5, tau: float = 0.5
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Grafts and bounds at once: :func:`bound` for a proposal brought to the anchor's length, in a third of the work.

    With ``|q| = |a|`` everything depends on the cosine alone, and growth along the anchor cannot happen (kappa never
    binds): ``beta = min(s, tau / sin)``, ``alpha = 1 + max(s (cos - 1), rho - 1) - beta cos``.

    Args:
        anchor_sq: [n] squared lengths ``|a|^2``.
        cross: [n] dot products of the anchors with the raw proposals.
        proposal_sq: [n] squared lengths of the raw proposals.
        gate: [n] share s in [0, 1] of the proposal.
        rho: least relative length along the anchor, in (0, 1].
        tau: largest relative length across the anchor, >= 0.

    Returns:
        alpha, beta: [n] coefficients of a and of the grafted proposal.
        factor: [n] what grafts the raw proposal; 0 where it vanishes, and then beta counts for nothing.
        cosine: [n] of the angle between anchor and proposal; 1 where either vanishes.
    """
    info = torch.finfo(cross.dtype)
    anchor, proposal = anchor_sq.sqrt(), proposal_sq.sqrt()
    live = (proposal > 0).to(anchor.dtype)
    factor = (anchor / proposal.clamp_min(info.tiny)).mul_(live)
    cosine = (cross / (anchor * proposal)).nan_to_num_(nan=1.0).clamp_(-1, 1)
    sine = ((1 + 32 * info.eps) - cosine * cosine).sqrt_()
    beta = torch.minimum(gate, tau / sine).mul_(live)
    alpha = (cosine - 1).mul_(gate).clamp_min_(rho - 1).add_(1).addcmul_(beta, cosine, value=-1)
    return alpha, beta, factor, cosine


def guarded_step(
    anchor: Tensor, proposal: Tensor, gate: float, *, rho: float = 0.5, tau: float = 0.5, kappa: float = 0.5
) -> Tensor:
    """Applies :func:`bound` to one pair of tensors of any shape; returns the guarded step."""
    a, q = anchor.flatten(), proposal.flatten()
    share = torch.as_tensor(gate, dtype=a.dtype, device=a.device)
    alpha, beta = bound(a @ a, a @ q, q @ q, share, rho=rho, tau=tau, kappa=kappa)
    return alpha * anchor + beta * torch.where(beta == 0, torch.zeros_like(proposal), proposal)


def hedge(odds: Tensor, anchor_gain: Tensor, proposal_gain: Tensor, *, rate: float, discount: float) -> Tensor:
    """Moves the log-odds of the proposal against the anchor by one fresh observation.

    Discounted Hedge (Freund and Schapire 1997, two experts, exponential forgetting): ``h <- gamma h + eta (g_q - g_a)``
    with gains in [-1, 1], clipped here. The gains must be *prequential*: both experts spoke before they saw the
    gradient that judges them.

    Args:
        odds: [n] log-odds h relative to the prior gate.
        anchor_gain: [n] gain of the anchor.
        proposal_gain: [n] gain of the proposal.
        rate: eta > 0.
        discount: gamma in [0, 1].
    """
    return discount * odds + rate * (proposal_gain.clamp(-1, 1) - anchor_gain.clamp(-1, 1))


def gate(odds: Tensor, prior: float) -> Tensor:
    """Returns the share s of the proposal: ``sigmoid(h + logit(prior))``, so h = 0 gives the prior."""
    return torch.sigmoid(odds + math.log(prior / (1 - prior)))
