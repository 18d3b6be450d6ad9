"""A minibatch there and back without autograd, for actor-critics of one LSTM layer each: a few compiled calls.

What ``MemoryActorCritic.evaluate_sequence`` and ``torch.autograd.backward`` do, by the same operations (``lstm_lanes``,
``heads_lanes``) and so to the same bits, but for their bookkeeping. With a memory each, actor and critic are two
computations that meet in the loss only: each has a core of its own where that is allowed. Loaded where numba works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nl_agents.sb3 import quick_act
from nl_agents.sb3.heads_lanes import Choice, Head, layers_of, run_heads
from nl_agents.sb3.hooks import has_gradient_hooks
from nl_agents.sb3.lstm_lanes import Run, fits
from nl_agents.sb3.policies import MemoryActorCritic
from nl_agents.sb3.quick_act import HeadViews
from nl_agents.sb3.two_cores import both

if TYPE_CHECKING:
    from nl_agents.sb3.rollout_chunks import ChunkBatch


def admits(policy: MemoryActorCritic) -> bool:
    """Whether it can be done: vectors seen as they are, LSTMs of one layer, known heads, all of it trained."""
    if not (policy.runs_on_two_cores and policy.has_plain_lstms):
        return False
    if policy.lstm_critic is None and not policy.shared_lstm:
        return False
    if type(policy).evaluate_sequence is not MemoryActorCritic.evaluate_sequence:
        return False
    if any(policy.extractor_hooks) or has_gradient_hooks(policy):
        return False
    trained = all(part.requires_grad for part in policy.parameters())
    return trained and quick_act.serves_heads(policy, policy.lstm_actor.weight_hh_l0)


def serves(policy: MemoryActorCritic, batch: ChunkBatch) -> bool:
    """Whether this minibatch of a policy that ``admits`` let in can be done: where ``FusedLstm.run`` does the same."""
    seen, first = batch.observations, batch.is_first
    if not isinstance(seen, Tensor) or seen.dtype != policy.lstm_actor.weight_hh_l0.dtype or batch.is_valid is not None:
        return False
    return fits(*first.shape) or bool(first[1:].any())


class StraightPass:
    """Values, log-probabilities and entropies of a minibatch (``said``), and the way back.

    Args:
        policy: that is admitted.
        batch: of chunks, that it serves.
    """

    @torch.no_grad()
    def __init__(self, policy: MemoryActorCritic, batch: ChunkBatch) -> None:
        assert isinstance(batch.observations, Tensor)
        views: HeadViews = policy.head_views.of(lambda: HeadViews(policy))
        self._layers, kinds = layers_of(views), (views.actor[1], views.critic[1])
        self._cells = [cell for cell in (policy.lstm_actor, policy.lstm_critic) if cell is not None]
        memory, actions = policy.unpack_memory(batch.memory), batch.actions.long().flatten()
        x = batch.observations.view(*batch.is_first.shape, -1)
        found: dict[str, Any] = {}

        def remember(cell: Any, state: Any) -> Run:
            bias = cell.bias_ih_l0 + cell.bias_hh_l0 if cell.bias else None
            return Run(x, cell.weight_ih_l0, cell.weight_hh_l0, bias, (leaf[:, 0] for leaf in state), batch.is_first)

        def act() -> None:
            found["run"] = run = remember(self._cells[0], memory.pi)
            found["actor"] = Choice(run.out.flatten(0, 1), self._layers[0], kinds[0], actions)

        def value() -> None:
            found["own"] = run = remember(self._cells[1], memory.vf)
            found["critic"] = Head(run.out.flatten(0, 1), self._layers[1], kinds[1])

        if memory.vf is not None:
            both(act, value)
            self._runs: list[Run] = [found["run"], found["own"]]
            self._actor, self._critic = found["actor"], found["critic"]
        else:
            self._runs = [remember(self._cells[0], memory.pi)]
            latent = self._runs[0].out.flatten(0, 1)
            self._actor, self._critic = run_heads((latent, latent), self._layers, kinds, actions)
        self.said = (self._critic.out[:, 0], self._actor.log_probs, self._actor.entropies)

    @torch.no_grad()
    def back(self, to_value: Tensor, to_log_prob: Tensor, to_entropy: Tensor) -> None:
        """Writes the gradient of every parameter, from those of ``said``."""
        found: dict[str, Tensor] = {}

        def act() -> None:
            to_latent, of_layers = self._actor.back_from(to_log_prob, to_entropy, True)
            assert to_latent is not None
            found["pi"] = to_latent
            _write(self._layers[0], of_layers)
            if len(self._runs) > 1:
                self._recall(0, to_latent)

        def value() -> None:
            to_latent, of_layers = self._critic.back(to_value.unsqueeze(1), len(self._runs) > 1)
            _write(self._layers[1], of_layers)
            if to_latent is not None:
                self._recall(1, to_latent)

        both(act, value)
        if len(self._runs) == 1:
            self._recall(0, found["pi"])

    def _recall(self, index: int, to_latent: Tensor) -> None:
        """Goes back through a memory, whose state at the end nobody reads."""
        run, cell = self._runs[index], self._cells[index]
        _, found, _ = run.back(
            to_latent.view(run.out.shape), (torch.zeros_like(run.hidden), torch.zeros_like(run.cell))
        )
        cell.weight_ih_l0.grad, cell.weight_hh_l0.grad = (
            part.t().contiguous() for part in (found[: run.size], found[run.size + 1 :])
        )
        if cell.bias:
            cell.bias_ih_l0.grad, cell.bias_hh_l0.grad = found[run.size].clone(), found[run.size].clone()


def _write(layers: list[Tensor], grads: list[Tensor]) -> None:
    for layer, grad in zip(layers, grads, strict=True):
        layer.grad = grad
