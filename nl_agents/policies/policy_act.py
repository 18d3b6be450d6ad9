"""Encoder and heads of the policy on CPU for who acts: two compiled calls. Loaded where numba works."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nl_agents.memory.lanes import compiled, padded
from nl_agents.memory.streams import in_rows, layer_norm, linear, side_by_side, silu
from nl_agents.memory.views import Array, Views
from nl_agents.policies.steps import PolicyInput, PolicyOutput

if TYPE_CHECKING:
    from nl_agents.policies.memory_policy import MemoryPolicy

PRECISIONS = (torch.float32, torch.float64)


class Weights(Views):
    """A policy's parameters as the compiled functions take them."""

    def __init__(self, policy: MemoryPolicy) -> None:
        super().__init__()
        assert isinstance(policy.encoder, torch.nn.Sequential), "a direct core has no encoder"
        first, norm, _, last = policy.encoder
        self.encoder = (self.layer(first), self.layer(norm), self.layer(last))
        self.actor, self.critic = self.layer(policy.actor), self.layer(policy.critic)


@compiled
def _encode(
    features: Array,
    action: Array,
    reward: Array,
    first: Array,
    tells: bool,
    begin: tuple[Array, Array],
    norm: tuple[Array, Array],
    end: tuple[Array, Array],
) -> Array:
    """The encoder on features [B, F], last action [B, A], last reward [B] and first-step flag [B]; rows [B, D]."""
    (batch, size), acts, dtype = features.shape, action.shape[1], features.dtype
    given = np.zeros((size + (acts + 2 if tells else 0), padded(batch)), dtype)
    for b in range(batch):
        for n in range(size):
            given[n, b] = features[b, n]
        if tells:
            for n in range(acts):
                given[size + n, b] = action[b, n]
            given[size + acts, b] = math.tanh(reward[b])
            given[size + acts + 1, b] = dtype.type(1.0) if first[b] else dtype.type(0.0)
    hidden, out = np.empty((len(begin[0]), given.shape[1]), dtype), np.empty((len(end[0]), given.shape[1]), dtype)
    linear(begin[0], begin[1], given, 0, hidden, False)
    layer_norm(hidden, 0, len(hidden), norm[0], norm[1], hidden)
    silu(hidden)
    linear(end[0], end[1], hidden, 0, out, False)
    rows = np.empty((batch, len(out)), dtype)
    in_rows(out, 0, rows)
    return rows


@compiled
def _speak(y: Array, x: Array, actor: tuple[Array, Array], critic: tuple[Array, Array]) -> tuple[Array, Array]:
    """What the heads say of y + x [B, D]: parameters [B, P] and values [B]."""
    joined = side_by_side(y) + side_by_side(x)
    said, valued = np.empty((len(actor[0]), joined.shape[1]), y.dtype), np.empty((1, joined.shape[1]), y.dtype)
    linear(actor[0], actor[1], joined, 0, said, False)
    linear(critic[0], critic[1], joined, 0, valued, False)
    parameters = np.empty((len(y), len(said)), y.dtype)
    in_rows(said, 0, parameters)
    return parameters, valued[0, : len(y)].copy()


def serves(policy: MemoryPolicy, given: PolicyInput) -> bool:
    """Whether ``act`` can do it: one step on CPU in single or double precision, the plain policy with an encoder."""
    dtype = policy.mean.dtype
    plain = not policy.core.direct and policy.serves_compiled
    return (
        plain
        and len(given.rows) == 1
        and given.rows.is_cpu
        and given.last_action.dtype == dtype
        and dtype in PRECISIONS
    )


def act(policy: MemoryPolicy, given: PolicyInput, state: Any, phase: int | None) -> tuple[PolicyOutput, Any]:
    """``MemoryPolicy.act`` for one step [1, B, ...]; equal to its ``forward`` to rounding."""
    weights = policy.views.of(lambda: Weights(policy))
    features = policy.codec.features(given.rows, policy.mean, policy.scale)
    told = (block.contiguous().numpy()[0] for block in (features, *given[1:4]))
    x = torch.from_numpy(_encode(*told, policy.inputs == "all", *weights.encoder)).unsqueeze(0)
    action = given.last_action if policy.core.action_size else None
    y, state = policy.core.act(x, state, given.is_first, given.is_valid, action, phase)
    parameters, values = _speak(y.contiguous().numpy()[0], x.numpy()[0], weights.actor, weights.critic)
    heads = torch.from_numpy(parameters).unsqueeze(0), torch.from_numpy(values).unsqueeze(0)
    return PolicyOutput(*heads, y, features), state
