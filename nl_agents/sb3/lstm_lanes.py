"""``lstm_kernel`` as a differentiable operation on a block [T, B], its streams on two cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nl_agents.memory.lanes import LANES
from nl_agents.sb3 import lstm_kernel
from nl_agents.sb3.lstm_kernel import GATES, PAIR
from nl_agents.sb3.two_cores import both

AT_A_TIME = 4
"""Streams in a tile: with four gates of 16 units each it fills half of the registers of a large core, all of others."""
CACHED = 1024
"""Steps of streams whose blocks stay in a core's cache."""
TILE, ROW = (0,) * AT_A_TIME, (0,)


def serves(x: Tensor) -> bool:
    """Whether the kernel can do it: on a CPU, in single or double precision."""
    return x.is_cpu and x.dtype in (torch.float32, torch.float64)


def fits(steps: int, batch: int) -> bool:
    """Whether the kernel is as fast as torch's on one core where nothing is reset: full tiles, blocks in the cache."""
    return steps > 1 and batch % AT_A_TIME == 0 and steps * batch <= CACHED


def _on_both(run: Callable[[int, int, Any], Any], batch: int) -> None:
    """Calls ``run(start, stop, size)`` for all streams, a half each where a half fills a tile."""
    if batch < 2 * AT_A_TIME:
        run(0, batch, TILE if batch >= AT_A_TIME else ROW)
        return
    middle = batch // 2
    both(lambda: run(0, middle, TILE), lambda: run(middle, batch, TILE))


def _array(part: Tensor, width: int) -> NDArray[Any]:
    """A block [..., H] as a contiguous array [..., width], zeros behind what there is."""
    if part.shape[-1] < width:
        part = torch.nn.functional.pad(part, (0, width - part.shape[-1]))
    found: NDArray[Any] = part.contiguous().numpy()
    return found


def _own(part: Tensor, width: int) -> NDArray[Any]:
    """A copy of the same; torch's begin with a line of the cache, so that no two streams share one."""
    copied: NDArray[Any] = torch.from_numpy(_array(part, width)).clone().numpy()
    return copied


class Run:
    """A layer's pass along a block, and what its adjoint needs of it.

    Args:
        x: [T, B, D].
        enter: [4 H, D] W.
        weight: [4 H, H] U.
        bias: [4 H] both biases' sum, or None.
        state: h and c before the first step, each [B, H].
        is_first: [T, B] bool.

    Attributes:
        out: [T, B, H].
        hidden: [B, H] after the last step, as
        cell: [B, H].
    """

    def __init__(
        self, x: Tensor, enter: Tensor, weight: Tensor, bias: Tensor | None, state: Iterable[Tensor], is_first: Tensor
    ) -> None:
        (steps, batch, size), width = x.shape, weight.shape[1]
        wide = -(-width // PAIR) * PAIR
        packed = x.new_empty(wide // LANES, size + 1 + wide, GATES * LANES).numpy()
        self._turned = x.new_empty(wide // PAIR, GATES * wide, PAIR).numpy()
        given = np.empty(0, packed.dtype) if bias is None else bias.contiguous().numpy()
        lstm_kernel.pack(enter.contiguous().numpy(), weight.contiguous().numpy(), given, packed, self._turned)
        self._joined = x.new_empty(steps, batch, size + 1 + wide)  # x, 1 and h before each step: what gates are made of
        self._joined[..., :size], self._joined[..., size] = x, 1.0
        self._gates, out = x.new_empty(steps, batch, GATES * wide), x.new_empty(steps, batch, wide)
        self._first, self._kept = is_first.contiguous().numpy(), x.new_empty(2, steps, batch, wide).numpy()
        ends = [_own(leaf, wide) for leaf in state]
        blocks = (self._first, packed, self._joined.numpy(), *self._kept, self._gates.numpy(), out.numpy(), *ends)
        _on_both(lambda start, stop, tile: lstm_kernel.forward(*blocks, start, stop, tile), batch)
        self.size, self.width, self.wide = size, width, wide
        self.out, self.hidden, self.cell = out[..., :width], *(torch.from_numpy(leaf)[:, :width] for leaf in ends)

    def back(self, to_out: Tensor, to_state: Iterable[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Returns gradients [T * B, 4 H] of what enters the gates, [D + 1 + H, 4 H] of (W, b, U), those of the state.

        Args:
            to_out: [T, B, H], gradient of ``out``.
            to_state: of h and c after the last step, each [B, H].
        """
        steps, batch, many = self._joined.shape
        grad, starts = _array(to_out, self.wide), [_own(part, self.wide) for part in to_state]
        sums = torch.empty_like(self._gates)
        blocks = (grad, self._first, self._turned, *self._kept, self._gates.numpy(), *starts, sums.numpy())
        _on_both(lambda start, stop, tile: lstm_kernel.backward(*blocks, start, stop, tile), batch)
        flat, made = sums.view(steps * batch, -1), self._joined.view(steps * batch, many).t()
        found, cut = flat.new_empty(many, flat.shape[1]), many // 2
        both(
            lambda: torch.mm(made[:cut], flat, out=found[:cut]),
            lambda: torch.mm(made[cut:], flat, out=found[cut:]),
        )
        if self.wide > self.width:
            flat, found = (part.view(-1, GATES, self.wide)[..., : self.width].flatten(1) for part in (flat, found))
        return (
            flat,
            found[: many - self.wide + self.width],
            [torch.from_numpy(leaf)[:, : self.width] for leaf in starts],
        )


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
        run = Run(x, enter, weight, bias, (hidden, cell), is_first)
        ctx.save_for_backward(enter, weight)  # torch watches that nobody changes them
        ctx.run, ctx.has_bias = run, bias is not None
        return run.out, run.hidden, run.cell

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        enter, _ = ctx.saved_tensors
        run: Run = ctx.run
        sums, found, to_state = run.back(grads[0], grads[1:])
        to_x = (sums @ enter).view(*grads[0].shape[:2], run.size) if ctx.needs_input_grad[0] else None
        to_bias = found[run.size] if ctx.has_bias else None
        return to_x, found[: run.size].t(), found[run.size + 1 :].t(), to_bias, *to_state, None
