"""Soft shrink-and-perturb: at every update a little of the weights fades, and a little of a newborn's comes in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from nl_agents.errors import ConfigError
from nl_agents.types import LevelInfo
from nl_agents.upkeep.base import Upkeep


class ShrinkPerturb(Upkeep):
    """theta <- (1 - shrink) theta + perturb * fresh after every step (Ash & Adams 2020; Juliani & Ash 2024, soft form).

    ``fresh`` is drawn as initial weights are: a normal with the mean and the deviation that each tensor had at birth.
    What was constant then (biases at 0, gains of a norm at 1) is its own draw, so that with ``shrink == perturb`` gains
    are drawn back to 1 and not to 0. The original form does this once, at a switch that it is told of, by a half.
    The optimizer's moments stay, as in both papers.

    Args:
        parameters: to be kept young.
        shrink: share that fades at every update, in [0, 1]; the soft form of 2024 uses 1e-6 a step.
        perturb: share of a newborn's weights that comes in, >= 0; there 1e-6 too.
        generator: of the draws, on the host.
    """

    name = "shrink-and-perturb"

    def __init__(
        self, parameters: Iterable[nn.Parameter], shrink: float, perturb: float, generator: torch.Generator
    ) -> None:
        if not 0.0 <= shrink <= 1.0 or perturb < 0.0:
            raise ConfigError(f"shrink must lie in [0, 1] and perturb be >= 0, got {shrink} and {perturb}")
        self.parameters, self.shrink, self.perturb, self.generator = list(parameters), shrink, perturb, generator
        self.means = torch.tensor([float(parameter.detach().mean()) for parameter in self.parameters])
        self.deviations = torch.tensor([_deviation(parameter) for parameter in self.parameters])

    @torch.no_grad()
    def after_step(self) -> None:
        """Shrinks and perturbs."""
        kept = 1.0 - self.shrink
        for parameter, mean, sd in zip(self.parameters, self.means.tolist(), self.deviations.tolist(), strict=True):
            fresh = torch.full_like(parameter, mean)
            if sd > 0.0:
                noise = torch.randn(parameter.shape, generator=self.generator, dtype=parameter.dtype)
                fresh.add_(noise.to(parameter.device), alpha=sd)
            parameter.mul_(kept).add_(fresh, alpha=self.perturb)

    def state_dict(self) -> dict[str, Any]:
        """How the first weights were spread, and the state of chance."""
        return {"means": self.means, "deviations": self.deviations, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        self.means.copy_(state["means"])
        self.deviations.copy_(state["deviations"])
        self.generator.set_state(state["generator"].cpu())

    def level(self) -> LevelInfo:
        """Its row of a nest."""
        stores = "mean and deviation of the first weights, a pair a tensor"
        return LevelInfo(f"upkeep.{self.name}", stores, "nothing", "none: fixed at birth", 1, "learner update", "life")


def _deviation(parameter: nn.Parameter) -> float:
    """Deviation of a tensor's entries; exactly 0 where they are all the same."""
    values = parameter.detach().double()
    return 0.0 if bool((values == values.flatten()[0]).all()) else float(values.std(correction=0))
