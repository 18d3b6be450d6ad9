"""Losses of the inner loop: clipped policy gradient, value regression, entropy, divergences, selective cloning.

Every reduction is a mean over valid steps. What lies at an invalid step is replaced before any arithmetic, so that a
NaN there reaches neither a loss nor a gradient; with no valid step at all a mean is 0. Divergences are in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PolicyLoss(NamedTuple):
    """The clipped policy loss and what to watch beside it.

    Attributes:
        loss: scalar, to be descended.
        approximate_kl: scalar without gradient, KL(old ‖ new) estimated from the actions taken.
        clip_fraction: scalar without gradient, share of valid steps whose ratio left the clip range.
    """

    loss: Tensor
    approximate_kl: Tensor
    clip_fraction: Tensor


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Returns the mean of ``x`` over the valid steps, 0 when there are none.

    Args:
        x: [...] any shape.
        valid: bool, same shape.
    """
    return x.masked_fill(~valid, 0.0).sum() / valid.sum().clamp(min=1)


@torch.no_grad()
def normalise_advantages(
    advantages: Tensor, valid: Tensor, epsilon: float = 1e-8, least: Tensor | float = 0.0
) -> Tensor:
    """Shifts advantages to mean 0 and divides them by max(deviation over the valid steps, ``least``); 0 where invalid.

    Uses the population deviation, so that a minibatch with a single valid step gives 0, not NaN. ``least`` keeps noise
    from being blown up where nothing is at stake: without a reward in sight a policy should feel its entropy bonus, not
    the critic's errors (the same reason for which DreamerV3 never scales returns up; Hafner et al. 2023).

    Args:
        advantages: [...].
        valid: bool, same shape.
        epsilon: added to the divisor.
        least: smallest divisor, in units of the advantages, for example their deviation over the life so far.
    """
    centred = (advantages - masked_mean(advantages, valid)).masked_fill(~valid, 0.0)
    deviation = masked_mean(centred.square(), valid).sqrt()
    return centred / (torch.maximum(deviation, torch.as_tensor(least).to(deviation)) + epsilon)


def ppo_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor, clip: float = 0.2
) -> PolicyLoss:
    """Clipped surrogate (Schulman et al. 2017, Eq. 7), negated: - mean min(r A, clip(r, 1 - c, 1 + c) A).

    Args:
        log_probs: [...] log pi(a | x) of today's policy; the only argument through which gradients flow.
        old_log_probs: [...] as stored when acting.
        advantages: [...].
        valid: bool [...].
        clip: half-width c of the trusted range of the ratio, > 0.

    Returns:
        Loss, approximate KL (nats) and clip fraction.

    Raises:
        ValueError: ``clip`` is not positive.
    """
    if clip <= 0.0:
        raise ValueError(f"clip must be > 0, got {clip}; 0.2 is usual")
    log_ratio = (log_probs - old_log_probs.detach()).masked_fill(~valid, 0.0)
    weights = advantages.detach().masked_fill(~valid, 0.0)
    ratio = log_ratio.exp()
    gain = torch.minimum(ratio * weights, ratio.clamp(1.0 - clip, 1.0 + clip) * weights)
    with torch.no_grad():
        outside = ((ratio - 1.0).abs() > clip).to(ratio.dtype)
        kl, clipped = approximate_kl(log_ratio, valid), masked_mean(outside, valid)
    return PolicyLoss(-masked_mean(gain, valid), kl, clipped)


def approximate_kl(log_ratio: Tensor, valid: Tensor) -> Tensor:
    """Estimates KL(old ‖ new) from actions of the old policy: mean (r - 1 - log r), never negative.

    Args:
        log_ratio: [...] log pi_new(a | x) - log pi_old(a | x).
        valid: bool [...].
    """
    return masked_mean(torch.expm1(log_ratio) - log_ratio, valid)


def value_loss(
    values: Tensor, returns: Tensor, valid: Tensor, old_values: Tensor | None = None, clip: float | None = None
) -> Tensor:
    """Mean squared error of the critic, without the factor 1/2 (as Stable-Baselines3 counts it).

    Args:
        values: [...] today's V(x); the only argument through which gradients flow.
        returns: [...] targets.
        valid: bool [...].
        old_values: [...] values when acting; needed with ``clip``.
        clip: with it the prediction moves at most this far from ``old_values`` (units of return).

    Raises:
        ValueError: ``clip`` is given without ``old_values``.
    """
    if clip is not None:
        if old_values is None:
            raise ValueError(f"clip={clip} needs old_values, got None; pass those stored when acting, or clip=None")
        values = old_values + (values - old_values).clamp(-clip, clip)
    return masked_mean((values - returns.detach()).masked_fill(~valid, 0.0).square(), valid)


def categorical_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats [...] of categorical distributions given by unnormalised logits [..., A]."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Entropy in nats [...] of diagonal Gaussians with log standard deviations [..., A]."""
    return (log_std + 0.5 * (1.0 + _LOG_TWO_PI)).sum(-1)


def categorical_kl(behaviour_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(behaviour ‖ policy) in nats: sum_a mu(a) (log mu(a) - log pi(a)).

    Args:
        behaviour_logits: [..., A] stored, unnormalised; a constant.
        logits: [..., A] today's; gradients flow here.

    Returns:
        [...].
    """
    behaviour = behaviour_logits.detach().log_softmax(-1)
    return (behaviour.exp() * (behaviour - logits.log_softmax(-1))).sum(-1)


def gaussian_kl(behaviour_mean: Tensor, behaviour_log_std: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(behaviour ‖ policy) in nats between diagonal Gaussians, summed over the A action dimensions.

    log(s/s_b) + (s_b^2 + (m_b - m)^2) / (2 s^2) - 1/2, with b for behaviour.

    Args:
        behaviour_mean: [..., A] stored; a constant.
        behaviour_log_std: [..., A] stored; a constant.
        mean: [..., A] today's; gradients flow here.
        log_std: [..., A] today's; gradients flow here.

    Returns:
        [...].
    """
    shift = behaviour_log_std.detach() - log_std
    distance = (behaviour_mean.detach() - mean).square() * (-2.0 * log_std).exp()
    return (0.5 * ((2.0 * shift).exp() + distance - 1.0) - shift).sum(-1)


@torch.no_grad()
def cloning_weights(stored_returns: Tensor, values: Tensor, valid: Tensor, high: float = 3.0) -> Tensor:
    """How much each stored step deserves to be cloned: only what turned out better than expected now.

    w_t = clip(relu(A_t) / std(A), 0, high),  A_t = stored return_t - V_now(x_t). **Ours**: CLEAR (Rolnick et al. 2019)
    clones everything with weight 1, which on contradicting tasks preserves immature behaviour. No gradient flows.

    Args:
        stored_returns: [T, B] returns of the stored behaviour (rewards to go, bootstrapped when stored).
        values: [T, B] today's V(x_t).
        valid: [T, B] bool.
        high: upper bound of a weight.

    Returns:
        [T, B] weights in [0, high]; 0 where invalid. The deviation is over the valid steps of the block.
    """
    gain = (stored_returns - values).masked_fill(~valid, 0.0)
    spread = masked_mean((gain - masked_mean(gain, valid)).square(), valid).sqrt()
    return (gain.relu() / spread.clamp(min=1e-8)).clamp(max=high)


_LOG_TWO_PI = 1.8378770664093453
