"""Actions of one space: distribution, storage and the features that the next step sees."""

from __future__ import annotations

import functools
import math
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
    [..., A], clipped to the box only on their way to the environment.

    Raises:
        SpaceNotSupportedError: for any other space, or a Box of more than one axis.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        if isinstance(space, spaces.Discrete):
            self.discrete, self.size, self.parameters = True, int(space.n), int(space.n)
            self.start = int(space.start)
        elif isinstance(space, spaces.Box) and len(space.shape) == 1:
            self.discrete, self.size, self.parameters = False, int(space.shape[0]), 2 * int(space.shape[0])
            self.low, self.high = space.low, space.high
        else:
            raise SpaceNotSupportedError(
                f"no policy head for action space {space}; expected Discrete or a Box of one axis"
            )
        self.space = space

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Means and bounded log standard deviations of a Box [..., A] each."""
        mean, log_std = parameters.chunk(2, dim=-1)
        return mean, log_std.clamp(-5.0, 2.0)

    def sample(self, parameters: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draws actions; with ``generator`` None takes the mode."""
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
        if self.discrete:
            return -F.cross_entropy(parameters.reshape(-1, self.size), actions.reshape(-1), reduction="none").view(
                actions.shape
            )
        mean, log_std = self.split(parameters)
        return (-0.5 * ((actions - mean) * (-log_std).exp()).square() - log_std - _HALF_LOG_TWO_PI).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Entropy in nats [...]."""
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
        if self.discrete:
            return losses.categorical_kl(behaviour, parameters)
        return losses.gaussian_kl(*self.split(behaviour), *self.split(parameters))

    def features(self, actions: Tensor) -> Tensor:
        """What the next step sees of an action, float [..., A]: one-hot, or the clipped vector."""
        if self.discrete:
            return F.embedding(actions, _identity(self.size, torch.get_default_dtype(), actions.device))
        return actions.clamp(-3.0, 3.0)

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Actions as the environment expects them."""
        chosen: NDArray[Any] = actions.cpu().numpy()
        if self.discrete:
            return chosen + self.start if self.start else chosen
        inside: NDArray[Any] = np.clip(chosen, self.low, self.high)
        return inside


@functools.cache
def _identity(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The rows that discrete actions look up: one operation, where F.one_hot takes many."""
    with torch.inference_mode(False):
        return torch.eye(size, dtype=dtype, device=device)
