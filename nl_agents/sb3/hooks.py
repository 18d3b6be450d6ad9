"""Who listens to a module: torch's hooks, which compiled code would pass by."""

from __future__ import annotations

from typing import Any

from torch import nn

KINDS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def hooks_of(*modules: nn.Module) -> list[dict[int, Any]]:
    """The tables that torch keeps of the hooks on modules and on all within them; ``any(tables)``: somebody listens."""
    return [getattr(part, kind) for module in modules for part in module.modules() for kind in KINDS]


def has_hooks(module: nn.Module) -> bool:
    """The same for one module, here and now."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def has_gradient_hooks(module: nn.Module) -> bool:
    """Whether a hook on a parameter waits for its gradient."""
    return any(part._backward_hooks or part._post_accumulate_grad_hooks for part in module.parameters())
