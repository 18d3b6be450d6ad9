"""Regenerative regularisation: weights are pulled back to where they began, not to zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nl_agents.errors import ConfigError
from nl_agents.types import LevelInfo
from nl_agents.upkeep.base import Upkeep


class InitialPull(Upkeep):
    """L2-init (Kumar, Marklund, Van Roy 2023, Eq. 1): loss + weight * sum over all weights of (theta - theta_0)^2.

    **The reduction is a plain sum**, as in the paper: coefficients do not carry over from code that takes means a
    tensor (research code has both). theta_0 is what the parameters are when this is built.

    Args:
        parameters: to be pulled.
        weight: of the penalty, >= 0; the authors search 1e-2 ... 1e-5 with Adam.
    """

    name = "l2-init"

    def __init__(self, parameters: Iterable[nn.Parameter], weight: float) -> None:
        if weight < 0.0:
            raise ConfigError(f"the weight of L2-init must be >= 0, got {weight}; 0 switches it off")
        self.parameters, self.weight = list(parameters), weight
        self.initial = [parameter.detach().clone() for parameter in self.parameters]

    def penalty(self) -> Tensor:
        """Weight * |theta - theta_0|^2, a scalar."""
        gaps = torch._foreach_sub(list(self.parameters), self.initial)
        return self.weight * torch.stack([gap.square().sum() for gap in gaps]).sum()

    def state_dict(self) -> dict[str, Any]:
        """Where the weights began."""
        return {"initial": list(self.initial)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        for mine, saved in zip(self.initial, state["initial"], strict=True):
            mine.copy_(saved)

    def level(self) -> LevelInfo:
        """Its row of a nest."""
        count = sum(tensor.numel() for tensor in self.initial)
        stores = f"the first weights, {count:,} floats"
        return LevelInfo("upkeep.l2-init", stores, "nothing", "none: fixed at birth", 1, "learner update", "life")
