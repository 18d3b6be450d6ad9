"""Both heads of an actor-critic as one differentiable operation on CPU: read-outs in, values and likelihoods out.

    v = critic(y')        log p(a), H = categorical(actor(y))

Products are torch's; what stands between them is compiled (``act_kernel``). Actor and critic run on two cores where
that is allowed (``two_cores``). Loaded where numba works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nl_agents.sb3 import act_kernel
from nl_agents.sb3.quick_act import HeadViews
from nl_agents.sb3.two_cores import both

if TYPE_CHECKING:
    from nl_agents.sb3.policies import MemoryActorCritic


class Head:
    """A perceptron's pass over read-outs, and what its adjoint needs of it.

    Args:
        latent: [N, width].
        layers: weight, bias, weight, bias, ...
        kind: what bends between layers (``act_kernel``).
    """

    def __init__(self, latent: Tensor, layers: Sequence[Tensor], kind: int) -> None:
        self._layers, self._kind = layers, kind
        self._blocks = [latent.contiguous()]  # before each layer
        for weight, bias in zip(layers[::2], layers[1::2], strict=True):
            self.out = torch.addmm(bias, self._blocks[-1], weight.t())
            if len(self._blocks) < len(layers) // 2:
                act_kernel.bend(self.out.numpy(), kind)
                self._blocks.append(self.out)

    def back(self, grad: Tensor, whole: bool) -> tuple[Tensor | None, list[Tensor]]:
        """From the gradient of ``out``: that of the read-outs (None unless ``whole``) and those of the layers."""
        found: list[Tensor] = []
        for index in range(len(self._blocks) - 1, -1, -1):
            found = [grad.t() @ self._blocks[index], grad.sum(0), *found]
            if not (index or whole):
                return None, found
            grad = grad @ self._layers[2 * index]
            if index:
                act_kernel.unbend(grad.numpy(), self._blocks[index].numpy(), self._kind)
        return grad, found


class Choice(Head):
    """The actor's head: how likely actions were, and how open the choice was.

    Args:
        latent: [N, width].
        layers: as for ``Head``.
        kind: as for ``Head``.
        actions: [N] int64.
    """

    def __init__(self, latent: Tensor, layers: Sequence[Tensor], kind: int, actions: Tensor) -> None:
        super().__init__(latent, layers, kind)
        self._actions, self._chances = actions.contiguous(), torch.empty_like(self.out)
        self.log_probs, self.entropies = self.out.new_empty(2, len(self.out))
        figures = (self.out, self._actions, self._chances, self.log_probs, self.entropies)
        act_kernel.judge(*(part.numpy() for part in figures))

    def back_from(self, to_log_prob: Tensor, to_entropy: Tensor, whole: bool) -> tuple[Tensor | None, list[Tensor]]:
        """``back`` from the gradients of what is said of the actions."""
        to_logits, said = torch.empty_like(self._chances), (to_log_prob.contiguous(), to_entropy.contiguous())
        figures = (self._chances, self._actions, self.entropies, *said, to_logits)
        act_kernel.judge_adjoint(*(part.detach().numpy() for part in figures))
        return self.back(to_logits, whole)


def run_heads(
    latents: tuple[Tensor, Tensor], layers: tuple[Sequence[Tensor], Sequence[Tensor]], kinds: Any, actions: Tensor
) -> tuple[Choice, Head]:
    """Actor's and critic's heads at the same time."""
    found: dict[str, Any] = {}
    both(
        lambda: found.update(actor=Choice(latents[0], layers[0], kinds[0], actions)),
        lambda: found.update(critic=Head(latents[1], layers[1], kinds[1])),
    )
    return found["actor"], found["critic"]


class Heads(torch.autograd.Function):
    """Gradients flow to the read-outs and to the layers."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        latent_pi: Tensor,  # [N, width]
        latent_vf: Tensor,  # [N, width]
        actions: Tensor,  # [N]
        kinds: tuple[int, int],
        count: int,  # of the actor's tensors among the layers
        *layers: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(latent_pi, latent_vf, *layers)  # torch watches that nobody changes them
        actor, critic = run_heads((latent_pi, latent_vf), (layers[:count], layers[count:]), kinds, actions)
        ctx.actor, ctx.critic = actor, critic
        return critic.out[:, 0], actor.log_probs.clone(), actor.entropies.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        assert ctx.saved_tensors
        to_value, to_log_prob, to_entropy = grads
        needs_pi, needs_vf, *_ = ctx.needs_input_grad
        found: dict[str, Any] = {}
        both(
            lambda: found.update(actor=ctx.actor.back_from(to_log_prob, to_entropy, needs_pi)),
            lambda: found.update(critic=ctx.critic.back(to_value.unsqueeze(1), needs_vf)),
        )
        (to_pi, of_actor), (to_vf, of_critic) = found["actor"], found["critic"]
        return to_pi, to_vf, None, None, None, *of_actor, *of_critic


def judge(policy: MemoryActorCritic, latent_pi: Tensor, latent_vf: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
    """Values, log-probabilities and entropies, each [N]; ``quick_act.serves_heads`` says for which policies."""
    views = policy.head_views.of(lambda: HeadViews(policy))
    actor, critic = layers_of(views)
    kinds = (views.actor[1], views.critic[1])
    found: tuple[Tensor, ...] = Heads.apply(  # type: ignore[no-untyped-call]
        latent_pi, latent_vf, actions.long().flatten(), kinds, len(actor), *actor, *critic
    )
    return found


def layers_of(views: HeadViews) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of the actor's layers and of the critic's."""
    found: Any = ([part for one in modules for part in (one.weight, one.bias)] for modules in views.modules)
    actor, critic = found
    return actor, critic
