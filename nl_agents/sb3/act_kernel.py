"""What an actor-critic does behind its memory, compiled: perceptrons, a drawn action, how likely actions were.

``perceptron`` and ``draw`` are for who acts on CPU: with few streams a step's arithmetic is small and each call of a
general library costs more than its numbers. The rest is for learning, on rows [N, features]. Loaded where numba
works.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nl_agents.memory.lanes import LANES, add, compiled, div, exponential, largest, load, mul, splat, store, sub
from nl_agents.memory.streams import in_rows, linear, side_by_side, squash
from nl_agents.sb3.lstm_kernel import step

Array = NDArray[Any]
TANH, RELU = 0, 1
"""What may stand between two layers."""


@compiled
def perceptron(rows: Array, layers: tuple[tuple[Array, Array], ...], kind: int) -> Array:
    """Rows [B, F] through layers (weight [O, I], bias [O]), bent between two of them; rows [B, O]."""
    given = side_by_side(rows)
    zero = splat(rows.dtype.type(0.0))
    for index in range(len(layers)):
        weight, bias = layers[index]
        out = np.empty((len(weight), given.shape[1]), rows.dtype)
        linear(weight, bias, given, 0, out, False)
        if index < len(layers) - 1:
            if kind == TANH:
                squash(out, np.ones(len(weight), rows.dtype))
            else:
                for n in range(len(out)):
                    for s in range(0, out.shape[1], LANES):
                        store(out, (n, s), largest(zero, load(out, (n, s))))
        given = out
    said = np.empty((len(rows), len(given)), rows.dtype)
    in_rows(given, 0, said)
    return said


@compiled
def draw(logits: Array, noise: Array) -> tuple[Array, Array]:
    """Draws from categorical distributions as torch does: the largest of p / e, e drawn from Exp(1).

    Args:
        logits: [B, A].
        noise: [B, A], positive.

    Returns:
        actions [B] int64 and their log-probabilities [B].
    """
    batch, choices = logits.shape
    actions, log_probs = np.empty(batch, np.int64), np.empty(batch, logits.dtype)
    for b in range(batch):
        most, total = logits[b].max(), 0.0
        for a in range(choices):
            total += math.exp(logits[b, a] - most)
        norm, best, picked = most + math.log(total), -1.0, 0
        for a in range(choices):
            score = math.exp(logits[b, a] - norm) / noise[b, a]
            if score > best:
                best, picked = score, a
        actions[b], log_probs[b] = picked, logits[b, picked] - norm
    return actions, log_probs


@compiled
def respond(
    x: Array, first: Array, memories: Any, states: Any, actor: Any, critic: Any, kinds: tuple[int, int], noise: Array
) -> tuple[Array, Array, Array]:
    """A whole act step: one or two LSTM layers, both heads, the draw.

    Args:
        x: [B, D] what is seen.
        first: [B] bool, where an episode begins.
        memories: (W, U, biases) of the actor's LSTM, and of the critic's where it has one; see ``lstm_kernel.step``.
        states: (h, c) of each, [B, H], changed in place.
        actor: layers of its head, as
        critic: those of the other.
        kinds: what bends between either's layers.
        noise: [B, A] for ``draw``.

    Returns:
        actions [B] int64, their log-probabilities [B], values [B].
    """
    for index in range(len(memories)):
        (enter, weight, biases), (hidden, cell) = memories[index], states[index]
        step(x, first, enter, weight, biases, hidden, cell)
    actions, log_probs = draw(perceptron(states[0][0], actor, kinds[0]), noise)
    values = perceptron(states[len(states) - 1][0], critic, kinds[1])
    return actions, log_probs, values[:, 0].copy()


@compiled
def bend(block: Array, kind: int) -> None:
    """Replaces every number of a contiguous block by its tanh, or by 0 where it is negative."""
    flat, dtype = block.ravel(), block.dtype
    whole = len(flat) // LANES * LANES
    zero, one, two = splat(dtype.type(0.0)), splat(dtype.type(1.0)), splat(dtype.type(2.0))
    if kind == TANH:
        for n in range(0, whole, LANES):
            risen = exponential(mul(two, load(flat, (n,))))
            store(flat, (n,), sub(one, div(two, add(one, risen))))
        for n in range(whole, len(flat)):
            flat[n] = math.tanh(flat[n])
    else:
        for n in range(0, whole, LANES):
            store(flat, (n,), largest(zero, load(flat, (n,))))
        for n in range(whole, len(flat)):
            if flat[n] < 0.0:
                flat[n] = 0.0


@compiled
def unbend(grad: Array, bent: Array, kind: int) -> None:
    """Multiplies ``grad``, the gradient of what ``bend`` has made, with the slopes there; both contiguous."""
    flat, made = grad.ravel(), bent.ravel()
    if kind == TANH:
        for n in range(len(flat)):
            flat[n] *= 1 - made[n] * made[n]
    else:
        for n in range(len(flat)):
            if made[n] <= 0.0:
                flat[n] = 0.0


@compiled
def judge(logits: Array, actions: Array, chances: Array, log_probs: Array, entropies: Array) -> None:
    """Of N categorical distributions: chances [N, A]; of the actions log-probabilities [N]; entropies [N] in nats."""
    count, choices = logits.shape
    for n in range(count):
        most = logits[n, 0]
        for a in range(1, choices):
            most = max(most, logits[n, a])
        total = 0.0
        for a in range(choices):
            total += math.exp(logits[n, a] - most)
        norm, entropy = most + math.log(total), 0.0
        for a in range(choices):
            log_chance = logits[n, a] - norm
            chances[n, a] = math.exp(log_chance)
            entropy -= chances[n, a] * log_chance
        log_probs[n], entropies[n] = logits[n, actions[n]] - norm, entropy


@compiled
def judge_adjoint(
    chances: Array, actions: Array, entropies: Array, to_log_prob: Array, to_entropy: Array, out: Array
) -> None:
    """Writes the gradients [N, A] of the logits: g (1[a] - p_a) - e p_a (log p_a + H)."""
    count, choices = chances.shape
    for n in range(count):
        for a in range(choices):
            chance = chances[n, a]
            log_chance = math.log(chance) if chance > 0.0 else 0.0
            out[n, a] = -to_log_prob[n] * chance - to_entropy[n] * chance * (log_chance + entropies[n])
        out[n, actions[n]] += to_log_prob[n]
