"""torch's fused AdamW behind the deep optimizer's guard against non-finite gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from nl_agents.optim.finite import scale_and_look
from nl_agents.optim.levels import optimizer_levels
from nl_agents.types import LevelInfo


class GuardedAdamW(AdamW):
    """AdamW (fused) that refuses a step for *all* parameters if any gradient is not finite, and counts it.

    The same interface as ``DeepMomentum``, so that the two are exchangeable in the inner loop. On CUDA the verdict
    stays on the device (``found_inf`` of the fused kernel); on CPU the host looks.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay of the first and second moment.
        eps: added to ``sqrt(v)``.
        weight_decay: decoupled.

    Attributes:
        refused_steps: 0-d integer tensor; read it when you log.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
        self.refused_steps = torch.zeros((), dtype=torch.int64, device=self.param_groups[0]["params"][0].device)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, *, learn_memory: bool | None = None) -> Any:
        """Steps every parameter that has a gradient; ``learn_memory`` has no meaning here."""
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return None
        home = self.refused_steps.device
        found = torch.zeros((), device=home)
        for device in {gradient.device for gradient in gradients}:
            found += scale_and_look([gradient for gradient in gradients if gradient.device == device]).to(home)
        if found.is_cpu:
            if bool(found):
                self.refused_steps += 1
                return None
            return super().step(closure)
        self.found_inf = found.clamp(max=1.0)
        self.refused_steps += self.found_inf.long()
        return super().step(closure)

    def levels(self) -> list[LevelInfo]:
        """Rows of a nest: both moments of every group; a group's periods count its own steps."""
        return optimizer_levels(self)

    def statistics(self) -> dict[str, Tensor]:
        """Nothing but the count: AdamW has no memory to watch."""
        return {"refused_steps": self.refused_steps.clone()}

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state with the count of refused steps."""
        return {**super().state_dict(), "refused_steps": self.refused_steps.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave; a plain AdamW's state is welcome too."""
        plain = {key: value for key, value in state_dict.items() if key != "refused_steps"}
        super().load_state_dict(plain)
        self.refused_steps.copy_(torch.as_tensor(state_dict.get("refused_steps", 0)))
