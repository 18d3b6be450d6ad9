"""AdamW, as it is when the memory is off: torch's own arithmetic, and a form that can refuse a step on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw


def device_choice(ok: Tensor, accepted: float, refused: float, dtype: torch.dtype) -> Tensor:
    """Returns one of two figures as a 0-d tensor on the device of the flag, without asking the host."""
    yes, no = (torch.full((), figure, dtype=dtype, device=ok.device) for figure in (accepted, refused))
    return torch.where(ok, yes, no)


def decay_factor(group: dict[str, Any], ok: Tensor | None, dtype: torch.dtype) -> Any:
    """Returns ``1 - lr wd``, or 1 on the device where the step is refused."""
    factor = 1 - group["lr"] * group["weight_decay"]
    if ok is None:
        return factor
    if isinstance(factor, Tensor):
        return torch.where(ok, factor, 1.0)
    return device_choice(ok, factor, 1.0, dtype)


def dense_gradient(param: Tensor) -> Tensor:
    """Returns the gradient of a parameter that has one; refuses a sparse one."""
    grad = param.grad
    assert grad is not None
    if grad.is_sparse:
        raise ValueError("expected dense gradients, got a sparse one; use torch.optim.SparseAdam for it")
    return grad


def gradient_sum(param: Tensor) -> Tensor:
    """Returns a 0-d tensor that is finite if (and, short of overflow, only if) the whole gradient is."""
    grad = dense_gradient(param)
    return grad.sum(dtype=torch.promote_types(grad.dtype, torch.float32))


def exact(params: list[Tensor], states: Sequence[dict[str, Any]], group: dict[str, Any]) -> None:
    """Steps by ``torch.optim.adamw.adamw(foreach=True)``: bit for bit torch's AdamW, in every version of torch."""
    beta1, beta2 = group["betas"]
    adamw(
        params,
        [dense_gradient(p) for p in params],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        foreach=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )


def masked(params: list[Tensor], states: Sequence[dict[str, Any]], group: dict[str, Any], ok: Tensor) -> None:
    """Steps by the arithmetic of AdamW(foreach=True, capturable=True) where ok, and changes nothing where not.

    All scalars stay on the device, so the host need not know whether the gradients were finite.

    Args:
        params: parameters with gradients, on one device and of one dtype.
        states: their states; ``step`` is a float tensor on the device.
        group: the parameter group.
        ok: 0-d bool tensor on the device.
    """
    beta1, beta2 = group["betas"]
    share = device_choice(ok, 1 - beta1, 0.0, params[0].dtype)
    sizes = [p.numel() for p in params]
    flat = torch.cat([dense_gradient(p).flatten() for p in params])
    parts = torch.where(ok, flat, 0.0).split(sizes)
    grads = [part.view(p.shape) for part, p in zip(parts, params, strict=True)]
    firsts, seconds, steps = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
    taken = ok.to(torch.float32)
    torch._foreach_add_(steps, [taken] * len(steps))  # a bare 0-d tensor would be read by the host
    if group["weight_decay"] != 0:
        torch._foreach_mul_(params, decay_factor(group, ok, params[0].dtype))
    torch._foreach_lerp_(firsts, grads, [share] * len(params))
    torch._foreach_mul_(seconds, device_choice(ok, beta2, 1.0, params[0].dtype))
    torch._foreach_addcmul_(seconds, grads, grads, 1 - beta2)
    counted = torch._foreach_clamp_min(steps, 1.0)
    rates = torch._foreach_sub(torch._foreach_pow(beta1, counted), 1.0)  # -(1 - beta1^t)
    torch._foreach_div_(rates, group["lr"])
    torch._foreach_reciprocal_(rates)
    torch._foreach_mul_(rates, taken)  # 0 where refused: then the step is m / inf, exactly 0
    roots = torch._foreach_sub(torch._foreach_pow(beta2, counted), 1.0)
    torch._foreach_neg_(roots)
    torch._foreach_sqrt_(roots)
    divisors = torch._foreach_sqrt(seconds)
    torch._foreach_div_(divisors, roots)
    torch._foreach_add_(divisors, group["eps"])
    torch._foreach_div_(divisors, rates)
    torch._foreach_addcdiv_(params, firsts, divisors)
