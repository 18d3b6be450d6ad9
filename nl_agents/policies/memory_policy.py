"""The actor-critic around a memory core: encoder -> core -> actor, critic and prediction head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.base import MemoryCore
from nl_agents.memory.form import load_compiled
from nl_agents.memory.views import KeptViews
from nl_agents.policies.actions import ActionSpec
from nl_agents.policies.observations import ObservationCodec
from nl_agents.policies.steps import PolicyInput as PolicyInput
from nl_agents.policies.steps import PolicyOutput as PolicyOutput

policy_act = load_compiled("nl_agents.policies.policy_act")


class MemoryPolicy(nn.Module):
    """Actor and critic on one memory core.

        f_t = features(obs_t)        x_t = W_2 silu(norm(W_1 [f_t, last action, tanh(last reward), first flag]))
        y_t, state = core(x_t, state)        logits = W_pi (y_t + x_t)        value = w_v (y_t + x_t)

    A core that is a whole network by itself (``direct``) reads [f_t, ...] with no encoder, and heads read y_t alone.

    A prediction head is trained (never used to act) to say from y_t and a_t how the features change and what reward
    comes: the outer prediction loss. Normalisation statistics are buffers, set between rollouts, frozen during one.

    Args:
        codec: packing of the observation space.
        actions: the action space's distribution.
        core: memory core of input size and width equal to ``width``; a ``direct`` one of ``input_size(...)``.
        inputs: "all", or "observation" to hide last action, reward and first-step flag.
        prediction: whether there is a prediction head.
    """

    serves_compiled = True
    """Whether what it computes is what the compiled act step computes; a subclass that adds to it says False."""
    mean: Tensor
    scale: Tensor
    change_scale: Tensor
    return_scale: Tensor
    advantage_scale: Tensor

    def __init__(
        self,
        codec: ObservationCodec,
        actions: ActionSpec,
        core: MemoryCore,
        inputs: str = "all",
        prediction: bool = True,
    ) -> None:
        super().__init__()
        width = core.width
        self.codec, self.actions, self.inputs = codec, actions, inputs
        size = input_size(codec, actions, inputs)
        self.encoder: nn.Sequential | nn.Identity = nn.Identity()
        if not core.direct:
            self.encoder = nn.Sequential(
                nn.Linear(size, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width)
            )
        self.core = core
        self.actor = nn.Linear(width, actions.parameters)
        self.critic = nn.Linear(width, 1)
        nn.init.orthogonal_(self.actor.weight, 0.01)
        nn.init.zeros_(self.actor.bias)
        nn.init.orthogonal_(self.critic.weight, 0.01)
        nn.init.zeros_(self.critic.bias)
        self.predictor: nn.Sequential | None = None
        if prediction:
            hidden = max(32, width // 2)
            self.predictor = nn.Sequential(
                nn.Linear(width + actions.size, hidden), nn.SiLU(), nn.Linear(hidden, codec.feature_size + 1)
            )
        self.views: KeptViews[Any] = KeptViews()
        self.register_buffer("mean", torch.zeros(codec.vector_size))
        self.register_buffer("scale", torch.ones(codec.vector_size))
        self.register_buffer("change_scale", torch.ones(codec.feature_size))
        self.register_buffer("return_scale", torch.ones(()))
        self.register_buffer("advantage_scale", torch.zeros(()))

    def forward(self, given: PolicyInput, state: Any, phase: int | None = None) -> tuple[PolicyOutput, Any]:
        """Runs a sequence; gradients flow through the memory's writes back to the first step."""
        return self._run(self.core, given, state, phase)

    @torch.no_grad()
    def act(self, given: PolicyInput, state: Any, phase: int | None = None) -> tuple[PolicyOutput, Any]:
        """The same for who acts: no gradients, and ``state`` is given away (``MemoryCore.act``)."""
        if policy_act is not None and policy_act.serves(self, given):
            acted: tuple[PolicyOutput, Any] = policy_act.act(self, given, state, phase)
            return acted
        return self._run(self.core.act, given, state, phase)

    def _run(
        self, core: Callable[..., tuple[Tensor, Any]], given: PolicyInput, state: Any, phase: int | None
    ) -> tuple[PolicyOutput, Any]:
        features, inputs = self.shown(given)
        x = self.encoder(inputs)
        action = given.last_action if self.core.action_size else None
        y, state = core(x, state, given.is_first, given.is_valid, action, phase)
        parameters, values = self._heads(y if self.core.direct else y + x)
        return PolicyOutput(parameters, values, y, features), state

    def shown(self, given: PolicyInput) -> tuple[Tensor, Tensor]:
        """Features of the observation [T, B, F], and all that the network reads [T, B, N]."""
        features = self.codec.features(given.rows, self.mean, self.scale)
        if self.inputs != "all":
            return features, features
        reward, first = torch.tanh(given.last_reward), given.is_first.to(features.dtype)
        return features, torch.cat((features, given.last_action, reward.unsqueeze(-1), first.unsqueeze(-1)), dim=-1)

    def _heads(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """What actor [T, B, P] and critic [T, B] say: they read the same, so one product serves both."""
        actor, critic = self.actor, self.critic
        both = F.linear(joined, torch.cat((actor.weight, critic.weight)), torch.cat((actor.bias, critic.bias)))
        parameters, values = both.split((self.actions.parameters, 1), dim=-1)
        return parameters, values.squeeze(-1)

    def predict_next(self, readout: Tensor, actions: Tensor) -> Tensor:
        """Expected scaled change of the features, and tanh(reward) last [T, B, F + 1].

        The first layer's weights are applied to read-out and action apart, which spares joining the two.
        """
        assert self.predictor is not None, "the policy was built without a prediction head"
        first, last = self.predictor[0], self.predictor[-1]
        assert isinstance(first, nn.Linear)
        of_readout, of_action = first.weight.split((self.core.width, self.actions.size), dim=1)
        hidden = F.linear(readout, of_readout, first.bias) + F.linear(self.actions.features(actions), of_action)
        expected: Tensor = last(F.silu(hidden))
        return expected

    def prediction_loss(self, output: PolicyOutput, actions: Tensor, rewards: Tensor, follows: Tensor) -> Tensor:
        """Mean squared error of the prediction head over steps whose successor lies in the same episode.

        Args:
            output: of this policy on the sequence [T, B].
            actions: taken [T, B, ...].
            rewards: raw [T, B].
            follows: [T, B] bool, step t + 1 continues the episode of step t (False at T - 1).
        """
        expected = self.predict_next(output.readout, actions)
        with torch.no_grad():
            target = torch.empty_like(expected)
            torch.sub(output.features[1:], output.features[:-1], out=target[:-1, :, :-1]).mul_(self.change_scale)
            torch.tanh(rewards, out=target[..., -1])
            # a step without a successor is foretold what it said: neither error nor gradient, whatever stands there
            target = torch.where(follows.unsqueeze(-1), target, expected)
            count = follows.sum().clamp(min=1) * target.shape[-1]
        return F.mse_loss(expected, target, reduction="sum") / count


def input_size(codec: ObservationCodec, actions: ActionSpec, inputs: str) -> int:
    """Numbers that the network reads a step: features, and with ``inputs="all"`` last action, reward and flag."""
    return codec.feature_size + (actions.size + 2 if inputs == "all" else 0)
