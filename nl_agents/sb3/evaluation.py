"""Evaluation that does not begin with a newborn: episodes played from a given memory."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from nl_agents.errors import StateMismatchError
from nl_agents.sb3.checks import check_whole
from nl_agents.sb3.memory_file import live_memory


class LifelongEvaluation(NamedTuple):
    """What the episodes brought.

    Attributes:
        returns: undiscounted return of each finished episode, in the order in which they ended.
        lengths: env steps of each.
        memory: the streams' memory after the last step, as ``predict`` gives it.
    """

    returns: list[float]
    lengths: list[int]
    memory: Any


def evaluate_policy_lifelong(
    model: BaseAlgorithm | Any,
    env: VecEnv | gym.Env[Any, Any],
    n_eval_episodes: int = 10,
    memory: Any | Literal["live", "newborn"] = "live",
    deterministic: bool = True,
) -> LifelongEvaluation:
    """Plays episodes with memory that is given and goes on from episode to episode; parameters stay as they are.

    SB3's ``evaluate_policy`` starts every stream with an empty memory; what was learnt over episodes is then not there.
    Each stream plays its share of the episodes, so that short ones are not counted more often than long ones. The
    model's own memory is copied, never written.

    Args:
        model: anything with SB3's ``predict``.
        env: an environment, or an SB3 ``VecEnv``; it is reset.
        n_eval_episodes: episodes in all.
        memory: "live" (the model's own), "newborn", or what ``predict`` returned. Where the env has more streams than
            the memory they take turns; where it has fewer the first are taken.
        deterministic: whether the likeliest action is taken.

    Raises:
        StateMismatchError: memory="live" and the model has none, or streams that cannot be matched.
        ValueError: fewer than one episode.
    """
    check_whole("n_eval_episodes", n_eval_episodes, 1, "episodes")
    env = as_vec_env(env)
    state = _start(model, memory, env.num_envs)
    shares = (n_eval_episodes + np.arange(env.num_envs)[::-1]) // env.num_envs  # [B] episodes still to play
    returns, lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    all_returns: list[float] = []
    all_lengths: list[int] = []
    observation: Any = env.reset()
    is_first = np.ones(env.num_envs, np.bool_)
    while (shares > 0).any():
        actions, state = model.predict(observation, state, is_first, deterministic)
        observation, rewards, ended, infos = env.step(actions)
        returns, lengths = returns + rewards, lengths + 1
        for stream in np.flatnonzero(ended):
            if shares[stream] > 0:
                told = infos[stream].get("episode")  # a Monitor's figures are those before other wrappers
                all_returns.append(float(told["r"]) if told else float(returns[stream]))
                all_lengths.append(int(told["l"]) if told else int(lengths[stream]))
                shares[stream] -= 1
            returns[stream], lengths[stream] = 0.0, 0
        is_first = ended
    return LifelongEvaluation(all_returns, all_lengths, state)


def as_vec_env(env: VecEnv | gym.Env[Any, Any]) -> VecEnv:
    """A single environment as a ``VecEnv`` of one stream."""
    return env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])


def _start(model: Any, memory: Any, streams: int) -> Any:
    """The state of the first call of ``predict``."""
    if isinstance(memory, str):
        if memory not in ("live", "newborn"):
            raise StateMismatchError(f"memory must be 'live', 'newborn' or a state of predict, got {memory!r}")
        if memory == "newborn":
            return None
        memory = live_memory(model)
        if memory is None:
            raise StateMismatchError(f"{type(model).__name__} has no live memory; pass memory='newborn' or a state")
    if isinstance(memory, tuple) and all(isinstance(part, np.ndarray) and part.ndim in (2, 3) for part in memory):
        return tuple(part.take(np.arange(streams) % part.shape[-2], axis=-2) for part in memory)  # [..., B, hidden]
    return memory
