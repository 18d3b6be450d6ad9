"""One layer of a self-modifying memory over a stretch of steps whose anchor stands still: exact, and all at once.

A layer is a matrix W = W_0 + Delta with inputs x_t (its own keys: Eq. 88 knows one key, and a perceptron has a layer
that never sees it), gradients at the anchor delta_t x_t^T, and step sizes eta_t. Delta gradient descent, retention
alpha and momentum mu (Nested Learning, Eqs. 88, 90; Titans, Eqs. 9-14):

    e_t = (W_0 + Delta_t-1) x_t                                    what the running layer answers
    S_t = mu_t S_t-1 - eta_t delta_t x_t^T                         without momentum mu = 0
    Delta_t = alpha_t Delta_t-1 - eta_t e_t x_t^T + S_t            plain gradient descent has no middle term

Since x, delta and eta come from the anchor, this is linear in Delta_0, S_0, e and delta. With D_tj, E_tj the products
of alpha, mu over the steps j + 1 .. t of one episode and P_tj = sum_{i=j..t} D_ti E_ij over steps i that write,

    Delta_t = D_t0 Delta_0 + P_t0 S_0 - sum_j (D_tj eta_j e_j + P_tj eta_j delta_j) x_j^T

so the answers e solve a unit-triangular system (the WY form of the delta rule), and any read-out of the running layer,
at any step, is one masked product. Differs from the paper: retention acts on the deviation Delta, not on W (a memory
that is never cleared would lose what was meta-learned); the momentum is not in the paper's equations, only in its
ablation, and is Titans'.

Shapes: B streams, H heads, n memories (1 where they share), L steps, I inputs, O outputs. Rows of matrices are outputs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Weights(NamedTuple):
    """What of something is left just before each of L steps, and in the last row after all of them.

    Attributes:
        start: [B, H, 1, L + 1, 1] of what the stretch began with.
        write: [B, H, 1, L + 1, L] of what each of its steps wrote; row t knows the steps before t only.
    """

    start: Tensor
    write: Tensor


class Fade(NamedTuple):
    """How a stretch forgets.

    Attributes:
        kept: D, weights of the deviation and of what is erased.
        pushed: P, weights of momentum and gradients in the deviation; None without momentum (then D serves).
        echo: E, weights of momentum and gradients in the momentum; None without.
    """

    kept: Weights
    pushed: Weights | None
    echo: Weights | None


def fade(log_retention: Tensor, log_momentum: Tensor | None, alive: Tensor, segment: Tensor, before: Tensor) -> Fade:
    """Builds the weights of a stretch.

    Args:
        log_retention: [B, H, L] log alpha <= 0, 0 where nothing is written.
        log_momentum: [B, H, L] log mu <= 0, 0 where nothing is written; None without momentum.
        alive: [B, 1, L] bool, steps that write.
        segment: [B, H, L] number of resets up to and including the step.
        before: [B, H, 1] that number before the first step.
    """
    times = torch.cat((before, segment), -1)  # [B, H, L + 1]
    same = (times.unsqueeze(-1) == times.unsqueeze(-2)).tril()
    seen = torch.cat((segment, segment[..., -1:]), -1).unsqueeze(-1) == times.unsqueeze(-2)  # by the step that asks
    kept = _products(log_retention) * same
    if log_momentum is None:
        return Fade(_split(kept * seen), None, None)
    echo = _products(log_momentum) * same
    pushed = (kept * F.pad(alive, (1, 0)).unsqueeze(-2)) @ echo
    return Fade(_split(kept * seen), _split(pushed * seen), _split(echo * seen))


def _products(logs: Tensor) -> Tensor:
    """Products over j + 1 .. t, 0 <= j <= t <= L, from logs [.., L], without differences of sums; 0 above."""
    times = logs.shape[-1] + 1
    below = torch.ones(times, times, dtype=torch.bool, device=logs.device).tril(-1)
    terms = F.pad(logs, (1, 0)).unsqueeze(-1).expand(*logs.shape[:-1], times, times)
    return terms.masked_fill(~below, 0.0).cumsum(-2).masked_fill(below.mT, -torch.inf).exp()


def _split(weights: Tensor) -> Weights:
    return Weights(weights[..., :1].unsqueeze(2), weights[..., 1:].unsqueeze(2))


class Told(NamedTuple):
    """What a layer is told in a stretch, all of it taken at the anchor.

    Attributes:
        key: [B, H, n or 1, L, I] the layer's inputs x.
        error: [B, H, n, L, O] delta, gradient of the inner loss in the layer's output.
        step: [B, H, n or 1, L, 1] eta >= 0; 0 where nothing is written.
    """

    key: Tensor
    error: Tensor
    step: Tensor


class Kept(NamedTuple):
    """A layer's memory: deviation [B, H, n, O, I] and momentum, of the same shape (None without)."""

    delta: Tensor
    momentum: Tensor | None


