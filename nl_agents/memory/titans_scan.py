"""The rule of Titans' memory as pure functions: one step, and blocks of steps solved in parallel.

Per head and stream, with unit keys and the inner loss l = 1/2 |M k - v|^2 (Behrouz et al. 2025, Eqs. 9-14):

    S_t = eta_t S_t-1 - theta_t (M_a k_t - v_t) k_t^T,      M_t = (1 - alpha_t) M_t-1 + S_t,      o_t = M_t q_t.

The read comes after the write, as in ``gated_delta``. M_a is where the gradient is taken: M_t-1 in the exact form
(chunks of one step), or M as it stood when the chunk of C steps began (the paper's parallel form, section 3.2). If an
episode began since then, M_a is 0 for heads that it clears.

Both forms are linear in M_0, S_0 and the errors e_t = M_a k_t - v_t. With D_tj the product of the retentions 1 - alpha
of the steps j + 1 .. t of one episode, E_tj that of the momenta eta / (1 - alpha), and P_tj = sum_{i=j..t} E_ij,

    S_t = D_t0 E_t0 S_0 - sum_j D_tj E_tj theta_j e_j k_j^T
    M_t = D_t0 M_0 + D_t0 (P_t0 - 1) S_0 - sum_j D_tj P_tj theta_j e_j k_j^T

so the errors of a block solve a unit-triangular system, in which row t has the weights of M at the time a(t) of its
anchor: for C = 1 as for C > 1, the same work. Sums of logarithms are formed without differences (``_sums``), so a gate
near 0 costs no digits. Blocks are a matter of speed alone; only their ends run one after the other.

Rows of work N = B * H; matrices are key-major: X[key, value]. A state's matrices ("sources") are M, S and for C > 1 the
anchor.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 32  # steps solved together


class Inputs(NamedTuple):
    """What the rule consumes. Steps that write nothing have strength 0 and both logarithms 0.

    Attributes:
        query: [N, T, K] unit length.
        key: [N, T, K] unit length.
        value: [N, T, K].
        strength: [N, T] theta >= 0.
        log_retention: [N, T] log(1 - alpha) <= 0.
        log_momentum: [N, T] log(eta / (1 - alpha)) <= 0.
        alive: [N, T] bool, whether the step writes.
        segment: [N, T] number of resets up to and including t (0 throughout for heads never cleared).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    strength: Tensor
    log_retention: Tensor
    log_momentum: Tensor
    alive: Tensor
    segment: Tensor


