"""Many small tensors in one flat buffer: the layout that lets an optimizer treat them in a handful of kernels.

Every tensor (a *segment*) starts on a block boundary and is padded with zeros to whole blocks, so that "one number per
tensor" becomes "one number per block" by a tiny gather, and a sum per tensor is a sum per block followed by a tiny
segmented sum. Both work on any device and need no word from the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 256
"""Floats of a block: long enough for full vector speed, short enough that biases waste little."""


class SegmentLayout:
    """Where each tensor lies inside a flat buffer of ``blocks * BLOCK`` floats.

    Args:
        shapes: shapes of the tensors, in order.
        device: device of the buffers.
    """

    def __init__(self, shapes: Sequence[torch.Size], device: torch.device) -> None:
        self.shapes = tuple(shapes)
        self.sizes = [math.prod(shape) for shape in self.shapes]
        blocks = [-(-size // BLOCK) for size in self.sizes]
        self.blocks = sum(blocks)
        self.floats = self.blocks * BLOCK
        self.offsets = [BLOCK * sum(blocks[:index]) for index in range(len(blocks))]
        self._lengths = torch.tensor(blocks, device=device)
        owners = torch.arange(len(blocks), device=device)
        self._segment_of_block = torch.repeat_interleave(owners, self._lengths, output_size=self.blocks)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Returns one view per tensor, in its own shape, of a flat buffer [floats]."""
        places = zip(self.offsets, self.sizes, self.shapes, strict=True)
        return [flat[offset : offset + size].view(shape) for offset, size, shape in places]

    def stacked_views(self, rows: Tensor) -> list[Tensor]:
        """Returns one view [K, *shape] per tensor of K flat buffers stacked as [K, floats]."""
        places = zip(self.offsets, self.sizes, self.shapes, strict=True)
        return [rows[:, offset : offset + size].view(len(rows), *shape) for offset, size, shape in places]

    def expand(self, values: Tensor) -> Tensor:
        """Repeats one value per tensor [n, ...] to one per block [blocks, ...]."""
        return values.index_select(0, self._segment_of_block)

    def reduce(self, values: Tensor) -> Tensor:
        """Sums values per block [blocks, F] to values per tensor [n, F], in a fixed order."""
        return torch.segment_reduce(values, "sum", lengths=self._lengths, axis=0, unsafe=True)
