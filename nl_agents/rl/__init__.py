"""Reinforcement-learning arithmetic: pure functions on tensors, no environment, no network, no hidden state."""

from nl_agents.rl.losses import (
    PolicyLoss,
    approximate_kl,
    categorical_entropy,
    categorical_kl,
    cloning_weights,
    gaussian_entropy,
    gaussian_kl,
    masked_mean,
    normalise_advantages,
    ppo_policy_loss,
    value_loss,
)
from nl_agents.rl.normalisation import Moments, initial_moments, normalise, update_moments, variance
from nl_agents.rl.returns import VTrace, generalised_advantages, reverse_scan, vtrace

__all__ = [
    "Moments",
    "PolicyLoss",
    "VTrace",
    "approximate_kl",
    "categorical_entropy",
    "categorical_kl",
    "cloning_weights",
    "gaussian_entropy",
    "gaussian_kl",
    "generalised_advantages",
    "initial_moments",
    "masked_mean",
    "normalise",
    "normalise_advantages",
    "ppo_policy_loss",
    "reverse_scan",
    "update_moments",
    "value_loss",
    "variance",
    "vtrace",
]
