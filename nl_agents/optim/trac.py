"""TRAC: a parameter-free tuner that scales how far an optimizer may lead away from where the weights began."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from nl_agents.optim.guarded_adamw import GuardedAdamW
from nl_agents.optim.levels import group_name
from nl_agents.types import LevelInfo

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


def erfi(x: Tensor) -> Tensor:
    """The imaginary error function, 2/sqrt(pi) * integral of exp(t^2) from 0 to x; inf from about 26 on.

    By Dawson's integral D: erfi(x) = 2/sqrt(pi) exp(x^2) D(x), and Rybicki's exponentially convergent sum for D
    (Numerical Recipes 6.10) with step .2, whose error is of the order exp(-(pi/.4)^2) = 1e-27. torch has no erfi.

    Args:
        x: any shape, any float dtype; computed and returned in float64.
    """
    x, step = x.double(), 0.2
    nearest = 2 * torch.round(x / (2 * step))  # the even grid point next to x
    rest = x - nearest * step
    total = torch.zeros_like(x)
    for n in range(-41, 42, 2):
        total += torch.exp(-((rest - n * step) ** 2)) / (n + nearest)
    small, term = torch.zeros_like(x), x / math.sqrt(math.pi) * 2.0
    for k in range(20):  # the sum above cancels near 0: there the power series, to x^39
        small += term / (2 * k + 1)
        term = term * x * x / (k + 1)
    return torch.where(x.abs() < 0.5, small, 2.0 / math.pi * torch.exp(x * x) * total)


class TracAdamW(GuardedAdamW):
    """TRAC around AdamW (Muppidi, Zhang, Yang 2024, Algorithm 1), as a drop-in ``torch.optim.Optimizer``.

    Let d be the way that AdamW alone has gone from the reference weights theta_ref (those before the first step), and
    g the gradient, both over all parameters. One step::

        h     = <g, d>                                     before d takes AdamW's step
        v_j   <- beta_j^2 v_j + h^2,   sigma_j <- beta_j sigma_j - h      for each of several betas
        s_j   = s_init erfi(sigma_j / (sqrt(2 v_j) + eps)) / erfi(1 / sqrt 2)
        theta <- theta_ref + max(sum_j s_j, 0) d

    So weights move away from where they began only where that has paid, and come back where it has not.
    h uses d itself and S is cut at 0, as in the authors' code (in the paper h uses theta - theta_ref). Unlike the code,
    which recovers d as (theta - theta_ref) / S and so loses it to rounding while S is 1e-8, d is kept.

    Args:
        params: parameters or groups.
        lr: of AdamW. eps, weight_decay: likewise.
        betas: of AdamW's moments.
        scales: the betas of the tuner; the authors' six.
        s_init: the tuner's first scale.
        tuner_eps: added in its divisor.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        scales: tuple[float, ...] = BETAS,
        s_init: float = 1e-8,
        tuner_eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        device = self.refused_steps.device
        self.scales = torch.tensor(scales, dtype=torch.float64, device=device)
        self.s_init, self.tuner_eps = s_init, tuner_eps
        self.variance = torch.zeros_like(self.scales)
        self.sigma = torch.full_like(self.scales, 1e-8)
        self.scale = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, *, learn_memory: bool | None = None) -> Any:
        """One step of AdamW, scaled by the tuner; a refused step changes nothing."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        moving = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not moving:
            return result
        for p in moving:
            if "reference" not in self.state[p]:
                self.state[p] |= self._newborn(p)
        before = [p.clone() for p in moving]
        refused = self.refused_steps.clone()
        super().step()
        if bool(self.refused_steps > refused):
            return result
        ways = [self.state[p]["way"] for p in moving]
        products = [torch.dot(way.flatten(), p.grad.flatten()) for way, p in zip(ways, moving, strict=True)]
        self._tune(torch.stack(products).double().sum())
        torch._foreach_add_(ways, torch._foreach_sub(moving, before))
        for p, way in zip(moving, ways, strict=True):
            p.copy_(self.state[p]["reference"] + way * self.scale.to(p.dtype))
        return result

    def _newborn(self, p: Tensor) -> dict[str, Tensor]:
        """The state of a parameter that has never been stepped; AdamW's own part too, which it founds when empty."""
        return {
            "step": torch.zeros((), dtype=torch.float32, device=p.device),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
            "reference": p.detach().clone(),
            "way": torch.zeros_like(p),
        }

    def _tune(self, h: Tensor) -> None:
        """Moves the tuner's scale by one observation h = <g, d>."""
        self.variance.mul_(self.scales**2).add_(h * h)
        self.sigma.mul_(self.scales).sub_(h)
        first = self.s_init / erfi(self.scales.new_tensor(1.0 / math.sqrt(2.0)))
        s = first * erfi(self.sigma / (torch.sqrt(2.0 * self.variance) + self.tuner_eps))
        scale = s.sum().clamp_min(0.0)
        self.scale.copy_(
            torch.where(scale.isfinite(), scale, self.scale)
        )  # erfi overflows from 26 on: the last one stays

    def levels(self) -> list[LevelInfo]:
        """AdamW's rows, and the tuner's."""
        rows = super().levels()
        for index, group in enumerate(self.param_groups):
            count = sum(p.numel() for p in group["params"])
            stores = f"first weights and AdamW's way from them, {2 * count:,} floats"
            name, aim = f"{group_name(group, index)}.way", "none: a sum of AdamW's steps"
            rows.append(LevelInfo(name, stores, "AdamW's steps", aim, 1, "learner update", "life"))
        name, flow = "optimizer.tuner", "products of gradient and way"
        aim = "regret against every fixed scale"
        rows.append(LevelInfo(name, "two sums a beta, and the scale", flow, aim, 1, "learner update", "life"))
        return rows

    def statistics(self) -> dict[str, Tensor]:
        """The count of refused steps, and the scale in force."""
        return {**super().statistics(), "trac_scale": self.scale.clone()}

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state and the tuner's."""
        tuner = {"variance": self.variance.clone(), "sigma": self.sigma.clone(), "scale": self.scale.clone()}
        return {**super().state_dict(), "tuner": tuner}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "tuner"})
        for name, value in state_dict["tuner"].items():
            getattr(self, name).copy_(value)
