"""Both heads of an actor-critic as one differentiable operation on CPU: read-outs in, values and likelihoods out.

    v = critic(y')        log p(a), H = categorical(actor(y))

Blocks are [features, N], as ``lstm_lanes`` leaves them, so that nothing is turned over. Products are torch's; what
stands between them is compiled (``act_kernel``). Loaded where numba works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nl_agents.sb3 import act_kernel
from nl_agents.sb3.quick_act import HeadViews

if TYPE_CHECKING:
    from nl_agents.sb3.policies import MemoryActorCritic


def _run(block: Tensor, layers: tuple[Tensor, ...], kind: int) -> list[Tensor]:
    """Blocks before, between and behind layers (weight, bias, weight, bias, ...)."""
    blocks = [block]
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        block = torch.addmm(bias.unsqueeze(1), weight, block)
        blocks.append(block)
        if len(blocks) <= len(layers) // 2:
            act_kernel.bend(block.numpy(), kind)
    return blocks


def _back(
    grad: Tensor, blocks: list[Tensor], layers: tuple[Tensor, ...], kind: int, whole: bool
) -> tuple[Tensor | None, list[Tensor]]:
    """The gradient of the first block (None unless ``whole``), turned over, and those of the layers."""
    found: list[Tensor] = []
    for index in range(len(blocks) - 2, -1, -1):
        found = [grad @ blocks[index].t(), grad.sum(1), *found]
        if not (index or whole):
            return None, found
        grad = layers[2 * index].t() @ grad
        if index:
            act_kernel.unbend(grad.numpy(), blocks[index].numpy(), kind)
    return grad.t(), found


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
        said = _run(latent_pi.t().contiguous(), layers[:count], kinds[0])
        valued = _run(latent_vf.t().contiguous(), layers[count:], kinds[1])
        chances, log_probs = torch.empty_like(said[-1]), torch.empty_like(said[-1][0])
        entropies, taken = torch.empty_like(log_probs), actions.contiguous()
        figures = (part.numpy() for part in (said[-1], taken, chances, log_probs, entropies))
        act_kernel.judge(*figures)
        ctx.save_for_backward(taken, chances, entropies, *said[:-1], *valued[:-1], *layers)
        ctx.kinds, ctx.count = kinds, count
        return valued[-1][0], log_probs, entropies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        taken, chances, entropies, *kept = ctx.saved_tensors
        to_value, to_log_prob, to_entropy = (grad.contiguous() for grad in grads)
        (mine, theirs), actor = ctx.kinds, ctx.count
        depth = len(kept) // 3  # of both together; as many blocks as layers, and twice as many tensors
        said, valued = kept[: actor // 2], kept[actor // 2 : depth]
        layers = tuple(kept[depth:])
        to_logits = torch.empty_like(chances)
        figures = (part.numpy() for part in (chances, taken, entropies, to_log_prob, to_entropy, to_logits))
        act_kernel.judge_adjoint(*figures)
        needs_pi, needs_vf, *_ = ctx.needs_input_grad
        to_pi, of_actor = _back(to_logits, [*said, to_logits], layers[:actor], mine, needs_pi)
        to_vf, of_critic = _back(to_value.unsqueeze(0), [*valued, to_logits], layers[actor:], theirs, needs_vf)
        return to_pi, to_vf, None, None, None, *of_actor, *of_critic


def judge(policy: MemoryActorCritic, latent_pi: Tensor, latent_vf: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
    """Values, log-probabilities and entropies, each [N]; ``quick_act.serves_heads`` says for which policies."""
    views = policy.head_views.of(lambda: HeadViews(policy))
    actor, critic = views.modules
    layers = [tensor for module in (*actor, *critic) for tensor in (module.weight, module.bias)]
    kinds = (views.actor[1], views.critic[1])
    found: tuple[Tensor, ...] = Heads.apply(  # type: ignore[no-untyped-call]
        latent_pi, latent_vf, actions.long().flatten(), kinds, 2 * len(actor), *layers
    )
    return found
