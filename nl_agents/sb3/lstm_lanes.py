"""``lstm_kernel`` as a differentiable operation on a block [T, B]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nl_agents.memory.lanes import LANES
from nl_agents.sb3 import lstm_kernel


def serves(x: Tensor, width: int) -> bool:
    """Whether the kernel can do it: on a CPU, in single or double precision, a width in whole tiles."""
    return x.is_cpu and x.dtype in (torch.float32, torch.float64) and width % lstm_kernel.FEWEST == 0


def side_by_side(block: Tensor, wide: int) -> Tensor:
    """[T, B, F] -> [F, T * wide], zeros behind the last stream."""
    steps, batch, features = block.shape
    if batch == wide:
        return block.reshape(steps * batch, features).t().contiguous()
    out = block.new_zeros(features, steps, wide)
    out[:, :, :batch] = block.permute(2, 0, 1)
    return out.view(features, steps * wide)


class LstmLanes(torch.autograd.Function):
    """A layer run along a block; gradients flow to the first six inputs."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        x: Tensor,  # [T, B, D]
        enter: Tensor,  # [4 H, D] W
        weight: Tensor,  # [4 H, H] U
        bias: Tensor | None,  # [4 H]
        hidden: Tensor,  # [B, H]
        cell: Tensor,  # [B, H]
        is_first: Tensor,  # [T, B] bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, batch = is_first.shape
        width, wide = weight.shape[1], -(-batch // LANES) * LANES
        size = x.shape[2]
        joined = x.new_empty(size + 1 + width, steps * wide)  # x, 1 and h before each step: what the gates are made of
        told, before_h = joined[:size], joined[size + 1 :]
        told.copy_(side_by_side(x, wide))
        joined[size] = 1.0
        state = [side_by_side(leaf.unsqueeze(0), wide) for leaf in (hidden, cell)]
        gates = x.new_empty(4 * width, steps * wide)
        bent, before_c, out = (x.new_empty(width, steps * wide) for _ in range(3))
        first = is_first.contiguous()
        given = x.new_empty(0) if bias is None else bias
        lstm_kernel.forward(
            told.numpy(), first.numpy(), enter.numpy(), weight.numpy(), given.numpy(), state[0].numpy(),
            state[1].numpy(), gates.numpy(), bent.numpy(), (before_h.numpy(), before_c.numpy()), out.numpy(),
        )  # fmt: skip
        ctx.save_for_backward(joined, enter, weight, gates, bent, before_c, first)
        ctx.has_bias = bias is not None
        reads = out.view(width, steps, wide)[:, :, :batch].permute(1, 2, 0)
        return reads, state[0][:, :batch].t(), state[1][:, :batch].t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        joined, enter, weight, gates, bent, before_c, first = ctx.saved_tensors
        steps, batch = first.shape
        wide, size = joined.shape[1] // steps, enter.shape[1]
        grad, to_h, to_c = (side_by_side(part, wide) for part in (grads[0], grads[1][None], grads[2][None]))
        sums = torch.empty_like(gates)
        turned = weight.t().contiguous()
        lstm_kernel.backward(
            grad.numpy(), first.numpy(), turned.numpy(), gates.numpy(), bent.numpy(), before_c.numpy(), to_h.numpy(),
            to_c.numpy(), sums.numpy(),
        )  # fmt: skip
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (enter.t() @ sums).view(-1, steps, wide)[:, :, :batch].permute(1, 2, 0)
        found = sums @ joined.t()  # [4 H, D + 1 + H], of W, b and U
        to_bias = found[:, size] if ctx.has_bias else None
        to_state = (leaf[:, :batch].t() for leaf in (to_h, to_c))
        return to_x, found[:, :size], found[:, size + 1 :], to_bias, *to_state, None
