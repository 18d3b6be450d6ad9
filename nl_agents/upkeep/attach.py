"""Upkeep in somebody else's loop: hooks on any torch optimizer stand in for the calls that our learner makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from nl_agents.upkeep.base import Upkeep


def attach(optimizer: Optimizer, parts: Iterable[Upkeep]) -> Callable[[], None]:
    """Lets every ``optimizer.step()`` of any training loop be preceded by penalties and followed by upkeep.

    A penalty's gradient is added to the gradients just before the step: the same as adding it to the loss, except that
    a loop that clips gradients has done so already.

    Args:
        optimizer: of torch; its own ``step`` stays as it is.
        parts: called in order.

    Returns:
        A function that takes the hooks off again.
    """
    kept = list(parts)

    def before(_: Optimizer, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        for part in kept:
            with torch.enable_grad():
                penalty = part.penalty()
            if penalty is not None and penalty.requires_grad:
                penalty.backward()

    def after(_: Optimizer, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        for part in kept:
            part.after_step()

    hooks = (optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after))

    def detach() -> None:
        for hook in hooks:
            hook.remove()

    return detach
