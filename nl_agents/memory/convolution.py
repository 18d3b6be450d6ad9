"""A short causal convolution with its past in the state: exact over resets, gaps and wherever a sequence is cut."""

from __future__ import annotations

import torch
from torch import Tensor


def convolve(z: Tensor, past: Tensor, kernel: Tensor, writes: Tensor, segment: Tensor) -> tuple[Tensor, Tensor]:
    """out_t = sum_i kernel_i * z_(t - i) over the last steps that were written in the same episode; zeros before them.

    The paper names a local convolution of window 4 and gives no equation (Nested Learning, section 8.2); this one is
    depth-wise and linear. Steps that do not write take no place in the window.

    Args:
        z: [B, H, T, F], finite.
        past: [B, H, width - 1, F] the last written inputs, oldest first; zeros where there was none.
        kernel: [H, width, F], newest first.
        writes: [B, T] bool.
        segment: [B, H, T] number of resets up to and including t (0 throughout for heads never cleared).

    Returns:
        [B, H, T, F], and the past after the last step. Gradients flow to z, past and kernel.
    """
    batch, heads, steps, features = z.shape
    behind = past.shape[2]
    if behind == 0:
        return z * kernel[:, :1], past
    order = torch.argsort((~writes).to(torch.int8), dim=1, stable=True)  # written steps first, in time
    place = torch.cat((torch.arange(behind, device=z.device).expand(batch, -1), order + behind), 1)
    rank = writes.cumsum(1)  # [B, T] written steps up to and including t
    line = torch.cat((past, z), 2)
    era = torch.cat((segment.new_zeros(batch, heads, behind), segment), 2)
    out = z * kernel[:, :1]
    before = rank - writes.long() + behind  # where in ``place`` step t would stand
    for back in range(1, behind + 1):
        index = place.gather(1, before - back).unsqueeze(1).expand(batch, heads, steps)
        tap = line.gather(2, index.unsqueeze(-1).expand(-1, -1, -1, features))
        same = era.gather(2, index) == segment
        out = out + kernel[:, back : back + 1] * tap * same.unsqueeze(-1)
    last = rank[:, -1:] + torch.arange(behind, device=z.device)  # [B, width - 1]
    index = place.gather(1, last).unsqueeze(1).expand(batch, heads, behind)
    kept = line.gather(2, index.unsqueeze(-1).expand(-1, -1, -1, features))
    same = era.gather(2, index) == segment[..., -1:]
    return out, kept * same.unsqueeze(-1)
