"""How a fused recurrent kernel runs over resets and gaps exactly: in stretches, or over packed segments.

*Stretches*: the valid steps of each stream move together, and the block is cut wherever some stream is reset or ends:
one kernel call a stretch. Best where resets are few.

*Segments*: a block [T, B] of several streams falls into stretches of one stream between resets, without its invalid
steps. They do not depend on each other but through the state that the first one of each stream is handed. Sorted by
length and packed they are what ``torch.nn.LSTM`` and ``torch.nn.GRU`` run in a single call: no step loop, no padding,
and the more resets, the fewer serial steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Stretches(NamedTuple):
    """Where to cut. Everything lies on the host.

    Attributes:
        bounds: stretch i covers the rows bounds[i] <= t < bounds[i + 1].
        gather: [rows, B] index into the flattened block (t * B + b) of each row; None where rows are the block's own.
        clear: [rows, B] bool, the state is cleared before the row; True at bounds only.
        live: [rows, B] bool, the stream still has a step; changes at bounds only.
    """

    bounds: list[int]
    gather: Tensor | None
    clear: Tensor
    live: Tensor


def stretches(resets: Tensor | None, valid: Tensor | None, steps: int, batch: int) -> Stretches:
    """Cuts a block into stretches; arguments as in ``segments``."""
    use, cuts = _on_host(resets, valid, steps, batch)
    length = use.sum(1)  # [B]
    rows, gather = int(length.max(initial=0)), None
    if not use.all():
        order = np.argsort(~use, axis=1, kind="stable")[:, :rows]  # valid steps first, in time
        cuts = np.take_along_axis(cuts, order, 1)
        gather = torch.from_numpy((order * batch + np.arange(batch)[:, None]).T)
    live = np.arange(rows)[:, None] < length
    clear = cuts.T & live
    inner = {*np.flatnonzero(clear.any(1)).tolist(), *length.tolist()}
    bounds = sorted({0, rows, *inner})
    return Stretches(bounds, gather, torch.from_numpy(clear), torch.from_numpy(live))


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
    use, cuts = _on_host(resets, valid, steps, batch)
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


def _on_host(
    resets: Tensor | None, valid: Tensor | None, steps: int, batch: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns which steps count and which of them clear the memory, both [B, T]."""
    use = np.ones((batch, steps), np.bool_) if valid is None else valid.cpu().numpy().T
    cuts = np.zeros((batch, steps), np.bool_) if resets is None else resets.cpu().numpy().T & use
    return use, cuts
