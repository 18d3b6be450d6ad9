"""What kind of map a self-modifying memory is, and the gradients of its inner loss: a matrix or a perceptron.

    linear:  M(z) = z + W z                     layers (I + W,)        Eqs. 92, 93
    mlp:     M(z) = z + W_1 silu(W_2 z)         layers (W_2, W_1)      Eqs. 89, 91

A form is the number of its layers: one matrix includes the identity in its base, two have it beside them. For a key k,
a target vhat and the inner loss 1/2 |M(k) - vhat|^2 (``l2``) or -<M(k), vhat> (``dot``), the gradient in the output of
each layer, its input, and the step that this input allows are

    output layer:   delta_1 = M(k) - vhat or -vhat,        input silu(W_2 k) (linear: k)
    hidden layer:   delta_2 = silu'(W_2 k) * W_1^T delta_1,   input k

Where the paper leaves off: Eq. 88 multiplies "M" by (alpha I - eta k k^T), which for a perceptron is not defined. Here
each layer descends by its own delta gradient, its key being its own input. Eq. 88 and 93 further take eta as it is, for
keys of unit length; as Eq. 57 shortens the step of a long input by eta / (1 + eta |x|^2), a hidden key h gets
eta / max(1, |h|^2), which is eta for |h| <= 1, and the hidden layer, whose error arrives through W_1, gets
eta / max(1, |W_1|^2) (Frobenius): no step can overshoot what it corrects.

Everything is taken at the anchor, which after a reset inside a stretch is the fresh memory: ``head`` is 1 before the
first reset and 0 from it on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.modify_layer import Fade, Stretch, Told, answer, shared
from nl_agents.memory.modify_rule import Objective


class At(NamedTuple):
    """Where memories stand.

    Attributes:
        base: layers [H, n, O, I], W_0 (linear: I + W_0).
        delta: layers [B, H, n, O, I] of the anchor, or None for memories that do not modify themselves.
        head: [B, H, 1, L, 1] 1 before the first reset of the stretch, 0 from it on; None with ``delta``.
    """

    base: tuple[Tensor, ...]
    delta: tuple[Tensor, ...] | None
    head: Tensor | None

    def through(self, layer: int, x: Tensor) -> Tensor:
        """Sends x [B, H, n or 1, L, I] through one layer: [B, H, n, L, O]."""
        out = shared(x, self.base[layer])
        if self.delta is None or self.head is None:
            return out
        return out + (x * self.head) @ self.delta[layer].mT

    def back(self, layer: int, error: Tensor) -> Tensor:
        """The adjoint of ``through``: [B, H, n, L, O] -> [B, H, n, L, I]."""
        out = shared(error, self.base[layer].mT)
        if self.delta is None or self.head is None:
            return out
        return out + (error * self.head) @ self.delta[layer]

    def square(self, layer: int) -> Tensor:
        """Squared Frobenius norm of a layer at each step: [B, H, n, L, 1]."""
        base = self.base[layer]
        fresh = base.square().sum((-2, -1))[..., None, None]
        if self.delta is None or self.head is None:
            return fresh
        lived = (base + self.delta[layer]).square().sum((-2, -1))[..., None, None]
        return torch.where(self.head > 0, lived, fresh)


def apply(at: At, z: Tensor) -> Tensor:
    """M(z) of every memory, at the anchor: z [B, H, n or 1, L, K] -> [B, H, n, L, K]."""
    if len(at.base) == 1:
        return at.through(0, z)
    return z + at.through(1, F.silu(at.through(0, z)))


def tell(at: At, key: Tensor, target: Tensor, step: Tensor, objective: Objective) -> list[Told]:
    """The inner gradients of one stretch, a layer each.

    Args:
        at: where the memories stand.
        key: [B, H, 1, L, K] of unit length.
        target: [B, H, n or 1, L, K] vhat.
        step: [B, H, 1, L, 1] eta.
        objective: the inner loss.
    """
    if len(at.base) == 1:
        error = at.through(0, key) - target if objective == "l2" else _outputs(-target, at)
        return [Told(key, error, step)]
    raw = at.through(0, key)
    hidden, slope = F.silu(raw), _silu_slope(raw)
    error = key + at.through(1, hidden) - target if objective == "l2" else _outputs(-target, at)
    return [
        Told(key, slope * at.back(1, error), step / at.square(1).clamp_min(1.0)),
        Told(hidden, error, step / hidden.square().sum(-1, keepdim=True).clamp_min(1.0)),
    ]


def read_running(courses: list[Stretch], query: Tensor, fading: Fade) -> Tensor:
    """M(q) of every memory as it is just before each step: query [B, H, 1, L, K] -> [B, H, n, L, K]."""
    if len(courses) == 1:
        return answer(courses[0], query, fading)
    return query + answer(courses[1], F.silu(answer(courses[0], query, fading)), fading)


def _outputs(target: Tensor, at: At) -> Tensor:
    """A target shared by all memories [B, H, 1, L, K], once for each: [B, H, n, L, K]."""
    return target.expand(-1, -1, at.base[0].shape[1], -1, -1)


def _silu_slope(z: Tensor) -> Tensor:
    gate = torch.sigmoid(z)
    return gate * (1.0 + z * (1.0 - gate))
