"""What a step was worth: generalised advantages and V-trace targets on rollouts cut by time, not by episode.

Both work on [T, B] blocks in which episodes begin and end anywhere. Three flags say how a transition ended:

* ``terminated``: nothing follows, the future is worth 0;
* ``truncated``: the episode was cut, the future is worth the value of the final observation;
* ``valid`` False: there was no transition (a dummy reset step of the NEXT_STEP mode, or a refused one). It is taken
  out of the sequence: its advantage is 0 and its neighbours see each other across it, unless it carries an end flag.

``bootstrap_values[t]`` is the value of the observation that transition t led to. In the middle of an episode this is
``values[t + 1]``; at a truncated step the value of the final observation; at T - 1 that of the observation after the
rollout. At a terminated or invalid step it is ignored, even when it is not finite.

No gradient flows through anything here: targets are constants for the losses.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class VTrace(NamedTuple):
    """Off-policy corrected targets.

    Attributes:
        targets: [T, B] regression targets of the critic, v_s; equal to ``values`` at invalid steps.
        advantages: [T, B] rho_s (r_s + gamma v_{s+1} - V(x_s)), the policy-gradient weight; 0 at invalid steps.
        ratios: [T, B] clipped importance ratios rho_s; 0 at invalid steps.
    """

    targets: Tensor
    advantages: Tensor
    ratios: Tensor


def reverse_scan(increments: Tensor, decays: Tensor) -> Tensor:
    """Solves y_t = increments_t + decays_t y_{t+1} with y_T = 0, backwards in time.

    Two neighbouring affine maps compose into one, so log2(T) rounds of whole-block operations replace T small steps.

    Args:
        increments: [T, ...].
        decays: [T, ...], same shape.

    Returns:
        [T, ...] the y_t.
    """
    total, decay = increments, decays
    stride, steps = 1, increments.shape[0]
    while stride < steps:
        head = torch.addcmul(total[:-stride], decay[:-stride], total[stride:])
        total = torch.cat((head, total[-stride:]))
        if 2 * stride < steps:
            decay = torch.cat((decay[:-stride] * decay[stride:], torch.zeros_like(decay[-stride:])))
        stride *= 2
    return total


@torch.no_grad()
def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    bootstrap_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    valid: Tensor,
    gamma: float,
    lambda_: float,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, Eq. 16) with timeouts and invalid steps.

    delta_t = r_t + gamma V(x_{t+1}) - V(x_t);  A_t = delta_t + gamma lambda A_{t+1}, cut where an episode ends.

    Args:
        rewards: [T, B].
        values: [T, B] V(x_t) of the observation acted on.
        bootstrap_values: [T, B] value of the observation reached by transition t (module docstring).
        terminated: [T, B] bool.
        truncated: [T, B] bool.
        valid: [T, B] bool.
        gamma: discount per env step, in [0, 1].
        lambda_: trace decay per env step, in [0, 1].

    Returns:
        advantages [T, B] (0 where invalid) and returns [T, B] = advantages + values (``values`` where invalid).

    Raises:
        ValueError: shapes differ, or gamma or lambda_ lies outside [0, 1].
    """
    _check(gamma, lambda_, rewards, values, bootstrap_values, terminated, truncated, valid)
    errors = _temporal_differences(rewards, values, bootstrap_values, terminated, valid, gamma)  # [T, B]
    decay = _chain(terminated, truncated, valid, torch.full_like(values, gamma * lambda_))  # [T, B]
    advantages = reverse_scan(errors, decay).masked_fill_(~valid, 0.0)
    return advantages, advantages + values


