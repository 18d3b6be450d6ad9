"""Opponents (a) and (b): sb3-contrib's RecurrentPPO as it is, and with one LSTM call a sequence.

Both run on the same fast worlds as everybody else, through an adapter to SB3's vector interface that reports timeouts
as SB3 wants them (``terminal_observation`` and ``TimeLimit.truncated``), so that its bootstrap at timeouts takes place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from benchmarks.opponents.settings import Settings
from benchmarks.opponents.worlds import World

Report = Callable[[int], None]


class Sb3World(VecEnv):
    """A world as an SB3 ``VecEnv``: ended streams are reset at once, their last observation goes into the info."""

    def __init__(self, world: World) -> None:
        space = gym.spaces.Box(-np.inf, np.inf, (world.observation_size,), np.float32)
        self._world = world
        super().__init__(world.num_envs, space, gym.spaces.Discrete(world.num_actions))

    def reset(self) -> np.ndarray:
        """Starts all streams."""
        return self._world.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Keeps the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Steps the world."""
        outcome, final = self._world.step_same(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = outcome.terminated | outcome.truncated
        if final is not None:
            for index in np.flatnonzero(ended):
                infos[index]["terminal_observation"] = final[index]
                infos[index]["TimeLimit.truncated"] = bool(outcome.truncated[index] and not outcome.terminated[index])
        return outcome.obs, outcome.rewards, ended, infos

    def close(self) -> None:
        """Nothing to release."""

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:  # type: ignore[type-arg]
        """No stream is wrapped."""
        return [False] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Reads an attribute of the world, the same for every stream."""
        return [getattr(self._world, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: a world's streams are not objects."""
        raise AttributeError(f"cannot set {attr_name!r} on the streams of a world; build another world")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Refused: a world's streams are not objects."""
        raise AttributeError(f"cannot call {method_name!r} on the streams of a world; call the world")


class FusedPolicy(RecurrentActorCriticPolicy):
    """The stock policy with one LSTM call a sequence.

    RecurrentPPO cuts its training sequences at episode starts, so within a sequence only the first step can be a start:
    clearing the initial state there and calling the LSTM once gives what the stock loop gives step by step. A sequence
    with a later start (nobody makes one today) falls back to that loop.
    """

    @staticmethod
    def _process_sequence(
        features: Tensor,
        lstm_states: tuple[Tensor, Tensor],
        episode_starts: Tensor,
        lstm: nn.LSTM,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        sequences = lstm_states[0].shape[1]
        starts = episode_starts.reshape(sequences, -1)  # [sequences, T]
        if starts.shape[1] > 1 and bool(starts[:, 1:].any()):
            return RecurrentActorCriticPolicy._process_sequence(features, lstm_states, episode_starts, lstm)
        keep = (1.0 - starts[:, 0]).view(1, sequences, 1)
        inputs = features.reshape(sequences, -1, lstm.input_size).transpose(0, 1)  # [T, sequences, D]
        output, states = lstm(inputs, (keep * lstm_states[0], keep * lstm_states[1]))
        return output.transpose(0, 1).flatten(0, 1), states


class _Reporter(BaseCallback):
    """Tells the clock how many steps are behind, once a rollout has been learned from."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:
            self._report(self.num_timesteps)


def make_recurrent_ppo(world: World, settings: Settings, *, fused: bool, critic_lstm: bool = True) -> RecurrentPPO:
    """RecurrentPPO with our rollout length, epochs, number of minibatches and width; all else at its defaults.

    Args:
        world: the streams.
        settings: sizes that all contestants share.
        fused: False for the stock policy, True for one LSTM call a sequence.
        critic_lstm: True is the default of RecurrentPPO, an LSTM each for actor and critic; False shares the actor's.
    """
    return RecurrentPPO(
        FusedPolicy if fused else RecurrentActorCriticPolicy,
        Sb3World(world),
        n_steps=settings.num_steps,
        batch_size=settings.num_steps * world.num_envs // settings.num_minibatches,
        n_epochs=settings.num_epochs,
        learning_rate=settings.learning_rate,
        ent_coef=settings.entropy_weight,
        policy_kwargs={
            "lstm_hidden_size": settings.width,
            "net_arch": [settings.width],
            "shared_lstm": not critic_lstm,
            "enable_critic_lstm": critic_lstm,
        },
        seed=settings.seed,
        device=settings.device,
    )


def run(model: RecurrentPPO, report: Report) -> None:
    """Learns until ``report`` ends the process."""
    model.learn(10**12, callback=_Reporter(report), log_interval=None)
