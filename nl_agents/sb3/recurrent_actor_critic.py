"""Actor and critics with memory cores, for ``RecurrentSAC``."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor, SACPolicy
from torch import Tensor

from nl_agents.sb3.cells import CoreCell
from nl_agents.sb3.remembering import RememberingNet, RememberingPolicy


class RecurrentActor(RememberingNet, Actor):
    """A squashed Gaussian over actions, of all that was seen so far: extractor, core, SAC's perceptron and heads."""

    shortcut = True

    def get_action_dist_params(self, obs: PyTorchObs) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Of newborn memories, for the host's own methods."""
        return self.spread(self.newborn(obs))

    def spread(self, read: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Means, logarithms of the deviations, and what gSDE wants beside them, of read-outs [N, W]."""
        latent, deviation = self.latent_pi(read), cast(Any, self.log_std)
        if self.use_sde:
            return self.mu(latent), deviation, {"latent_sde": latent}
        return self.mu(latent), deviation(latent).clamp(LOG_STD_MIN, LOG_STD_MAX), {}

    def speak(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """Draws actions [T, m, A] in [-1, 1], differentiably, and their log-probabilities [T, m], of [T, m, W]."""
        mean, log_std, more = self.spread(read.flatten(0, 1))
        actions, log_probs = self.action_dist.log_prob_from_params(mean, log_std, **more)
        return actions.view(*read.shape[:2], -1), log_probs.view(read.shape[:2])


class RecurrentCritic(RememberingNet, ContinuousCritic):
    """Q-values of actions after all that was seen so far: one core of its own, and all Q-heads read it.

    The action enters behind the core, at the heads. So the core runs once for any number of actions, and the actor's
    gradient goes through the heads alone.
    """

    shortcut = True

    def forward(self, obs: Any, actions: Tensor) -> tuple[Tensor, ...]:
        """Q-values [B, 1] of each head, of newborn memories."""
        return tuple(self.judge(self.newborn(obs), actions).unsqueeze(-1))

    def judge(self, read: Tensor, actions: Tensor) -> Tensor:
        """Q-values [heads, ...] of read-outs [..., W] and actions [..., A] in [-1, 1]."""
        joined = torch.cat((read, actions), dim=-1)
        return torch.stack([head(joined).squeeze(-1) for head in self.q_networks])

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor) -> Tensor:
        """As the host does it: an extractor that the actor shares learns from the actor's loss alone."""
        features = super().extract_features(obs, features_extractor)
        return features.detach() if self.share_features_extractor else features


class ActorCriticMemory(NamedTuple):
    """The live memory: states of the two cores, batch first."""

    pi: Any
    vf: Any


class RecurrentSACPolicy(RememberingPolicy, SACPolicy):
    """SAC's policy with a core in the actor, one in the critic and one in its target.

    The actor and the critic live in the environment; the target network begins its windows from the critic's memory.
    """

    actor: RecurrentActor
    critic: RecurrentCritic
    critic_target: RecurrentCritic

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> RecurrentActor:
        """The actor."""
        arguments = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return RecurrentActor(**arguments, **self.memory_args).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> RecurrentCritic:
        """The critic, or its target."""
        arguments = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return RecurrentCritic(**arguments, **self.memory_args).to(self.device)

    @property
    def acting(self) -> RecurrentActor:
        """The actor."""
        return self.actor

    def choose(self, read: Tensor, deterministic: bool) -> NDArray[Any]:
        """Actions [B, ...] between the space's bounds."""
        mean, log_std, more = self.actor.spread(read)
        scaled = self.actor.action_dist.actions_from_params(mean, log_std, deterministic=deterministic, **more)
        space = self.actor.action_space
        actions = self.unscale_action(scaled.cpu().numpy().reshape(-1, *space.shape))
        clipped: NDArray[Any] = np.clip(actions, space.low, space.high)
        return clipped

    def live(
        self, obs: PyTorchObs, memory: ActorCriticMemory, is_first: Tensor, is_valid: Tensor | None
    ) -> tuple[Tensor, ActorCriticMemory]:
        """The actor's read-out [B, W] of one step [1, B] and both memories after it; ``memory`` is given away."""
        read, pi = self.actor.read_step(obs, memory.pi, is_first, is_valid)
        _, vf = self.critic.read_step(obs, memory.vf, is_first, is_valid)
        return read, ActorCriticMemory(pi, vf)

    @property
    def memory_size(self) -> int:
        """Floats of the actor's memory and of the critic's."""
        return self.actor.cell.state_size + self.critic.cell.state_size

    def initial_memory(self, batch_size: int) -> ActorCriticMemory:
        """Newborn memories of actor and critic."""
        return ActorCriticMemory(*(net.cell.initial(batch_size, self.device) for net in (self.actor, self.critic)))

    def living(self, memory: ActorCriticMemory) -> dict[str, tuple[CoreCell, Any]]:
        """Actor and critic."""
        return {"actor": (self.actor.cell, memory.pi), "critic": (self.critic.cell, memory.vf)}

    def pack_memory(self, memory: ActorCriticMemory) -> Tensor:
        """One vector a stream [B, S]: the actor's memory, then the critic's."""
        return torch.cat((self.actor.cell.pack(memory.pi), self.critic.cell.pack(memory.vf)), dim=1)

    def unpack_memory(self, vector: Tensor) -> ActorCriticMemory:
        """Inverse of ``pack_memory``."""
        pi, vf = self.split(vector)
        return ActorCriticMemory(self.actor.cell.unpack(pi), self.critic.cell.unpack(vf))

    def pack_acting(self, memory: ActorCriticMemory) -> Tensor:
        """The actor's."""
        return self.actor.cell.pack(memory.pi)

    def split(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """The packed memories of actor and critic, in ``pack_memory``'s vector."""
        cut = self.actor.cell.state_size
        return vector[:, :cut], vector[:, cut:]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """Also what SAC's policy leaves out."""
        return {**super()._get_constructor_parameters(), "share_features_extractor": self.share_features_extractor}


class RecurrentSACCnnPolicy(RecurrentSACPolicy):
    """``RecurrentSACPolicy`` for images."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": NatureCNN, **options})


class RecurrentSACMultiInputPolicy(RecurrentSACPolicy):
    """``RecurrentSACPolicy`` for Dict observations."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": CombinedExtractor, **options})
