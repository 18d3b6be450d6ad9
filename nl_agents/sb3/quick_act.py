"""Heads of an actor-critic, and LSTM layers, on CPU for who acts: a few compiled calls. Loaded where numba works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn

from nl_agents.memory.views import Array, Views
from nl_agents.sb3 import act_kernel, lstm_kernel
from nl_agents.sb3.hooks import hooks_of

if TYPE_CHECKING:
    from nl_agents.sb3.cells import FusedLstm, LstmState
    from nl_agents.sb3.policies import MemoryActorCritic

PRECISIONS = (torch.float32, torch.float64)
KINDS: dict[type[nn.Module], int] = {nn.Tanh: act_kernel.TANH, nn.ReLU: act_kernel.RELU}


class HeadViews(Views):
    """The parameters of both heads as the kernel takes them; each ends with the policy's or the value's last layer.

    ``served`` says whether every part is known: SB3's own perceptrons of one bend, a categorical action of the logits
    as they come, on CPU.
    """

    def __init__(self, policy: MemoryActorCritic) -> None:
        super().__init__()
        extractor = policy.mlp_extractor
        nets = ((extractor.policy_net, policy.action_net), (extractor.value_net, policy.value_net))
        self.served = type(extractor) is MlpExtractor and type(policy.action_dist) is CategoricalDistribution
        told = getattr(policy._get_action_dist_from_latent, "__func__", None)  # where actions are masked, for example
        self.served = self.served and told is RecurrentActorCriticPolicy._get_action_dist_from_latent
        self.served = self.served and all(_is_known(hidden, last) for hidden, last in nets)
        if self.served:
            self.hooks = hooks_of(*(module for pair in nets for module in pair))
            self.modules = [[*list(hidden.children())[::2], last] for hidden, last in nets]
            bends = [next((KINDS[type(part)] for part in list(hidden.children())[1:2]), 0) for hidden, _ in nets]
            arrays = [tuple(self.layer(module) for module in modules) for modules in self.modules]
            self.actor, self.critic = zip(arrays, bends, strict=True)


def _is_known(hidden: nn.Module, last: nn.Module) -> bool:
    parts = list(hidden.children())
    layers, bends = [*parts[::2], last], {type(part) for part in parts[1::2]}
    if len(parts) % 2 or len(bends) > 1 or not bends <= KINDS.keys():
        return False
    return all(type(layer) is nn.Linear and layer.weight.is_cpu and layer.bias is not None for layer in layers)


def serves_heads(policy: MemoryActorCritic, latent: Tensor) -> bool:
    """Whether ``speak`` can do it: on a CPU in single or double precision, nobody's hook on any part."""
    if not (latent.is_cpu and latent.dtype in PRECISIONS and latent.dtype == policy.action_net.weight.dtype):
        return False
    views = policy.head_views.of(lambda: HeadViews(policy))
    return views.served and not any(views.hooks)


