"""The fast form of a core against its slow judge: values, states, and gradients with respect to everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nl_agents.memory.base import MemoryCore

STEPS, STREAMS, SIZE, WIDTH = 11, 3, 4, 6
Judge = Callable[..., tuple[Tensor, Any]]


def flags(kind: str) -> tuple[Tensor, Tensor]:
    """First-step and validity flags: ``plain``, with ``resets``, or with resets and ``gaps``."""
    is_first, is_valid = torch.zeros(2, STEPS, STREAMS, dtype=torch.bool)
    is_valid = ~is_valid
    if kind != "plain":
        is_first[0, 0] = is_first[3, 0] = is_first[4, 0] = is_first[7, 1] = is_first[STEPS - 1, 2] = True
    if kind == "gaps":
        is_valid[2, 0] = is_valid[3, 0] = is_valid[0, 1] = is_valid[6, 1] = is_valid[STEPS - 1, 1] = False
        is_valid[:, 2] = False  # a stream without a single valid step; its reset does not count either
    return is_first, is_valid


def silent(steps: int, streams: int = STREAMS) -> Tensor:
    """Flags that are never set."""
    return torch.zeros(steps, streams, dtype=torch.bool)


def equals_its_judge(core: MemoryCore, judge: Judge, state: Any, kind: str, rtol: float, atol: float) -> None:
    """Runs both on the same life; what is read at an invalid step is nobody's business."""
    x, (is_first, is_valid) = torch.randn(STEPS, STREAMS, SIZE), flags(kind)
    real = [leaf.is_floating_point() for leaf in state]
    weights = [torch.randn(STEPS, STREAMS, WIDTH), *(torch.randn(leaf.shape) for leaf in state)]
    results = []
    for slow in (False, True):
        leaves = [x.clone().requires_grad_()]
        leaves += [leaf.clone().requires_grad_(is_real) for leaf, is_real in zip(state, real, strict=True)]
        given = None if kind != "gaps" and not slow else is_valid
        run = judge if slow else type(core).__call__
        y, after = run(core, leaves[0], type(state)(*leaves[1:]), is_first, given)
        visible = y * is_valid.unsqueeze(-1)
        parts = [visible, *(part * is_real for part, is_real in zip(after, real, strict=True))]
        loss = sum((w * part).sum() for w, part in zip(weights, parts, strict=True))
        inputs = [leaf for leaf in (*leaves, *core.parameters()) if leaf.requires_grad]
        grads = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)  # type: ignore[arg-type]
        results.append([visible, *after, *grads])
    for fast, slow_one in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow_one, rtol=rtol, atol=atol)
