"""Losses against loops, torch.distributions, and the rule that invalid steps touch neither value nor gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from nl_agents.rl import losses

VALID = torch.tensor([[True, True, False], [True, False, True]])


def test_masked_mean_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, math.nan], [3.0, math.inf, 6.0]])
    assert losses.masked_mean(x, VALID).item() == 3.0
    assert losses.masked_mean(x, torch.zeros_like(VALID)).item() == 0.0


def test_normalised_advantages_have_mean_zero_and_deviation_one() -> None:
    advantages = torch.tensor([[1.0, 5.0, math.nan], [3.0, math.nan, 7.0]])
    out = losses.normalise_advantages(advantages, VALID)
    chosen = out[VALID]
    torch.testing.assert_close(chosen.mean(), torch.tensor(0.0))
    torch.testing.assert_close(chosen.std(correction=0), torch.tensor(1.0))
    assert (out[~VALID] == 0.0).all()


def test_a_single_valid_step_normalises_to_zero() -> None:
    out = losses.normalise_advantages(torch.tensor([4.0, math.nan]), torch.tensor([True, False]))
    assert out.tolist() == [0.0, 0.0]


def test_policy_loss_equals_the_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    new, old, advantages = 0.15 * torch.randn(3, 2, 3, generator=generator)
    out = losses.ppo_policy_loss(new, old, advantages, VALID, clip=0.2)
    gains, kls, outside = [], [], 0
    for index in VALID.nonzero().tolist():
        ratio = math.exp(float(new[tuple(index)] - old[tuple(index)]))
        weight = float(advantages[tuple(index)])
        gains.append(min(ratio * weight, min(max(ratio, 0.8), 1.2) * weight))
        kls.append(ratio - 1.0 - math.log(ratio))
        outside += abs(ratio - 1.0) > 0.2
    assert out.loss.item() == pytest.approx(-sum(gains) / 4, rel=1e-5)
    assert out.approximate_kl.item() == pytest.approx(sum(kls) / 4, rel=1e-4)
    assert out.clip_fraction.item() == pytest.approx(outside / 4)
    assert 0 < outside < 4, "the fixture must exercise both sides of the clip"


def test_policy_gradient_at_ratio_one_is_the_plain_policy_gradient() -> None:
    new = torch.zeros(2, 3, requires_grad=True)
    advantages = torch.arange(6.0).reshape(2, 3)
    losses.ppo_policy_loss(new, torch.zeros(2, 3), advantages, VALID).loss.backward()
    torch.testing.assert_close(new.grad, torch.where(VALID, -advantages / 4, 0.0))


def test_clipped_steps_give_no_gradient() -> None:
    new = torch.tensor([math.log(1.5), math.log(0.5), math.log(1.5), math.log(0.5)], requires_grad=True)
    advantages = torch.tensor([1.0, -1.0, -1.0, 1.0])
    losses.ppo_policy_loss(new, torch.zeros(4), advantages, torch.ones(4, dtype=torch.bool)).loss.backward()
    assert new.grad is not None
    assert (new.grad == 0.0).tolist() == [True, True, False, False]


def test_nan_at_invalid_steps_reaches_neither_loss_nor_gradient() -> None:
    new = torch.where(VALID, 0.1, math.nan).requires_grad_()
    values = torch.where(VALID, 0.3, math.nan).requires_grad_()
    dirty = torch.where(VALID, 1.0, math.nan)
    loss = losses.ppo_policy_loss(new, dirty, dirty, VALID).loss + losses.value_loss(values, dirty, VALID)
    loss.backward()
    assert math.isfinite(loss.item())
    assert new.grad is not None and values.grad is not None
    assert new.grad.isfinite().all() and values.grad.isfinite().all()
    assert (new.grad[~VALID] == 0.0).all() and (values.grad[~VALID] == 0.0).all()


def test_value_loss_plain_and_clipped() -> None:
    values, returns = torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0])
    every = torch.ones(2, dtype=torch.bool)
    assert losses.value_loss(values, returns, every).item() == 5.0
    clipped = losses.value_loss(values, returns, every, old_values=torch.tensor([1.0, 2.0]), clip=0.5)
    assert clipped.item() == pytest.approx((1.0 + 0.25) / 2)


def test_entropies_and_divergences_agree_with_torch() -> None:
    generator = torch.Generator().manual_seed(2)
    logits, behaviour = torch.randn(2, 4, 5, generator=generator)
    torch.testing.assert_close(losses.categorical_entropy(logits), Categorical(logits=logits).entropy())
    expected = kl_divergence(Categorical(logits=behaviour), Categorical(logits=logits))
    torch.testing.assert_close(losses.categorical_kl(behaviour, logits), expected)
    mean, log_std, mean_b, log_std_b = torch.randn(4, 4, 3, generator=generator)
    policy = Independent(Normal(mean, log_std.exp()), 1)
    stored = Independent(Normal(mean_b, log_std_b.exp()), 1)
    torch.testing.assert_close(losses.gaussian_entropy(log_std), policy.entropy())
    torch.testing.assert_close(
        losses.gaussian_kl(mean_b, log_std_b, mean, log_std), kl_divergence(stored, policy), rtol=1e-4, atol=1e-5
    )


def test_divergences_are_zero_at_equality_and_constant_in_the_behaviour() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    stored = logits.detach().clone().requires_grad_()
    kl = losses.categorical_kl(stored, logits)
    torch.testing.assert_close(kl, torch.zeros(4), atol=1e-6, rtol=0)
    kl.sum().backward()
    assert stored.grad is None
    assert logits.grad is not None and logits.grad.abs().max() < 1e-6


def test_approximate_kl_is_the_true_kl_on_average() -> None:
    old, new = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    ratio = new.log_softmax(-1) - old.log_softmax(-1)
    estimate = (old.softmax(-1) * (torch.expm1(ratio) - ratio)).sum()
    torch.testing.assert_close(estimate, losses.categorical_kl(old, new))
    assert losses.approximate_kl(ratio, torch.ones(6, dtype=torch.bool)).item() > 0.0


def test_cloning_weights_by_hand() -> None:
    stored = torch.tensor([[3.0, 1.0], [-1.0, math.nan]])
    values = torch.tensor([[1.0, 1.0], [1.0, 1.0]], requires_grad=True)
    valid = torch.tensor([[True, True], [True, False]])
    weights = losses.cloning_weights(stored, values, valid)
    spread = math.sqrt(8.0 / 3.0)  # gains 2, 0, -2
    torch.testing.assert_close(weights, torch.tensor([[2.0 / spread, 0.0], [0.0, 0.0]]))
    assert not weights.requires_grad


def test_cloning_weights_are_scale_free_bounded_and_blind_to_worse_behaviour() -> None:
    gains = torch.zeros(50, 4)
    gains[3, 2] = 40.0
    every = torch.ones_like(gains, dtype=torch.bool)
    weights = losses.cloning_weights(gains, torch.zeros_like(gains), every)
    assert weights[3, 2] == 3.0
    torch.testing.assert_close(losses.cloning_weights(10 * gains, torch.zeros_like(gains), every), weights)
    assert (losses.cloning_weights(-gains, torch.zeros_like(gains), every) == 0.0).all()
    assert (losses.cloning_weights(gains, gains, every) == 0.0).all()


def test_bad_arguments_are_refused() -> None:
    x, valid = torch.zeros(2), torch.ones(2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"clip must be > 0, got 0\.0"):
        losses.ppo_policy_loss(x, x, x, valid, clip=0.0)
    with pytest.raises(ValueError, match=r"clip=0\.2 needs old_values, got None"):
        losses.value_loss(x, x, valid, clip=0.2)


def test_advantages_are_not_blown_up_beyond_the_least_divisor() -> None:
    noise, everything = torch.tensor([[0.001, -0.001]]), torch.ones(1, 2, dtype=torch.bool)
    small = losses.normalise_advantages(noise, everything, least=torch.tensor(0.1))
    torch.testing.assert_close(small, noise / 0.1)
    large = losses.normalise_advantages(noise * 1000, everything, least=0.1)
    torch.testing.assert_close(large, torch.tensor([[1.0, -1.0]]))