def speak(policy: MemoryActorCritic, latent_pi: Tensor, latent_vf: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Drawn actions [B], values [B] and log-probabilities [B] of read-outs [B, width].

    Draws as torch does: the same actions from the same state of its generator.
    """
    views = policy.head_views.of(lambda: HeadViews(policy))
    logits = act_kernel.perceptron(latent_pi.contiguous().numpy(), *views.actor)
    values = act_kernel.perceptron(latent_vf.contiguous().numpy(), *views.critic)
    noise = torch.empty(logits.shape, dtype=latent_pi.dtype).exponential_(1.0)
    actions, log_probs = act_kernel.draw(logits, noise.numpy())
    return torch.from_numpy(actions), torch.from_numpy(values[:, 0]), torch.from_numpy(log_probs)


class ActViews(HeadViews):
    """The same and the LSTM layers; ``acts`` says whether these are known too: one layer each, that heads read."""

    def __init__(self, policy: MemoryActorCritic) -> None:
        super().__init__(policy)
        cells = [cell for cell in (policy.lstm_actor, policy.lstm_critic) if cell is not None]
        self.acts = self.served and (len(cells) > 1 or policy.shared_lstm) and policy.has_plain_lstms
        if self.acts:
            weight = cast(Tensor, policy.action_net.weight)
            self.dtype, self.choices = weight.dtype, len(weight)
            self.memories = tuple(_weights(self, cell, 0) for cell in cells)
            self.hooks += [*hooks_of(*cells), *policy.extractor_hooks]


def _weights(views: Views, cell: FusedLstm, layer: int) -> tuple[Array, Array, tuple[Array, Array]]:
    """W, U and both biases of a layer; biases of length 0 where there are none."""
    enter, weight = (views.parameter(cell, f"weight_{way}_l{layer}") for way in ("ih", "hh"))
    none = np.empty(0, enter.dtype)
    first, other = (views.parameter(cell, f"bias_{way}_l{layer}") if cell.bias else none for way in ("ih", "hh"))
    return enter, weight, (first, other)


def serves_act(policy: MemoryActorCritic, obs: Any, state: Any) -> bool:
    """Whether ``act`` can do it: vectors seen as they are, LSTMs of one layer on CPU, heads that ``speak`` knows."""
    if not (isinstance(obs, Tensor) and policy.sees_vectors and obs.is_cpu):
        return False
    views = policy.act_views.of(lambda: ActViews(policy))
    fits = views.acts and obs.dtype == views.dtype == state.hidden.dtype and views.dtype in PRECISIONS
    return fits and not any(views.hooks)


def act(policy: MemoryActorCritic, obs: Tensor, states: list[LstmState], is_first: Tensor) -> Any:
    """Actions, values, log-probabilities, each [B], and the states after the step; ``states`` are given away."""
    views = policy.act_views.of(lambda: ActViews(policy))
    kept: Any = [type(state)(state.hidden.contiguous(), state.cell.contiguous()) for state in states]
    arrays = tuple((state.hidden.numpy()[:, 0], state.cell.numpy()[:, 0]) for state in kept)
    noise = torch.empty((len(obs), views.choices), dtype=views.dtype).exponential_(1.0)
    (actor, mine), (critic, theirs) = views.actor, views.critic
    found = act_kernel.respond(
        obs.contiguous().numpy(), is_first.contiguous().numpy()[0], views.memories, arrays, actor, critic,
        (mine, theirs), noise.numpy(),
    )  # fmt: skip
    actions, log_probs, values = (torch.from_numpy(part) for part in found)
    return actions, values, log_probs, kept


class LayerViews(Views):
    """The parameters of an LSTM's layers as the kernel takes them."""

    def __init__(self, cell: FusedLstm) -> None:
        super().__init__()
        self.layers = [_weights(self, cell, layer) for layer in range(cell.num_layers)]


def serves_step(cell: FusedLstm, x: Tensor, state: LstmState, is_valid: Tensor | None) -> bool:
    """Whether ``step`` can do it: one valid step on CPU, without projection, dropout or second direction."""
    own = cell.weight_hh_l0.dtype
    fits = len(x) == 1 and is_valid is None and x.dtype == own and state.hidden.dtype == own and own in PRECISIONS
    return fits and cell._is_plain(x)


def step(cell: FusedLstm, x: Tensor, state: LstmState, is_first: Tensor) -> tuple[Tensor, LstmState]:
    """``FusedLstm.run`` for one step x [1, B, D]; ``state`` is given away."""
    views = cell.views.of(lambda: LayerViews(cell))
    given, first = x.contiguous().numpy()[0], is_first.contiguous().numpy()[0]
    hidden, stored = (leaf.contiguous().numpy() for leaf in state)
    for layer, (enter, weight, biases) in enumerate(views.layers):
        own, kept = (np.ascontiguousarray(part[:, layer]) for part in (hidden, stored))
        lstm_kernel.step(given, first, enter, weight, biases, own, kept)
        if own.base is None:  # a copy: layers lie between the streams
            hidden[:, layer], stored[:, layer] = own, kept
        given = own
    after: Any = type(state)(torch.from_numpy(hidden), torch.from_numpy(stored))
    return torch.from_numpy(given).unsqueeze(0).clone(), after
