"""Actions of one space: distribution, storage and the features that the next step sees."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nl_agents.errors import SpaceNotSupportedError
from nl_agents.rl import losses

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class ActionSpec:
    """Distribution over one action space, written on raw head outputs ("parameters" [..., P]).

    Discrete: P = A logits; actions are int64 [...]. Box: P = 2A, means and log standard deviations; actions are float32
    [..., A], clipped to the box only on their way to the environment. MultiDiscrete (MultiBinary: all of two values):
    independent choices, their logits side by side; actions are int64 [..., K], features one-hot side by side, A in all.

    Attributes:
        size: A, features that the next step sees of an action.
        parameters: P.
        shape: of one stored action: () or (A,) or (K,).
        dtype: of stored actions.

    Raises:
        SpaceNotSupportedError: for any other space, or one of more than one axis.
    """

    shape: tuple[int, ...]

    def __init__(self, space: gym.Space[Any]) -> None:
        self.choices: list[ActionSpec] = []
        if isinstance(space, spaces.Discrete):
            self.discrete, self.size, self.parameters = True, int(space.n), int(space.n)
            self.start, self.shape = int(space.start), ()
        elif isinstance(space, spaces.Box) and len(space.shape) == 1:
            self.discrete, self.size, self.parameters = False, int(space.shape[0]), 2 * int(space.shape[0])
            self.low, self.high = space.low, space.high
            self.shape = (self.size,)
        elif isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary) and len(space.shape) == 1:
            count = space.shape[0]
            sizes = space.nvec if isinstance(space, spaces.MultiDiscrete) else [2] * count
            starts = space.start if isinstance(space, spaces.MultiDiscrete) else [0] * count
            self.choices = [
                ActionSpec(spaces.Discrete(int(size), start=int(start)))
                for size, start in zip(sizes, starts, strict=True)
            ]
            self.discrete, self.size, self.shape = False, sum(choice.size for choice in self.choices), (count,)
            self.parameters = self.size
        else:
            raise SpaceNotSupportedError(
                f"no policy head for action space {space}; expected Discrete, or a MultiDiscrete, MultiBinary or "
                "Box of one axis"
            )
        self.space = space
        self.dtype = torch.float32 if isinstance(space, spaces.Box) else torch.int64

    def _each(self, *blocks: Tensor) -> Iterator[tuple[ActionSpec, tuple[Tensor, ...]]]:
        """The choices of a MultiDiscrete with their parts of parameters [..., P]."""
        parts = zip(*(block.split([choice.size for choice in self.choices], dim=-1) for block in blocks), strict=True)
        yield from zip(self.choices, parts, strict=True)

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Means and bounded log standard deviations of a Box [..., A] each."""
        mean, log_std = parameters.chunk(2, dim=-1)
        return mean, log_std.clamp(-5.0, 2.0)

    def sample(self, parameters: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draws actions; with ``generator`` None takes the mode."""
        if self.choices:
            return torch.stack([choice.sample(own, generator) for choice, (own,) in self._each(parameters)], dim=-1)
        if self.discrete:
            if generator is None:
                return parameters.argmax(-1)
            noise = torch.empty_like(parameters).exponential_(generator=generator)
            return (parameters - noise.log_()).argmax(-1)  # the Gumbel trick
        mean, log_std = self.split(parameters)
        if generator is None:
            return mean
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return mean + log_std.exp() * noise

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """Log-probability (density) of stored actions [...]."""
        if self.choices:
            return _sum(one.log_prob(own, actions[..., n]) for n, (one, (own,)) in enumerate(self._each(parameters)))
        if self.discrete:
            return -F.cross_entropy(parameters.reshape(-1, self.size), actions.reshape(-1), reduction="none").view(
                actions.shape
            )
        mean, log_std = self.split(parameters)
        return (-0.5 * ((actions - mean) * (-log_std).exp()).square() - log_std - _HALF_LOG_TWO_PI).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Entropy in nats [...]."""
        if self.choices:
            return _sum(choice.entropy(own) for choice, (own,) in self._each(parameters))
        if self.discrete:
            return losses.categorical_entropy(parameters)
        return losses.gaussian_entropy(self.split(parameters)[1])

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Both at the price of one [...]."""
        if not self.discrete:
            return self.log_prob(parameters, actions), self.entropy(parameters)
        log_probs = parameters.log_softmax(-1)
        taken = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return taken, -(log_probs.exp() * log_probs).sum(-1)

    def kl(self, behaviour: Tensor, parameters: Tensor) -> Tensor:
        """KL(behaviour || policy) in nats [...], gradients into ``parameters`` only."""
        if self.choices:
            return _sum(choice.kl(*own) for choice, own in self._each(behaviour, parameters))
        if self.discrete:
            return losses.categorical_kl(behaviour, parameters)
        return losses.gaussian_kl(*self.split(behaviour), *self.split(parameters))

    def features(self, actions: Tensor) -> Tensor:
        """What the next step sees of an action, float [..., A]: one-hot, or the clipped vector."""
        if self.choices:
            return torch.cat([choice.features(actions[..., n]) for n, choice in enumerate(self.choices)], dim=-1)
        if self.discrete:
            return F.embedding(actions, _identity(self.size, torch.get_default_dtype(), actions.device))
        return actions.clamp(-3.0, 3.0)

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Actions as the environment expects them."""
        chosen: NDArray[Any] = actions.cpu().numpy()
        if self.choices:
            moved: NDArray[Any] = (chosen + [choice.start for choice in self.choices]).astype(self.space.dtype)
            return moved
        if self.discrete:
            return chosen + self.start if self.start else chosen
        inside: NDArray[Any] = np.clip(chosen, self.low, self.high)
        return inside


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    return torch.stack(list(terms)).sum(0)


@functools.cache
def _identity(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The rows that discrete actions look up: one operation, where F.one_hot takes many."""
    with torch.inference_mode(False):
        return torch.eye(size, dtype=dtype, device=device)
