"""Q-networks with a memory core, for ``RecurrentDQN``."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor

from nl_agents.sb3.remembering import RememberingNet, RememberingPolicy


class RecurrentQNetwork(RememberingNet, QNetwork):
    """Q(a) of every action from what was seen so far: extractor, core, then SB3's perceptron on the core's read-out."""

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Q-values [B, A] of newborn memories."""
        values: Tensor = self.q_net(self.newborn(obs))
        return values


class RecurrentQPolicy(RememberingPolicy, DQNPolicy):
    """DQN's policy with a core in both networks; only the first of them lives in the environment."""

    q_net: RecurrentQNetwork
    q_net_target: RecurrentQNetwork

    def make_q_net(self) -> RecurrentQNetwork:
        """One of the two networks."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return RecurrentQNetwork(**arguments, **self.memory_args).to(self.device)

    @property
    def acting(self) -> RecurrentQNetwork:
        """The Q-network."""
        return self.q_net

    def choose(self, read: Tensor, deterministic: bool) -> NDArray[Any]:
        """The greedy actions [B]."""
        best: NDArray[Any] = self.q_net.q_net(read).argmax(dim=1).cpu().numpy()
        return best


class RecurrentQCnnPolicy(RecurrentQPolicy):
    """``RecurrentQPolicy`` for images."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": NatureCNN, **options})


class RecurrentQMultiInputPolicy(RecurrentQPolicy):
    """``RecurrentQPolicy`` for Dict observations."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": CombinedExtractor, **options})