def step(inputs: Inputs, sources: Tensor, clock: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Runs one step; arguments as in ``blocks``, T = 1."""
    query, key, value, strength, log_retention, log_momentum, alive, segment = inputs
    sources = sources.masked_fill((segment > 0)[..., None, None], 0.0)
    memory, momentum = sources[:, 0], sources[:, 1]
    anchor = memory
    if chunk > 1:
        anchor = torch.where((clock == 0)[:, None, None], memory, sources[:, 2])
    write = (key @ anchor - value) * strength.unsqueeze(-1)  # [N, 1, K]
    keep = log_retention.exp().unsqueeze(-1)
    moved = momentum * (keep * log_momentum.exp().unsqueeze(-1)) - key.mT * write
    now = alive.unsqueeze(-1)
    memory, momentum = torch.where(now, keep * memory + moved, memory), torch.where(now, moved, momentum)
    after = [memory, momentum]
    if chunk > 1:
        after.append(torch.where((clock + 1 == chunk)[:, None, None], memory, anchor))
    return query @ memory, torch.stack(after, 1)


def blocks(inputs: Inputs, sources: Tensor, clock: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Runs T steps, block by block (equations: module docstring).

    Args:
        inputs: [N, T, ...].
        sources: [N, 2 or 3, K, K] M, S and the anchor before the first step.
        clock: [N] int64 steps since the current chunk began, below ``chunk``.
        chunk: C.

    Returns:
        read [N, T, K] and the sources after the last step. Gradients flow through all of it.
    """
    rows, steps, size = inputs.key.shape
    length = min(BLOCK, steps)
    count = -(-steps // length)
    cut = Inputs(*(_cut(part, count, length) for part in inputs))
    query, key, strength, segment = cut.query, cut.key, cut.strength, cut.segment
    fresh = torch.cat((torch.zeros_like(segment[:, :1, 0]), segment[:, :-1, -1]), 1)  # [N, L] where a block begins
    response = _responses(cut, fresh, sources.shape[1])
    anchor = _anchors(response, clock, steps, chunk, segment, fresh)
    scaled = torch.cat([weight * key for weight in anchor.start[:, :, :-1].split(1, -1)], -1)  # [N, L, T', SK]
    lower = anchor.write[:, :, :-1] * strength.unsqueeze(-2) * (key @ key.mT)
    right = torch.cat((-cut.value, scaled), -1)
    plain, pull = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True).split(
        [size, right.shape[-1] - size], -1
    )
    carry, push = _ends(response, anchor)
    starts, writes = [], []
    for index in range(count):
        starts.append(sources)
        write = torch.baddbmm(plain[:, index], pull[:, index], sources.flatten(1, 2)) * strength[:, index].unsqueeze(-1)
        moved = key[:, index].mT.unsqueeze(1) @ (push[:, index].unsqueeze(-1) * write.unsqueeze(1))
        sources = torch.bmm(carry[:, index], sources.flatten(2)).view_as(sources) - moved
        writes.append(write)
    start, written = torch.stack(starts, 1).flatten(2, 3), torch.stack(writes, 1)
    asked = torch.cat([weight * query for weight in response.memory.start[:, :, 1:].split(1, -1)], -1)
    read = asked @ start - (response.memory.write[:, :, 1:] * (query @ key.mT)) @ written
    return read.reshape(rows, count * length, size)[:, :steps], sources


class Response(NamedTuple):
    """How a matrix at some times depends on what a block began with and on its writes.

    Attributes:
        start: [N, L, times, S] weights of the sources.
        write: [N, L, times, T'] weights of the block's writes (to be subtracted).
    """

    start: Tensor
    write: Tensor


class _Both(NamedTuple):
    """Responses of M and S at the times 0 .. T' of a block, time t being after step t."""

    memory: Response
    momentum: Response


def _responses(cut: Inputs, fresh: Tensor, sources: int) -> _Both:
    """Weights of M_t and S_t from the gates [N, L, T']; ``fresh`` [N, L] is the segment of each block's start."""
    segment = torch.cat((fresh.unsqueeze(-1), cut.segment), -1)  # [N, L, T' + 1]
    same = (segment.unsqueeze(-1) == segment.unsqueeze(-2)).tril()
    decay = _sums(cut.log_retention).exp() * same
    echo = _sums(cut.log_momentum).exp() * same  # E
    live = F.pad(cut.alive, (1, 0)).unsqueeze(-1)  # the start is no step: S_0 enters M_1 first
    pushed, kept = decay * (echo * live).cumsum(-2) * same, decay * echo
    none = torch.zeros_like(decay[..., :1])
    spare = [none] * (sources - 2)
    memory = Response(torch.cat((decay[..., :1], pushed[..., :1], *spare), -1), pushed[..., 1:])
    momentum = Response(torch.cat((none, kept[..., :1], *spare), -1), kept[..., 1:])
    return _Both(memory, momentum)


def _sums(z: Tensor) -> Tensor:
    """Returns sum_{l=j+1..t} z_l for 0 <= j <= t <= T' of z [..., T']; what lies above the diagonal is -inf."""
    steps = z.shape[-1] + 1
    below = torch.ones(steps, steps, dtype=torch.bool, device=z.device).tril(-1)
    terms = F.pad(z, (1, 0)).unsqueeze(-1).expand(*z.shape[:-1], steps, steps)
    return terms.masked_fill(~below, 0.0).cumsum(-2).masked_fill(below.mT, -torch.inf)


def _anchors(response: _Both, clock: Tensor, steps: int, chunk: int, segment: Tensor, fresh: Tensor) -> Response:
    """Weights of M_a for each step of every block, and in the last row for the step that follows the block."""
    count, length = segment.shape[1:]
    local = torch.arange(1, length + 2, device=clock.device).repeat(count, 1)
    local[-1, -1] = steps - (count - 1) * length + 1
    first = torch.arange(count, device=clock.device).unsqueeze(1) * length
    time = local - 1 - (clock[:, None, None] + first + local - 1) % chunk  # [N, L, T' + 1]
    older = (time < 0).unsqueeze(-1)  # the chunk began before the block
    own = torch.cat((segment, segment[..., -1:]), -1)
    row = time.clamp_min(0).unsqueeze(-1)
    start, write = (part.gather(2, row.expand(-1, -1, -1, part.shape[-1])) for part in response.memory)
    unbroken = (own == fresh.unsqueeze(-1)).unsqueeze(-1)
    start = start * (unbroken & ~older)
    if start.shape[-1] > 2:
        start = torch.cat((start[..., :2], (unbroken & older).to(start.dtype)), -1)
    return Response(start, write * (own.unsqueeze(-1) == segment.unsqueeze(-2)) * ~older)


def _ends(response: _Both, anchor: Response) -> tuple[Tensor, Tensor]:
    """Weights of the sources after a block: of those before it [N, L, S, S], and of its writes [N, L, S, T']."""
    parts = [response.memory, response.momentum]
    if anchor.start.shape[-1] > 2:
        parts.append(anchor)
    carry, push = (torch.stack([part[field][:, :, -1] for part in parts], 2) for field in (0, 1))
    return carry, push


def _cut(part: Tensor, count: int, length: int) -> Tensor:
    """Cuts [N, T, ...] into [N, L, T', ...]; the last block is filled up with steps that write nothing."""
    missing = count * length - part.shape[1]
    if missing:
        more = part[:, -1:].expand(-1, missing, *part.shape[2:])
        if part.is_floating_point() or part.dtype == torch.bool:
            more = torch.zeros_like(more)
        part = torch.cat((part, more), 1)
    return part.reshape(part.shape[0], count, length, *part.shape[2:])
