"""An LSTM layer over a block [T, B] with resets anywhere, its adjoint written by hand.

    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of (x_t W^T + b + h_t-1 U^T)
    c_t = f c_t-1 + i g          h_t = o tanh(c_t)          h_t-1 = c_t-1 = 0 where an episode begins

The products with W, and all of the adjoint that does not depend on what comes from later steps, are taken for the
whole block at once; a step is left with one product with U and a handful of small operations. Torch's own kernel is
faster where nothing is reset; this one costs the same however many resets there are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LstmScan(torch.autograd.Function):
    """See the module's docstring; gradients flow to the first six inputs."""

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
        pushed = nn.functional.linear(x, enter, bias)
        steps, batch, width = pushed.shape[0], pushed.shape[1], weight.shape[1]
        cuts = is_first.any(dim=1).tolist()
        gates = torch.empty_like(pushed, memory_format=torch.contiguous_format)
        before = pushed.new_empty(2, steps, batch, width)  # h and c that each step starts from
        bent, reads = pushed.new_empty(2, steps, batch, width)  # tanh(c_t), h_t
        turned = weight.t()
        for t in range(steps):
            if cuts[t]:
                clear = is_first[t].unsqueeze(1)
                hidden, cell = hidden.masked_fill(clear, 0.0), cell.masked_fill(clear, 0.0)
            before[0, t], before[1, t] = hidden, cell
            gate = torch.addmm(pushed[t], hidden, turned, out=gates[t])
            gate[:, : 2 * width].sigmoid_()
            gate[:, 2 * width : 3 * width].tanh_()
            gate[:, 3 * width :].sigmoid_()
            admit, keep, fresh, leave = gate.chunk(4, dim=1)
            cell = torch.addcmul(keep * cell, admit, fresh)
            hidden = torch.mul(torch.tanh(cell, out=bent[t]), leave, out=reads[t])
        ctx.save_for_backward(x, enter, weight, gates, before, bent, is_first)
        ctx.cuts, ctx.has_bias = cuts, bias is not None
        return reads, hidden.clone(), cell

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        x, enter, weight, gates, before, bent, is_first = ctx.saved_tensors
        grad_reads, to_hidden, to_cell = grads
        steps, batch, width = bent.shape
        admit, keep, fresh, leave = gates.view(steps, batch, 4, width).unbind(2)
        slopes = torch.stack(  # d gate / d (its sum), times what the gate is multiplied with
            (admit * (1 - admit) * fresh, keep * (1 - keep) * before[1], (1 - fresh * fresh) * admit), dim=2
        )
        of_leave, of_cell = leave * (1 - leave) * bent, leave * (1 - bent * bent)
        sums = torch.empty_like(gates).view(steps, batch, 4, width)
        for t in range(steps - 1, -1, -1):
            to_hidden = to_hidden + grad_reads[t]
            to_cell = torch.addcmul(to_cell, to_hidden, of_cell[t])
            torch.mul(slopes[t], to_cell.unsqueeze(1), out=sums[t, :, :3])
            torch.mul(of_leave[t], to_hidden, out=sums[t, :, 3])
            to_hidden, to_cell = sums[t].view(batch, -1) @ weight, to_cell * keep[t]
            if ctx.cuts[t]:
                clear = is_first[t].unsqueeze(1)
                to_hidden, to_cell = to_hidden.masked_fill(clear, 0.0), to_cell.masked_fill(clear, 0.0)
        flat = sums.view(steps * batch, 4 * width)
        to_x = (flat @ enter).view(x.shape) if ctx.needs_input_grad[0] else None
        to_enter, to_weight = flat.t() @ x.reshape(steps * batch, -1), flat.t() @ before[0].view(-1, width)
        return to_x, to_enter, to_weight, flat.sum(0) if ctx.has_bias else None, to_hidden, to_cell, None
