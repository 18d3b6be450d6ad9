"""Whether every gradient is finite, asked while they are scaled: one pass over memory for both."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def scale_and_look(gradients: list[Tensor], factor: Tensor | None = None) -> Tensor:
    """Multiplies the gradients by ``factor`` in place; says whether any of them was not finite before.

    torch's own kernel of mixed-precision training: on CPU it takes a third of the time of norms and a multiplication,
    on an accelerator nobody waits for its word.

    Args:
        gradients: all on one device; changed in place unless the factor is 1 or left out.
        factor: 0-d float32.

    Returns:
        0-d float32 on the gradients' device: 1 if one was not finite, else 0.
    """
    device = gradients[0].device
    found = torch.zeros((), device=device)
    factor = torch.ones((), device=device) if factor is None else factor.to(torch.float32)
    torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, factor)
    return found
