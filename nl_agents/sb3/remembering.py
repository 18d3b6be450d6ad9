"""What off-policy networks and policies with a memory core share, whatever their heads are."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from nl_agents.sb3.cells import CoreCell, CoreMaker, make_core
from nl_agents.sb3.checks import SpaceAware, check_streams
from nl_agents.sb3.finite import batch_of, blanked_tensors
from nl_agents.sb3.sequence_replay import SequenceBatch


class RememberingNet(BaseModel):
    """A network of SB3 whose heads read a core in the place of the extractor: extractor, core, heads.

    To be named before the host's class among the bases. Where ``shortcut``, heads read what is seen now beside what the
    core says of it, so that a core need not carry the present through.

    Args:
        arguments: the host network's, by name.
        core: name of a core, or a callable ``core(input_size=, width=, **core_kwargs)``.
        core_kwargs: options of the core.
        width: of the core's read-out.
        features_dim: of the extractor.
    """

    features_extractor: Any
    shortcut: ClassVar[bool] = False

    def __init__(
        self, *, core: str | CoreMaker, core_kwargs: dict[str, Any], width: int, features_dim: int, **arguments: Any
    ) -> None:
        cast(Any, super()).__init__(features_dim=width + features_dim * self.shortcut, **arguments)
        self.cell = CoreCell(make_core(core, features_dim, width, core_kwargs))

    def newborn(self, obs: PyTorchObs) -> Tensor:
        """What the heads read [B, W] of newborn memories."""
        first = torch.ones(1, batch_of(obs), dtype=torch.bool, device=self.device)
        return self.read(obs, self.cell.initial(first.shape[1], self.device), first, None, 0)[0][0]

    def read(
        self, obs: PyTorchObs, state: Any, is_first: Tensor, is_valid: Tensor | None, phase: int | None
    ) -> tuple[Tensor, Any]:
        """What the heads read [T, B, W] of a block of observations laid flat [T * B, ...], and the memory after it."""
        x = self.extract_features(obs, self.features_extractor).view(*is_first.shape, -1)
        y, state = self.cell.run(x, state, is_first, is_valid, phase)
        return self._beside(y, x), state

    @torch.no_grad()
    def read_step(self, obs: PyTorchObs, state: Any, is_first: Tensor, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """What the heads read [B, W] of one step [1, B]; ``state`` is given away."""
        x = self.extract_features(obs, self.features_extractor).unsqueeze(0)
        y, state = self.cell.act(x, state, is_first, is_valid)
        return self._beside(y[0], x[0]), state

    def read_behind(self, batch: SequenceBatch, stored: Tensor, burn_in: int) -> Tensor:
        """What the heads read [L + 1, m, W] of windows behind their first ``burn_in`` steps.

        Those are run without gradient: what is then remembered is of today's weights, and gradients end there.

        Args:
            batch: windows of ``burn_in`` + L steps and the row after them.
            stored: [m, S] the network's packed memories before the first step.
            burn_in: b >= 0, steps.
        """
        state = self.cell.unpack(stored)
        valid = None if bool(batch.is_valid.all()) else batch.is_valid
        if burn_in:
            with torch.no_grad():
                part = None if valid is None else valid[:burn_in]
                rows = _flat(batch.observations, slice(None, burn_in))
                _, state = self.read(rows, state, batch.is_first[:burn_in], part, 0)
        part, phase = None if valid is None else valid[burn_in:], burn_in % self.cell.clock_period
        rows = _flat(batch.observations, slice(burn_in, None))
        return self.read(rows, state, batch.is_first[burn_in:], part, phase)[0]

    def _beside(self, y: Tensor, x: Tensor) -> Tensor:
        return torch.cat((y, x), dim=-1) if self.shortcut else y


class RememberingPolicy(SpaceAware, BasePolicy):
    """An off-policy policy of SB3 whose networks remember; to be named before the host's class among the bases.

    Args:
        arguments: observation space, action space, learning-rate schedule.
        core: name of a core (``nl-agents list cores``), or a callable.
        core_kwargs: options of the core.
        lstm_hidden_size: width of the core's read-out, by the name that the recurrent policies use.
        options: all else that the host's policies take.
    """

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

    @property
    @abstractmethod
    def acting(self) -> RememberingNet:
        """The network that says what to do; ``predict`` carries its memory and no other."""

    @abstractmethod
    def choose(self, read: Tensor, deterministic: bool) -> NDArray[Any]:
        """Actions [B, ...] of the acting network's read-out [B, W], as the environment takes them."""

    @property
    def clock_period(self) -> int:
        """Env steps after which the memories' step clock returns to 0."""
        return int(self.acting.cell.clock_period)

    @property
    def memory_size(self) -> int:
        """S, floats of a stream's packed memory."""
        return self.acting.cell.state_size

    def initial_memory(self, batch_size: int) -> Any:
        """Newborn memories of who lives in the environment."""
        return self.acting.cell.initial(batch_size, self.device)

    def living(self, memory: Any) -> dict[str, tuple[CoreCell, Any]]:
        """Who lives in the environment -> its cell and its state."""
        return {"q_net": (self.acting.cell, memory)}

    def pack_memory(self, memory: Any) -> Tensor:
        """One vector a stream [B, S]."""
        return self.acting.cell.pack(memory)

    def unpack_memory(self, vector: Tensor) -> Any:
        """Inverse of ``pack_memory``."""
        return self.acting.cell.unpack(vector)

    def pack_acting(self, memory: Any) -> Tensor:
        """Of who acts alone, which is what ``predict`` carries."""
        return self.pack_memory(memory)

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """The action and the memory after it; ``state=None`` is a newborn memory, one packed row a stream.

        An observation that is not finite is taken as zeros and writes no memory.
        """
        self.set_training_mode(False)
        tensors, vectorized = self.obs_to_tensor(observation)
        obs, fine = blanked_tensors(tensors)
        count, cell = batch_of(obs), self.acting.cell
        first = np.zeros(count, np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_).reshape(-1)
        check_streams(count, count if state is None else len(state[0]))
        packed = None if state is None else torch.as_tensor(state[0]).to(self.device)
        memory = cell.initial(count, self.device) if packed is None else cell.unpack(packed.clone())
        is_first, is_valid = torch.from_numpy(first[None]).to(self.device), None if fine is None else fine[None]
        read, memory = self.acting.read_step(obs, memory, is_first, is_valid)
        actions = self.choose(read, deterministic)
        return (actions if vectorized else actions[0]), (cell.pack(memory).cpu().numpy(),)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """Also the core."""
        own = {**self.memory_args}
        own["lstm_hidden_size"] = own.pop("width")
        return {**super()._get_constructor_parameters(), **own}


def _flat(observations: Any, rows: slice) -> Any:
    if isinstance(observations, dict):
        return {key: leaf[rows].flatten(0, 1) for key, leaf in observations.items()}
    return observations[rows].flatten(0, 1)
