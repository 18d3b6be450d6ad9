"""Episodes of a rollout as one packed batch, so that a fused recurrent kernel runs over resets and gaps exactly.

A block [T, B] of several streams falls into segments: stretches of one stream between resets, without its invalid
steps. Segments do not depend on each other but through the state that the first one of each stream is handed. Sorted by
length and packed they are what ``torch.nn.LSTM`` and ``torch.nn.GRU`` run in a single call: no step loop, no padding,
and the more resets, the fewer serial steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Segments(NamedTuple):
    """Where every valid step goes. M valid steps, S segments, longest first.

    Attributes:
        gather: [M] index into the flattened block (t * B + b) of each packed step.
        batch_sizes: [longest] segments that still run at each packed time, on the host.
        stream: [S] stream of each segment.
        carried: [S] bool, the segment goes on from the stream's state (else it starts fresh).
        last: [B] index of each stream's last segment, S where the stream has no valid step (its state stays).
    """

    gather: Tensor
    batch_sizes: Tensor
    stream: Tensor
    carried: Tensor
    last: Tensor


def segments(resets: Tensor | None, valid: Tensor | None, steps: int, batch: int, device: torch.device) -> Segments:
    """Cuts a block into segments.

    Args:
        resets: [T, B] bool, the memory is cleared before the step; None means never.
        valid: [T, B] bool; None means all.
        steps: T.
        batch: B.
        device: where the index tensors shall lie. Flags that lie on an accelerator cost one synchronisation.
    """
    use = np.ones((batch, steps), np.bool_) if valid is None else valid.cpu().numpy().T
    cuts = np.zeros((batch, steps), np.bool_) if resets is None else resets.cpu().numpy().T & use
    stream, time = np.nonzero(use)  # valid steps, stream by stream, in time
    number = cuts.cumsum(1)[stream, time]  # resets seen by the stream so far
    begins = np.ones(stream.size, np.bool_)
    begins[1:] = (stream[1:] != stream[:-1]) | (number[1:] != number[:-1])
    start = np.flatnonzero(begins)
    length = np.diff(np.append(start, stream.size))
    order = np.argsort(-length, kind="stable")  # packed rank -> segment
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    segment = begins.cumsum() - 1
    position = np.arange(stream.size) - start[segment]
    packed = np.lexsort((rank[segment], position))
    last = np.full(batch, order.size)
    last[stream] = rank[segment]  # in time order: the last write wins
    arrays = (
        (time * batch + stream)[packed],
        stream[start][order],
        number[start][order] == 0,
        last,
    )
    gather, owner, carried, final = (torch.from_numpy(array).to(device, non_blocking=True) for array in arrays)
    return Segments(gather, torch.from_numpy(np.bincount(position)), owner, carried, final)
