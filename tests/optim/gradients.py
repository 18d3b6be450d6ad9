"""Parameters and reproducible gradients for tests of optimizers."""

from __future__ import annotations

import torch
from torch import nn

SHAPES = [(7, 5), (7,), (300, 3), (), (2, 3, 4), (257,)]


def make_params(seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [nn.Parameter(tensor.to(device, dtype)) for tensor in tensors]


def give_grads(params: list[nn.Parameter], step: int, absent: bool = False) -> None:
    """Sets reproducible gradients with a drifting mean; with ``absent`` some are None at some steps."""
    generator = torch.Generator().manual_seed(1000 + step)
    for index, param in enumerate(params):
        noise = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        trend = torch.sin(torch.arange(param.numel(), dtype=torch.float64) + step / 30).view(param.shape)
        missing = absent and (index + step) % 3 == 0
        param.grad = None if missing else (0.3 * noise + trend).to(param)


def equal(ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
