"""The compiled CPU forms of the memories as differentiable operations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nl_agents.memory import delta_adjoint, delta_kernel, level_kernel
from nl_agents.memory.threads import divided
from nl_agents.memory.tiles import whole_rows


def _memory_numbers(
    step_limit: float, mixed: Tensor, memory_0: Tensor, residual: Tensor, bias: Tensor, log_tau: Tensor
) -> tuple[Any, ...]:
    """The kernel's number arguments: K of them, mixed, base [H, K, R], bias, rate and the largest step."""
    base = np.ascontiguousarray((memory_0.detach().numpy() + residual.numpy()).transpose(0, 2, 1))
    return (
        whole_rows(base.shape[1]),
        mixed.detach().numpy(),
        base,
        bias.detach().numpy(),
        2.0 * np.exp(-log_tau.detach().numpy()),
        step_limit,
    )


def _level_scalars(log_tau: Tensor, rate_logit: Tensor, period: int) -> tuple[float, float]:
    """Retention over a period and step of a write."""
    keep = math.exp(-period * math.exp(-float(log_tau)))
    return keep, 1.0 / (1.0 + math.exp(-float(rate_logit))) / period


def act_memory(
    mixed: Tensor,
    weights: tuple[Tensor, ...],
    delta: Tensor,
    anchor: Tensor,
    flags: tuple[Tensor, ...],
    clock: tuple[int, int],
    step_limit: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """``CompiledMemory`` without gradients, on states that are given away: contiguous ones are changed in place."""
    mixed, delta, anchor = mixed.contiguous(), delta.contiguous(), anchor.contiguous()
    out = mixed.new_empty(*mixed.shape[:2], *mixed.shape[3:])
    clears, *when = (flag.contiguous().numpy() for flag in flags)
    memories = (delta.numpy(), anchor.numpy())
    numbers, kept = (
        _memory_numbers(step_limit, mixed, *weights),
        np.empty((*delta.shape[:2], 0, *delta.shape[2:]), memories[0].dtype),
    )
    given = (*numbers, clears, *memories, *when, *clock, out.numpy(), *memories, kept)
    delta_kernel.run(*given, (0, delta.shape[1]))
    return out, delta, anchor


def act_level(
    active: Tensor,
    target: Tensor,
    weights: tuple[Tensor, ...],
    delta: Tensor,
    gradient: Tensor,
    flags: tuple[Tensor, ...],
    clock: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """``CompiledLevel`` without gradients, on states that are given away: contiguous ones are changed in place."""
    active, target, delta, gradient = (block.contiguous() for block in (active, target, delta, gradient))
    base, log_tau, rate_logit = weights
    reads = target.new_empty(*target.shape[:2], 2 * base.shape[0])
    when = (flag.contiguous().numpy() for flag in flags)
    memories = (delta.numpy(), gradient.numpy())
    scalars = _level_scalars(log_tau, rate_logit, clock[0])
    numbers = (
        whole_rows(len(base)),
        *active.numpy(),
        target.numpy(),
        *when,
        base.detach().contiguous().numpy(),
        *scalars,
    )
    level_kernel.run_level(*numbers, *memories, *clock, reads.numpy(), *memories)
    return reads, delta, gradient


class CompiledMemory(torch.autograd.Function):
    """``delta_kernel.run`` with its adjoint. Gradients flow to all float inputs; states are not changed in place.

    The third of ``mixed`` that is not the memory's is handed on as the second output: its gradient then comes back
    into one block with the others'.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        mixed: Tensor,  # [T, B, 3, H, K], the first two of three are inputs and queries
        memory_0: Tensor,  # [H, R, K] meta-learned matrices
        residual: Tensor,  # [R, K] constant added to each of them
        bias: Tensor,  # [H, 2]
        log_tau: Tensor,  # [H] time constants of retention
        delta: Tensor,  # [B, H, K, R]
        anchor: Tensor,  # [B, H, K, R]
        clears: Tensor,  # [H] bool
        is_first: Tensor,  # [T, B] bool
        is_valid: Tensor,  # [T, B] bool
        period: int,
        phase: int,
        step_limit: float = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mixed, delta, anchor = mixed.contiguous(), delta.contiguous(), anchor.contiguous()
        steps, batch, _, heads, width = mixed.shape
        flags = (clears.numpy(), is_first.contiguous().numpy(), is_valid.contiguous().numpy())
        numbers = _memory_numbers(step_limit, mixed, memory_0, residual, bias, log_tau)
        before = (delta.detach().numpy(), anchor.detach().numpy())
        out = mixed.new_empty(steps, batch, heads, width)
        after = (torch.empty_like(delta), torch.empty_like(anchor))
        written = (after[0].detach().numpy(), after[1].detach().numpy())
        chunks = (phase + steps) // period - phase // period
        kept = np.empty((*delta.shape[:2], chunks, *delta.shape[2:]), written[0].dtype)
        arrays = (flags[0], *before, *flags[1:], period, phase, out.detach().numpy(), *written, kept)
        divided(lambda some: delta_kernel.run(*numbers, *arrays, some), heads, steps * batch * heads)
        ctx.save_for_backward(mixed, bias, delta, anchor)
        ctx.kept = (numbers, flags, before, (period, phase), kept)
        return out, mixed[:, :, 2].clone(), *after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # noqa: D102
        ctx: Any, grad_out: Tensor, grad_gate: Tensor, grad_delta: Tensor, grad_anchor: Tensor
    ) -> tuple[Tensor | None, ...]:
        mixed, bias, _, _ = ctx.saved_tensors  # raises if one of them was changed meanwhile
        numbers, flags, before, clock, kept = ctx.kept
        grad_delta, grad_anchor = (
            grad.clone(memory_format=torch.contiguous_format) for grad in (grad_delta, grad_anchor)
        )
        grad_mixed, grad_bias = torch.empty_like(mixed), torch.zeros_like(bias)
        grad_mixed[:, :, 2] = grad_gate
        grad_base, grad_rate = np.empty_like(numbers[2]), np.zeros_like(numbers[4])
        grads = (grad_out.contiguous(), grad_delta, grad_anchor, grad_mixed)
        arrays = (flags[0], *before, *flags[1:], *clock, kept, *(grad.numpy() for grad in grads), grad_base)
        arrays += (grad_bias.numpy(), grad_rate)
        heads, work = len(grad_base), grad_out.numel() // grad_out.shape[-1]
        divided(lambda some: delta_adjoint.run_adjoint(*numbers, *arrays, some), heads, work)
        grad_memory = torch.from_numpy(np.ascontiguousarray(grad_base.transpose(0, 2, 1)))
        grad_tau = torch.from_numpy(-grad_rate * numbers[4])
        return (grad_mixed, grad_memory, None, grad_bias, grad_tau, grad_delta, grad_anchor, *(None,) * 6)


class CompiledLevel(torch.autograd.Function):
    """``level_kernel.run_level`` with its adjoint. Gradients flow to all float inputs; no state is changed in place."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        active: Tensor,  # [2, T, B, K] keys of this step and of the last one, before they are made units
        target: Tensor,  # [T, B, P]
        base: Tensor,  # [P, K]
        log_tau: Tensor,  # [] time constant of retention
        rate_logit: Tensor,  # [] of the step of a write
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
        scalars = _level_scalars(log_tau, rate_logit, period)
        reads = target.new_empty(*target.shape[:2], 2 * base.shape[0])
        after = (torch.empty_like(delta), torch.empty_like(gradient))
        level_kernel.run_level(
            whole_rows(len(base)),
            *blocks[0].numpy(),
            blocks[1].numpy(),
            *flags,
            base.numpy(),
            *scalars,
            delta.detach().numpy(),
            gradient.detach().numpy(),
            period,
            phase,
            reads.detach().numpy(),
            *(memory.detach().numpy() for memory in after),
        )
        ctx.save_for_backward(blocks[0], base, delta, gradient, reads)
        ctx.flags, ctx.scalars, ctx.clock = flags, scalars, (period, phase)
        ctx.lost = period * math.exp(-float(log_tau))  # -log of what is kept over a period
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
            whole_rows(len(base)),
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
        keep, rate = ctx.scalars
        grad_tau = scalars[0] * (keep * ctx.lost)
        grad_logit = scalars[1] * (rate * (1.0 - rate * ctx.clock[0]))
        return (grad_active, grad_target, grad_base, grad_tau, grad_logit, *outs, *(None,) * 4)
