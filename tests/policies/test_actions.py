"""Action distributions against torch.distributions, and what environments and later steps are given of an action."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal, kl_divergence, register_kl

from nl_agents.errors import SpaceNotSupportedError
from nl_agents.policies import ActionSpec

SPACES: dict[str, gym.Space[Any]] = {
    "discrete": spaces.Discrete(4),
    "multi-discrete": spaces.MultiDiscrete([3, 2, 4]),
    "box": spaces.Box(np.array([-1.0, -2.0, 0.0], np.float32), np.array([1.0, 2.0, 0.5], np.float32)),
}


@pytest.fixture(params=SPACES)
def spec(request: pytest.FixtureRequest) -> ActionSpec:
    torch.manual_seed(0)
    return ActionSpec(SPACES[request.param])


class Product(Distribution):
    """Independent choices side by side."""

    def __init__(self, choices: list[Categorical]) -> None:
        super().__init__(validate_args=False)
        self.choices = choices

    def log_prob(self, value: Tensor) -> Tensor:
        return sum(choice.log_prob(value[..., n]) for n, choice in enumerate(self.choices))  # type: ignore[return-value]

    def entropy(self) -> Tensor:
        return sum(choice.entropy() for choice in self.choices)  # type: ignore[return-value]


@register_kl(Product, Product)
def product_kl(one: Product, other: Product) -> Tensor:
    pairs = zip(one.choices, other.choices, strict=True)
    return sum(kl_divergence(mine, theirs) for mine, theirs in pairs)  # type: ignore[return-value]


def judge(spec: ActionSpec, parameters: Tensor) -> Distribution:
    if spec.discrete:
        return Categorical(logits=parameters)
    if spec.choices:
        return Product([Categorical(logits=part) for part in parameters.split([3, 2, 4], -1)])
    mean, log_std = spec.split(parameters)
    return Independent(Normal(mean, log_std.exp()), 1)


def test_log_prob_entropy_and_kl_agree_with_torch(spec: ActionSpec) -> None:
    now, before = torch.randn(2, 5, 3, spec.parameters)
    actions = spec.sample(now, torch.Generator().manual_seed(1))
    assert actions.shape[:2] == (5, 3)
    torch.testing.assert_close(spec.log_prob(now, actions), judge(spec, now).log_prob(actions))
    torch.testing.assert_close(spec.entropy(now), judge(spec, now).entropy())
    expected = kl_divergence(judge(spec, before), judge(spec, now))
    torch.testing.assert_close(spec.kl(before, now), expected, atol=1e-6, rtol=1e-5)
    assert spec.kl(now, now).abs().max() < 1e-6


def test_kl_pulls_only_the_policy(spec: ActionSpec) -> None:
    behaviour, policy = (torch.randn(6, spec.parameters, requires_grad=True) for _ in range(2))
    spec.kl(behaviour, policy).sum().backward()
    assert behaviour.grad is None and policy.grad is not None and policy.grad.abs().sum() > 0


def test_samples_follow_the_distribution(spec: ActionSpec) -> None:
    parameters = torch.randn(spec.parameters)
    actions = spec.sample(parameters.expand(40_000, -1), torch.Generator().manual_seed(2))
    if spec.discrete:
        shares = torch.bincount(actions, minlength=spec.size) / len(actions)
        torch.testing.assert_close(shares, parameters.softmax(-1), atol=0.01, rtol=0.0)
    elif spec.choices:
        expected = torch.cat([part.softmax(-1) for part in parameters.split([3, 2, 4], -1)])
        torch.testing.assert_close(spec.features(actions).mean(0), expected, atol=0.01, rtol=0.0)
    else:
        mean, log_std = spec.split(parameters)
        torch.testing.assert_close(actions.mean(0), mean, atol=0.06, rtol=0.0)
        torch.testing.assert_close(actions.std(0), log_std.exp(), atol=0.0, rtol=0.03)


def test_without_generator_the_mode_is_taken(spec: ActionSpec) -> None:
    parameters = torch.randn(7, spec.parameters)
    expected = parameters.argmax(-1) if spec.discrete else parameters[:, : spec.size]
    if spec.choices:
        expected = torch.stack([part.argmax(-1) for part in parameters.split([3, 2, 4], -1)], -1)
    assert torch.equal(spec.sample(parameters, None), expected)


def test_the_same_generator_gives_the_same_actions(spec: ActionSpec) -> None:
    parameters = torch.randn(9, spec.parameters)
    one, other = (spec.sample(parameters, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)


def test_log_standard_deviations_are_bounded() -> None:
    spec = ActionSpec(SPACES["box"])
    _, log_std = spec.split(torch.tensor([0.0, 0.0, 0.0, -100.0, 100.0, 1.0]))
    assert log_std.tolist() == [-5.0, 2.0, 1.0]


def test_the_environment_gets_actions_of_its_space() -> None:
    box = ActionSpec(SPACES["box"])
    wild = torch.tensor([[5.0, -5.0, 5.0], [0.5, 0.5, 0.25]])
    given = box.to_env(wild)
    assert given.tolist() == [[1.0, -2.0, 0.5], [0.5, 0.5, 0.25]]
    assert all(row in box.space for row in given)
    shifted = ActionSpec(spaces.Discrete(3, start=7))
    assert shifted.to_env(torch.tensor([0, 2])).tolist() == [7, 9]
    several = ActionSpec(spaces.MultiDiscrete([3, 2], start=[5, -1]))
    assert several.to_env(torch.tensor([[0, 1], [2, 0]])).tolist() == [[5, 0], [7, -1]]
    bits = ActionSpec(spaces.MultiBinary(3)).to_env(torch.tensor([[0, 1, 1]]))
    assert bits[0] in spaces.MultiBinary(3)


def test_features_are_one_hot_or_clipped() -> None:
    assert ActionSpec(SPACES["discrete"]).features(torch.tensor([2])).tolist() == [[0.0, 0.0, 1.0, 0.0]]
    assert ActionSpec(spaces.MultiDiscrete([2, 3])).features(torch.tensor([[1, 0]])).tolist() == [[0, 1, 1, 0, 0]]
    assert ActionSpec(SPACES["box"]).features(torch.tensor([[9.0, -9.0, 1.0]])).tolist() == [[3.0, -3.0, 1.0]]


@pytest.mark.parametrize(
    "space", [spaces.MultiBinary((2, 2)), spaces.Box(-1, 1, (2, 2)), spaces.MultiDiscrete([[2, 2]]), spaces.Text(3)]
)
def test_other_spaces_are_refused(space: gym.Space[Any]) -> None:
    with pytest.raises(SpaceNotSupportedError, match=r"no policy head for action space .* expected Discrete, or"):
        ActionSpec(space)


@pytest.mark.parametrize("space", [spaces.Discrete(4), spaces.Box(-1.0, 1.0, (3,)), spaces.MultiDiscrete([2, 5])])
def test_log_prob_and_entropy_come_together_as_alone(space: spaces.Space[Any]) -> None:
    spec = ActionSpec(space)
    parameters = torch.randn(5, 2, spec.parameters)
    actions = spec.sample(parameters, torch.Generator().manual_seed(0))
    both = spec.log_prob_and_entropy(parameters, actions)
    torch.testing.assert_close(both, (spec.log_prob(parameters, actions), spec.entropy(parameters)))