class Stretch(NamedTuple):
    """A layer's course through a stretch: what ``answer`` needs to read it at any step.

    Attributes:
        key: see ``Told``.
        base: [H, n, O, I] W_0.
        before: the memory at the start.
        erased: [B, H, n, L, O] eta e; None under plain gradient descent.
        pushed: [B, H, n, L, O] eta delta.
    """

    key: Tensor
    base: Tensor
    before: Kept
    erased: Tensor | None
    pushed: Tensor


def write(told: Told, base: Tensor, kept: Kept, fading: Fade, erases: bool) -> tuple[Stretch, Kept]:
    """Runs a stretch; returns its course and the memory after it. Gradients flow through all of it."""
    plain = Stretch(told.key, base, kept, None, told.step * told.error)
    course = plain
    if erases:
        right = told.step * answer(plain, told.key, fading)
        if told.key.shape[-2] > 1:
            lower = fading.kept.write[..., :-1, :] * (told.key @ told.key.mT) * told.step
            right = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)
        course = plain._replace(erased=right)
    delta = kept.delta * fading.kept.start[..., -1:, :] - _outer(fading.kept, course.erased, told.key)
    if kept.momentum is None or fading.pushed is None or fading.echo is None:
        return course, Kept(delta - _outer(fading.kept, course.pushed, told.key), None)
    delta = delta + kept.momentum * fading.pushed.start[..., -1:, :] - _outer(fading.pushed, course.pushed, told.key)
    momentum = kept.momentum * fading.echo.start[..., -1:, :] - _outer(fading.echo, course.pushed, told.key)
    return course, Kept(delta, momentum)


def answer(course: Stretch, x: Tensor, fading: Fade) -> Tensor:
    """What the running layer, as it is just before each step, makes of x [B, H, n or 1, L, I]: [B, H, n, L, O]."""
    kept, pushed = fading.kept, fading.pushed or fading.kept
    out = shared(x, course.base) + kept.start[..., :-1, :] * (x @ course.before.delta.mT)
    if course.before.momentum is not None:
        out = out + pushed.start[..., :-1, :] * (x @ course.before.momentum.mT)
    if x.shape[-2] == 1:
        return out  # a lone step has no earlier one in its stretch
    overlap = x @ course.key.mT
    out = out - (pushed.write[..., :-1, :] * overlap) @ course.pushed
    return out if course.erased is None else out - (kept.write[..., :-1, :] * overlap) @ course.erased


def shared(x: Tensor, base: Tensor) -> Tensor:
    """Sends x [B, H, n or 1, L, I] through what all streams share, [H, n, O, I]: one product a head."""
    return torch.einsum("bhnli,hnoi->bhnlo", x, base)


def _outer(weights: Weights, values: Tensor | None, key: Tensor) -> Tensor | float:
    """Sum over a stretch of weight * value key^T, as it is left at the end: [B, H, n, O, I]."""
    if values is None:
        return 0.0
    weighted = (weights.write[..., -1:, :].mT * values).mT
    return weighted * key if key.shape[-2] == 1 else weighted @ key


def confine(delta: Tensor, radius: float) -> Tensor:
    """Shortens rows of a deviation [.., O, I] to at most radius * sqrt(I); what is shorter stays as it is, bit for bit.

    This is what bounds a memory under every option and any input. A row that answers K orthogonal unit keys with values
    of size a is a sqrt(K) long, so a radius of a few units touches no memory that does its work. It acts where a chunk
    ends, between two stretches, and so leaves them exact.
    """
    if math.isinf(radius):
        return delta
    limit = radius * math.sqrt(delta.shape[-1])
    length: Tensor = torch.linalg.vector_norm(delta, dim=-1, keepdim=True)
    return delta * (torch.full_like(length, limit) / length.clamp_min(limit))  # a scalar over a tensor would round 1