@torch.no_grad()
def vtrace(
    behaviour_log_probs: Tensor,
    target_log_probs: Tensor,
    rewards: Tensor,
    values: Tensor,
    bootstrap_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    valid: Tensor,
    gamma: float,
    lambda_: float = 1.0,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
) -> VTrace:
    """V-trace (Espeholt et al. 2018, Eq. 1) with the lambda of their Remark 2, timeouts and invalid steps.

    v_s = V(x_s) + sum_t gamma^(t-s) (prod_{s<=i<t} c_i) delta_t,  delta_t = rho_t (r_t + gamma V(x_{t+1}) - V(x_t)),
    rho_t = min(rho_bar, pi/mu),  c_i = lambda min(c_bar, pi/mu).

    On-policy with lambda, rho_bar and c_bar at 1, ``targets`` are the returns of ``generalised_advantages``.

    Args:
        behaviour_log_probs: [T, B] log mu(a_t | x_t), as stored.
        target_log_probs: [T, B] log pi(a_t | x_t), today's.
        rewards: [T, B].
        values: [T, B] today's V(x_t).
        bootstrap_values: [T, B] today's value of the observation reached (module docstring).
        terminated: [T, B] bool.
        truncated: [T, B] bool.
        valid: [T, B] bool.
        gamma: discount per env step, in [0, 1].
        lambda_: trace decay per env step, in [0, 1].
        rho_bar: bound of the ratio in delta; it decides which policy's value is learnt.
        c_bar: bound of the ratio in the trace; it decides how fast.

    Returns:
        Targets, advantages and clipped ratios, each [T, B].

    Raises:
        ValueError: shapes differ, gamma or lambda_ lies outside [0, 1], or a bound is not positive.
    """
    _check(gamma, lambda_, values, behaviour_log_probs, target_log_probs, rewards, bootstrap_values, terminated,
           truncated, valid)  # fmt: skip
    if rho_bar <= 0.0 or c_bar <= 0.0:
        raise ValueError(f"rho_bar and c_bar must be > 0, got {rho_bar} and {c_bar}; 1.0 is the usual bound")
    ratio = (target_log_probs - behaviour_log_probs).masked_fill(~valid, -torch.inf).exp()  # [T, B], 0 where invalid
    rho = ratio.clamp(max=rho_bar)
    errors = _temporal_differences(rewards, values, bootstrap_values, terminated, valid, gamma)
    decay = _chain(terminated, truncated, valid, gamma * lambda_ * ratio.clamp(max=c_bar))
    correction = reverse_scan(rho * errors, decay)  # v_s - V(x_s); at an invalid step that of the next valid one
    following = torch.cat((correction[1:], torch.zeros_like(correction[:1])))
    following = following.masked_fill(terminated | truncated, 0.0)  # v_{s+1} - V(x_{s+1})
    advantages = rho * torch.where(valid, errors + gamma * following, 0.0)
    return VTrace(values + correction.masked_fill(~valid, 0.0), advantages, rho)


def _temporal_differences(
    rewards: Tensor, values: Tensor, bootstrap_values: Tensor, terminated: Tensor, valid: Tensor, gamma: float
) -> Tensor:
    """Returns delta_t [T, B]: 0 where invalid, without touching what may not be finite there."""
    future = bootstrap_values.masked_fill(terminated, 0.0)
    return (rewards + gamma * future - values).masked_fill(~valid, 0.0)


def _chain(terminated: Tensor, truncated: Tensor, valid: Tensor, decay: Tensor) -> Tensor:
    """Returns how much of y_{t+1} reaches y_t [T, B]: ``decay``, all across an invalid step, none past an end."""
    return decay.masked_fill(~valid, 1.0).masked_fill(terminated | truncated, 0.0)


def _check(gamma: float, lambda_: float, first: Tensor, *others: Tensor) -> None:
    """Refuses blocks of unequal shape and factors outside [0, 1]."""
    shapes = {tuple(tensor.shape) for tensor in (first, *others)}
    if len(shapes) != 1:
        raise ValueError(f"all blocks must have one shape [T, B], got {sorted(shapes)}; stack the rollout time first")
    if not (0.0 <= gamma <= 1.0 and 0.0 <= lambda_ <= 1.0):
        raise ValueError(f"gamma and lambda_ must lie in [0, 1], got {gamma} and {lambda_}; 0.99 and 0.95 are usual")
