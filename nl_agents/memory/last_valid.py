"""What the last valid step showed: a sequence shifted by one step that looks over gaps."""

from __future__ import annotations

import torch
from torch import Tensor


def newest_valid(is_valid: Tensor) -> Tensor:
    """Returns [T + 1, B]: the last valid step before step t, counted from 1; 0 is the state before the sequence.

    Args:
        is_valid: [T, B] bool.
    """
    steps, batch = is_valid.shape
    count = torch.arange(1, steps + 1, device=is_valid.device).unsqueeze(1)
    newest = torch.where(is_valid, count, 0).cummax(0).values
    return torch.cat((newest.new_zeros(1, batch), newest))


def shift(now: Tensor, before: Tensor, newest: Tensor | None) -> tuple[Tensor, Tensor]:
    """Shifts a sequence by one valid step.

    Args:
        now: [T, B, F].
        before: [B, F] at the last valid step before the sequence.
        newest: ``newest_valid`` of the sequence, None where all steps are valid.

    Returns:
        [T, B, F], what each step finds as its last, and [B, F], what the sequence hands on.
    """
    stood = torch.cat((before.unsqueeze(0), now))
    if newest is not None:
        stood = stood.gather(0, newest.unsqueeze(-1).expand(-1, -1, now.shape[-1]))
    return stood[:-1], stood[-1]
