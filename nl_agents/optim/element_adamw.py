"""AdamW that counts its steps weight by weight, so that a single unit can be born again in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from nl_agents.optim.finite import scale_and_look
from nl_agents.optim.guarded_adamw import GuardedAdamW
from nl_agents.types import LevelInfo


class ElementAdamW(GuardedAdamW):
    """AdamW (Loshchilov & Hutter 2019) whose step count is a tensor of each parameter's shape.

    Element by element::

        t <- t + 1,   m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
        theta <- (1 - lr wd) theta - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Equal to torch's AdamW to rounding while nobody touches its state. Where a unit is replaced (ReDo, continual
    backprop), its moments *and counts* go to zero (``nl_agents.upkeep.units.forget``), and its bias correction begins
    anew: with torch's one count a tensor its first step would be (1 - b1) / sqrt(1 - b2) = 3.2 times too long.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, *, learn_memory: bool | None = None) -> Any:
        """Steps every parameter that has a gradient; refuses all of them if one gradient is not finite."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return result
        if bool(scale_and_look(gradients)):
            self.refused_steps += 1
            return result
        for group in self.param_groups:
            self._step_group(group)
        return result

    def levels(self) -> list[LevelInfo]:
        """AdamW's rows; the clocks are as many as the weights."""
        return [
            row._replace(stores=re.sub(r" and \d+ clocks", " and as many clocks", row.stores))
            for row in super().levels()
        ]

    def _step_group(self, group: dict[str, Any]) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        for p in params:
            if not self.state[p]:
                self.state[p] = {key: torch.zeros_like(p) for key in ("step", "exp_avg", "exp_avg_sq")}
        states, gradients = [self.state[p] for p in params], [p.grad for p in params]
        steps, first, second = ([state[key] for state in states] for key in ("step", "exp_avg", "exp_avg_sq"))
        torch._foreach_add_(steps, 1.0)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1.0 - lr * group["weight_decay"])
        torch._foreach_lerp_(first, gradients, 1.0 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1.0 - beta2)
        below = torch._foreach_neg(torch._foreach_sub(torch._foreach_pow(beta2, steps), 1.0))
        roots = torch._foreach_sqrt(torch._foreach_div(second, below))
        torch._foreach_add_(roots, group["eps"])
        above = torch._foreach_neg(torch._foreach_sub(torch._foreach_pow(beta1, steps), 1.0))
        torch._foreach_addcdiv_(params, torch._foreach_div(first, above), roots, value=-lr)
