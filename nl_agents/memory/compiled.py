"""The compiled CPU form of the self-modifying memory as a differentiable operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nl_agents.memory import delta_kernel


class CompiledMemory(torch.autograd.Function):
    """``delta_kernel.run`` with its adjoint. Gradients flow to all float inputs; states are not changed in place."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        mixed: Tensor,  # [T, B, 3, H, K], the first two of three are inputs and queries
        base: Tensor,  # [H, K, R]
        bias: Tensor,  # [H, 2]
        rate: Tensor,  # [H]
        delta: Tensor,  # [B, H, K, R]
        anchor: Tensor,  # [B, H, K, R]
        clears: Tensor,  # [H] bool
        is_first: Tensor,  # [T, B] bool
        is_valid: Tensor,  # [T, B] bool
        period: int,
        phase: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mixed, base = mixed.contiguous(), base.contiguous()
        delta, anchor = delta.contiguous(), anchor.contiguous()
        is_first, is_valid = is_first.contiguous(), is_valid.contiguous()
        steps, batch, _, heads, width = mixed.shape
        out = mixed.new_empty(steps, batch, heads, width)
        delta_after, anchor_after = delta.clone(), anchor.clone()
        flags = (clears.numpy(), is_first.numpy(), is_valid.numpy())
        numbers = [tensor.detach().numpy() for tensor in (mixed, base, bias, rate)]
        after = (delta_after.detach().numpy(), anchor_after.detach().numpy())
        delta_kernel.run(*numbers, flags[0], *after, flags[1], flags[2], period, phase, out.detach().numpy())
        ctx.save_for_backward(mixed, base, bias, rate, delta, anchor)
        ctx.flags, ctx.clock = flags, (period, phase)
        return out, delta_after, anchor_after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_delta: Tensor, grad_anchor: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        mixed, base, bias, rate, delta, anchor = ctx.saved_tensors
        clears, first, valid = ctx.flags
        numbers = [tensor.detach().numpy() for tensor in (mixed, base, bias, rate)]
        before = (delta.detach().numpy(), anchor.detach().numpy())
        grad_delta, grad_anchor = (
            grad.clone(memory_format=torch.contiguous_format) for grad in (grad_delta, grad_anchor)
        )
        grad_mixed, grads = torch.zeros_like(mixed), [torch.zeros_like(tensor) for tensor in (base, bias, rate)]
        delta_kernel.run_adjoint(
            *numbers,
            clears,
            *before,
            first,
            valid,
            *ctx.clock,
            grad_out.contiguous().numpy(),
            grad_delta.numpy(),
            grad_anchor.numpy(),
            grad_mixed.numpy(),
            *(grad.numpy() for grad in grads),
        )
        return grad_mixed, *grads, grad_delta, grad_anchor, None, None, None, None, None
