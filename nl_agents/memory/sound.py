"""What is not finite must not spread: how the peer cores keep it out of a memory, and show what already lies in one.

In a masked product 0 * nan is nan, in values and in gradients, so masks alone do not hold a reset tight. Therefore
numbers that are not finite are taken out before the products, and what depends on them is marked and becomes nan again
in the end: nothing is hidden, nothing spreads over a reset or into a gradient.

What is finite but huge counts as ``LARGEST``: no step is lost, and no sum overflows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 1e15
"""Features and actions beyond +-this count as this. Layer norms sum squares of what linear layers make of them, and
float32 ends at 3e38: sqrt(3e38) leaves layers a factor of 10^4 for weights, and for adding up features. In float64 the
same, so that both precisions agree."""


class Steps(NamedTuple):
    """A block of steps, sorted out.

    Attributes:
        x: [T, B, D] features within ``LARGEST``, zero wherever nothing is written (``sort_out`` may keep idle ones).
        resets: [T, B] bool, valid first steps.
        writes: [T, B] bool, valid steps with finite features: they change the memory.
        spoilt: [T, B] bool, valid steps whose features are not finite: they leave the memory alone and read out nan.
    """

    x: Tensor
    resets: Tensor
    writes: Tensor
    spoilt: Tensor


def all_sound(told: tuple[Tensor, ...], kept: tuple[Tensor, ...] = ()) -> bool:
    """Whether all that a core is told lies within ``LARGEST`` and all that it keeps is finite, at the price of a sum.

    Errs on the careful side: told may be no longer than ``LARGEST`` as one vector, the sum of kept must be finite.
    Reads the result on the host, once: for tensors on a CPU, or where a synchronisation may be.
    """
    lengths = [torch.linalg.vector_norm(tensor.detach()) for tensor in told]
    found = torch.stack(lengths + [tensor.detach().sum() for tensor in kept]).tolist()
    return all([length <= LARGEST for length in found[: len(told)]]) and all(map(math.isfinite, found))


def bounded(x: Tensor) -> Tensor:
    """Returns x within ``LARGEST`` (no gradient passes beyond); infinities too: they are to be looked for before."""
    return x if x.dtype == torch.float16 else x.clamp(-LARGEST, LARGEST)  # its largest number is 65504


def sort_out(x: Tensor, is_first: Tensor, is_valid: Tensor | None, keeps_idle: bool = False) -> Steps:
    """Decides what each step may do; a spoilt step still clears what its first-step flag clears.

    ``keeps_idle`` leaves finite features of invalid steps as they are.
    """
    finite = x.isfinite().all(-1)
    if is_valid is None:
        writes, resets, spoilt = finite, is_first, ~finite
    else:
        writes, resets, spoilt = finite & is_valid, is_first & is_valid, ~finite & is_valid
    shown = finite if keeps_idle else writes
    return Steps(bounded(x).masked_fill(~shown.unsqueeze(-1), 0.0), resets, writes, spoilt)


def mend(leaf: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a state's leaf with zeros for what is not finite (no gradient passes there), and where that was."""
    broken = ~leaf.isfinite()
    return leaf.masked_fill(broken, 0.0), broken


def mend_matrices(memory: Tensor) -> tuple[Tensor, Tensor]:
    """The same for matrices [B, H, K, K], a whole head at a time, and the broken heads [B, H]: cheaper, by a sum."""
    broken = ~memory.sum((2, 3)).isfinite()
    return memory.masked_fill(broken[..., None, None], 0.0), broken


def spoil(y: Tensor, *where: Tensor) -> Tensor:
    """Returns read-outs [T, B, D] with nan at the steps marked in any of ``where`` [T, B]."""
    marked = where[0]
    for more in where[1:]:
        marked = marked | more
    return y.masked_fill(marked.unsqueeze(-1), torch.nan)
