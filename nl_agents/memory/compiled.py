"""The compiled CPU forms of the memories as differentiable operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nl_agents.memory import delta_adjoint, delta_kernel, level_kernel


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
        delta_adjoint.run_adjoint(
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


class CompiledLevel(torch.autograd.Function):
    """``level_kernel.run_level`` with its adjoint. Gradients flow to all float inputs; no state is changed in place."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        active: Tensor,  # [2, T, B, K] keys of this step and of the last one, before they are made units
        target: Tensor,  # [T, B, P]
        base: Tensor,  # [P, K]
        keep: Tensor,  # []
        rate: Tensor,  # []
        delta: Tensor,  # [B, P, K]
        gradient: Tensor,  # [B, P, K]
        learns: Tensor,  # [T, B] bool
        resets: Tensor,  # [T, B] bool
        period: int,
        phase: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        blocks = [tensor.detach().contiguous() for tensor in (active, target)]
        base, delta, gradient = base.detach().contiguous(), delta.contiguous(), gradient.contiguous()
        flags = (learns.contiguous().numpy(), resets.contiguous().numpy())
        scalars = (float(keep), float(rate))
        reads = target.new_empty(*target.shape[:2], 2 * base.shape[0])
        after = (delta.detach().clone(), gradient.detach().clone())
        level_kernel.run_level(
            *blocks[0].numpy(),
            blocks[1].numpy(),
            *flags,
            base.numpy(),
            *scalars,
            *(memory.numpy() for memory in after),
            period,
            phase,
            reads.detach().numpy(),
        )
        ctx.save_for_backward(blocks[0], base, delta, gradient, reads)
        ctx.flags, ctx.scalars, ctx.clock = flags, scalars, (period, phase)
        return reads, *after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_reads: Tensor, grad_delta: Tensor, grad_gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        active, base, delta, gradient, reads = ctx.saved_tensors
        outs = [grad.clone(memory_format=torch.contiguous_format) for grad in (grad_delta, grad_gradient)]
        grad_active = torch.empty_like(active)
        grad_target = active.new_empty(*active.shape[1:3], base.shape[0])
        grad_base, scalars = torch.zeros_like(base), base.new_zeros(2)
        level_kernel.run_level_adjoint(
            *active.numpy(),
            *ctx.flags,
            base.numpy(),
            *ctx.scalars,
            delta.detach().numpy(),
            gradient.detach().numpy(),
            *ctx.clock,
            reads.detach().numpy(),
            grad_reads.contiguous().numpy(),
            *(out.numpy() for out in outs),
            *grad_active.numpy(),
            *(grad.numpy() for grad in (grad_target, grad_base, scalars)),
        )
        return grad_active, grad_target, grad_base, scalars[0], scalars[1], *outs, None, None, None, None
