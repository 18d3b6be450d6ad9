"""What inputs and returns look like: running moments that set the policy's scales between rollouts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nl_agents.learning.rollout import Rollout
from nl_agents.policies import MemoryPolicy
from nl_agents.rl.normalisation import Moments, initial_moments, update_moments, variance

HORIZON = 500_000.0
"""Time constant of forgetting (env steps): scales follow drift and never collapse on a sudden shift."""
STAKES_HORIZON = 100_000.0
"""The same for advantages: what was at stake lately."""


class ScaleKeeper:
    """Running moments of observations, of their changes, of returns and of advantages.

    ``update`` is called after the epochs on a rollout, so that acting and all its epochs see the same scales. Returns
    are divided by max(1, root mean square), never multiplied up.
    """

    _MOMENTS = ("observation", "change", "square_return", "advantage")

    def __init__(self, policy: MemoryPolicy) -> None:
        device = policy.mean.device
        self.policy = policy
        self.observation = initial_moments((policy.codec.vector_size,), device)
        self.change = initial_moments((policy.codec.feature_size,), device)
        self.square_return = initial_moments((1,), device)
        self.advantage = initial_moments((1,), device)

    @torch.no_grad()
    def update(self, rollout: Rollout) -> None:
        """Adds a rollout and writes the new scales into the policy's buffers."""
        policy, trains = self.policy, rollout.trains
        if policy.codec.vector_size:
            vectors = policy.codec.vectors(rollout.rows)
            self.observation = update_moments(self.observation, vectors, trains, HORIZON)
            policy.mean.copy_(self.observation.mean)
            policy.scale.copy_((variance(self.observation) + 1e-6).rsqrt())
        features = policy.codec.features(rollout.rows, policy.mean, policy.scale)
        change = features[1:] - features[:-1]
        self.change = update_moments(self.change, change, rollout.follows()[:-1], HORIZON)
        policy.change_scale.copy_((variance(self.change) + 1e-3).rsqrt())
        squares = rollout.returns.square().unsqueeze(-1)
        self.square_return = update_moments(self.square_return, squares, trains, HORIZON)
        policy.return_scale.copy_(self.square_return.mean[0].sqrt().clamp_min(1.0))
        self.advantage = update_moments(self.advantage, rollout.advantages.unsqueeze(-1), trains, STAKES_HORIZON)
        policy.advantage_scale.copy_(variance(self.advantage)[0].sqrt())

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The moments, for an exact resume (the buffers travel with the policy)."""
        return {name: list(getattr(self, name)) for name in self._MOMENTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        device = self.policy.mean.device
        for name, leaves in state.items():
            setattr(self, name, Moments(*(leaf.to(device) for leaf in leaves)))
