"""Q-networks with a memory core, for ``RecurrentDQN``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor

from nl_agents.memory import MemoryCore, make_core
from nl_agents.sb3.cells import CoreCell

CoreMaker = Callable[..., MemoryCore]


class RecurrentQNetwork(QNetwork):
    """Q(a) of every action from what was seen so far: extractor, core, then SB3's perceptron on the core's read-out.

    Args:
        arguments: QNetwork's, by name.
        core: name of a core, or a callable ``core(input_size=, width=, **core_kwargs)``.
        core_kwargs: options of the core.
        width: of the core's read-out.
    """

    def __init__(
        self, *, core: str | CoreMaker, core_kwargs: dict[str, Any], width: int, features_dim: int, **arguments: Any
    ) -> None:
        super().__init__(features_dim=width, **arguments)
        sizes = {"input_size": features_dim, "width": width}
        made = make_core(core, **sizes, **core_kwargs) if isinstance(core, str) else core(**sizes, **core_kwargs)
        self.cell = CoreCell(made)

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Q-values [B, A] of newborn memories."""
        first = torch.ones(1, len(next(iter(obs.values())) if isinstance(obs, dict) else obs), dtype=torch.bool)
        values, _ = self.run(obs, self.cell.initial(first.shape[1], self.device), first.to(self.device), None, 0)
        return values[0]

    def run(
        self, obs: PyTorchObs, state: Any, is_first: Tensor, is_valid: Tensor | None, phase: int | None
    ) -> tuple[Tensor, Any]:
        """Q-values [T, B, A] along a block whose observations are laid flat [T * B, ...], and the memory after it."""
        x = self.extract_features(obs, self.features_extractor).view(*is_first.shape, -1)
        y, state = self.cell.run(x, state, is_first, is_valid, phase)
        return self.q_net(y), state

    @torch.no_grad()
    def act(self, obs: PyTorchObs, state: Any, is_first: Tensor, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """Q-values [B, A] of one step [1, B]; ``state`` is given away."""
        x = self.extract_features(obs, self.features_extractor).unsqueeze(0)
        y, state = self.cell.act(x, state, is_first, is_valid)
        return self.q_net(y[0]), state


class RecurrentQPolicy(DQNPolicy):
    """DQN's policy with a core in both networks.

    Args:
        arguments: observation space, action space, learning-rate schedule.
        core: name of a core (``nl-agents list cores``), or a callable.
        core_kwargs: options of the core.
        lstm_hidden_size: width of the core's read-out, by the name that the recurrent policies use.
        options: all else that DQN's policies take.
    """

    q_net: RecurrentQNetwork
    q_net_target: RecurrentQNetwork

    def __init__(
        self,
        *arguments: Any,
        core: str | CoreMaker = "hope",
        core_kwargs: dict[str, Any] | None = None,
        lstm_hidden_size: int = 128,
        **options: Any,
    ) -> None:
        self.memory_args: dict[str, Any] = {
            "core": core,
            "core_kwargs": dict(core_kwargs or {}),
            "width": lstm_hidden_size,
        }
        super().__init__(*arguments, **options)

    def make_q_net(self) -> RecurrentQNetwork:
        """One of the two networks."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return RecurrentQNetwork(**arguments, **self.memory_args).to(self.device)

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """The greedy action and the memory after it; ``state=None`` is a newborn memory, one packed row a stream."""
        self.set_training_mode(False)
        obs, vectorized = self.obs_to_tensor(observation)
        count, cell = len(next(iter(obs.values())) if isinstance(obs, dict) else obs), self.q_net.cell
        first = np.zeros(count, np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_).reshape(-1)
        packed = None if state is None else torch.as_tensor(state[0]).to(self.device)
        memory = cell.initial(count, self.device) if packed is None else cell.unpack(packed.clone())
        values, memory = self.q_net.act(obs, memory, torch.from_numpy(first[None]).to(self.device), None)
        actions = values.argmax(dim=1).cpu().numpy()
        return (actions if vectorized else actions[0]), (cell.pack(memory).cpu().numpy(),)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """Also the core."""
        own = {**self.memory_args}
        own["lstm_hidden_size"] = own.pop("width")
        return {**super()._get_constructor_parameters(), **own}


class RecurrentQCnnPolicy(RecurrentQPolicy):
    """``RecurrentQPolicy`` for images."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": NatureCNN, **options})


class RecurrentQMultiInputPolicy(RecurrentQPolicy):
    """``RecurrentQPolicy`` for Dict observations."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": CombinedExtractor, **options})
