"""A memory core over a window of steps, as a features extractor: memory for algorithms that keep no state."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from nl_agents.errors import SpaceNotSupportedError
from nl_agents.sb3.cells import CoreMaker, make_core
from nl_agents.sb3.history import FLAGS


class HopeWindowExtractor(BaseFeaturesExtractor):
    """Runs a core over the window that ``history_env`` shows and hands on its last read-out.

        x_k = W window_k        y_k, s_k = core(x_k, s_k-1), s_0 newborn        features = y_K + x_K

    The row's flags tell the core where an episode begins and which rows there are. Rows that are not finite are taken
    as absent.

    Args:
        observation_space: Box [K, F] of ``history_env``.
        features_dim: width of the core.
        core: name of a core, or a callable ``core(input_size=, width=, **core_kwargs)``.
        core_kwargs: options of the core.

    Raises:
        SpaceNotSupportedError: another observation space.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        features_dim: int = 128,
        core: str | CoreMaker = "hope",
        core_kwargs: dict[str, Any] | None = None,
    ) -> None:
        shape = observation_space.shape
        if not isinstance(observation_space, spaces.Box) or shape is None or len(shape) != 2 or shape[1] <= FLAGS:
            raise SpaceNotSupportedError(
                f"HopeWindowExtractor expects the Box [K, F] of history_env, got {observation_space}: wrap the "
                "environment, nl_agents.sb3.history_env(env, 16)"
            )
        super().__init__(observation_space, features_dim)
        self.embed = nn.Linear(shape[1] - 1, features_dim)  # all but is_valid
        self.core = make_core(core, features_dim, features_dim, core_kwargs or {})

    def forward(self, observations: Tensor) -> Tensor:
        """Windows [N, K, F] -> features [N, features_dim]."""
        rows = observations.transpose(0, 1)  # [K, N, F]
        finite = torch.isfinite(rows).all(dim=-1)
        rows = rows.masked_fill(~finite.unsqueeze(-1), 0.0)
        is_valid = finite & (rows[..., -1] > 0.5)
        x = self.embed(rows[..., :-1])
        state = self.core.initial_state(x.shape[1], x.device)
        y, _ = self.core(x, state, rows[..., -2] > 0.5, is_valid, None, 0)
        features: Tensor = y[-1] + x[-1]
        return features
