"""Learner-time levels: groups of parameters whose gradients are summed over a period before they are stepped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nl_agents.errors import ConfigError
from nl_agents.optim.finite import scale_and_look
from nl_agents.types import LevelInfo


class ParameterLevel:
    """One level: its parameters, its period in learner updates, the gradient summed since its last step (Eq. 71)."""

    def __init__(self, name: str, parameters: list[nn.Parameter], period: int) -> None:
        self.name, self.parameters, self.period = name, parameters, period
        self.waited = 0  # updates summed so far
        self.summed: list[Tensor] = [torch.zeros_like(parameter) for parameter in parameters] if period > 1 else []


class LevelScheduler:
    """Decides at every learner update which levels step, with what gradient.

    Call ``gather`` between ``backward`` and the optimizer's step: it clips each level's (summed) gradient to
    ``max_norm`` and leaves ``grad = None`` on the levels that do not step now, which the optimizer then leaves alone.

    Args:
        groups: level name -> (parameters, period in learner updates); the level of period 1 first.
        max_norm: bound of a level's gradient norm.
        fixed: periods stay as they are; for nested levels, whose boundaries must go on falling together.
    """

    def __init__(self, groups: dict[str, tuple[list[nn.Parameter], int]], max_norm: float, fixed: bool = False) -> None:
        self.levels = [ParameterLevel(name, parameters, period) for name, (parameters, period) in groups.items()]
        self.max_norm, self.fixed = max_norm, fixed

    def gather(self) -> Tensor:
        """Prepares ``grad`` of every parameter; returns the norm of the fastest level's gradient before clipping."""
        norm = torch.zeros(())
        for index, level in enumerate(self.levels):
            gradients = [
                torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                for parameter in level.parameters
            ]
            if level.summed:
                torch._foreach_add_(level.summed, _only_finite(gradients))
                level.waited += 1
                if level.waited < level.period:
                    for parameter in level.parameters:
                        parameter.grad = None
                    continue
                for target, source in zip(gradients, level.summed, strict=True):
                    target.copy_(source)
                torch._foreach_zero_(level.summed)
                level.waited = 0
            for parameter, gradient in zip(level.parameters, gradients, strict=True):
                parameter.grad = gradient
            total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            scale_and_look(gradients, (self.max_norm / (total + 1e-6)).clamp(max=1.0))
            if index == 0:
                norm = total
        return norm

    def set_period(self, name: str, period: int) -> None:
        """Changes a level's period; a partial sum is flushed: it is stepped together with the next update's gradient.

        Raises:
            ConfigError: the periods are fixed.
            ValueError: no such level, or a period < 1.
        """
        if self.fixed:
            raise ConfigError(f"the period of nested level {name!r} cannot change: remove the levels and stack anew")
        if period < 1:
            raise ValueError(f"period of {name} must be an integer >= 1 (learner updates), got {period}")
        for level in self.levels:
            if level.name == name:
                if not level.summed:
                    level.summed = [torch.zeros_like(parameter) for parameter in level.parameters]
                level.waited = period - 1 if level.waited else 0
                level.period = period
                return
        raise ValueError(f"no level {name!r}; levels are {', '.join(level.name for level in self.levels)}")

    def periods(self) -> dict[str, int]:
        """Level name -> period in learner updates."""
        return {level.name: level.period for level in self.levels}

    def infos(self) -> list[LevelInfo]:
        """One row a level."""
        rows = []
        for level in self.levels:
            weights = sum(parameter.numel() for parameter in level.parameters)
            rows.append(
                LevelInfo(
                    level.name,
                    f"{weights} weights",
                    "gradients of fresh and replayed chunks",
                    "policy, value, prediction and cloning losses",
                    level.period,
                    "learner update",
                    "life",
                )
            )
        return rows

    def sums(self) -> list[LevelInfo]:
        """One row a level that waits: the gradients summed since its last step."""
        return [
            LevelInfo(
                f"{level.name}.sum",
                f"gradients of up to {level.period} updates, {sum(part.numel() for part in level.summed):,} floats",
                "gradients of fresh and replayed chunks",
                "none: a plain sum (Eq. 71)",
                1,
                "learner update",
                "life",
            )
            for level in self.levels
            if level.summed
        ]

    def state_dict(self) -> dict[str, Any]:
        """Periods, waits and partial sums, for an exact resume."""
        return {
            level.name: {"period": level.period, "waited": level.waited, "summed": list(level.summed)}
            for level in self.levels
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        for level in self.levels:
            saved = state[level.name]
            level.period, level.waited = int(saved["period"]), int(saved["waited"])
            level.summed = [
                tensor.to(parameter.device).clone()
                for tensor, parameter in zip(saved["summed"], level.parameters, strict=False)
            ]


def _only_finite(gradients: list[Tensor]) -> list[Tensor]:
    """The gradients, or zeros if any of them is not finite: a sum must not be spoilt by one bad update."""
    found = scale_and_look(gradients)
    if found.is_cpu:
        return [torch.zeros_like(gradient) for gradient in gradients] if bool(found) else gradients
    return [torch.where(found > 0.0, 0.0, gradient) for gradient in gradients]
