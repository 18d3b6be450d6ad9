"""Shows an agent of another library what ours are given beside the observation: its last action and last reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space, iterate

from nl_agents.tasks.backend import BoolArray, FloatArray

if TYPE_CHECKING:
    Wrapper = VectorWrapper[Any, Any, Any, Any, Any]
else:  # before gymnasium 1.4 it takes no types
    Wrapper = VectorWrapper


class AugmentObservation(Wrapper):
    """Adds ``last_action`` and ``last_reward`` to what each stream sees.

    A plain observation space becomes ``Dict(obs, last_action, last_reward)``; a Dict keeps its keys and gains two.
    Both carry over the end of an episode and over ``reset()``, as in RL² (Duan et al. 2016): they describe the latest
    transition of the stream. At the start of a life, where there is none, both are the space's zero. The step on
    which ``next-step`` autoreset begins an episode is no transition and changes neither.

    Args:
        env: any vector env of either autoreset mode; its action space must be Discrete, MultiDiscrete or Box.
    """

    _action: np.ndarray[Any, Any]

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        action = env.single_action_space
        if not isinstance(action, spaces.Discrete | spaces.MultiDiscrete | spaces.Box):
            raise ValueError(f"AugmentObservation expects a Discrete, MultiDiscrete or Box action, got {action}")
        self._is_dict = isinstance(env.single_observation_space, spaces.Dict)
        extra = {"last_action": action, "last_reward": spaces.Box(-np.inf, np.inf, (1,), np.float32)}
        inner = env.single_observation_space
        own = dict(inner.spaces) if isinstance(inner, spaces.Dict) else {"obs": inner}
        clash = sorted(own.keys() & extra.keys())
        if clash:
            raise ValueError(f"the observation already has {', '.join(clash)}; AugmentObservation was applied before")
        self.single_observation_space = spaces.Dict({**own, **extra})
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._forget()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins episodes; with a seed, a new life without a last action."""
        seen, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._forget()
        self._waiting = np.zeros(self.num_envs, dtype=np.bool_)
        return self._joined(seen), info

    def step(self, actions: Any) -> tuple[Any, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Steps and remembers what was given and what came of it."""
        seen, reward, terminated, truncated, info = self.env.step(actions)
        valid = ~self._waiting
        self._action[valid] = np.asarray(actions)[valid]
        self._reward[valid, 0] = reward[valid]
        if self.env.metadata.get("autoreset_mode") == AutoresetMode.NEXT_STEP:  # may have changed since reset
            self._waiting = terminated | truncated
        if "final_obs" in info:
            rows = list(iterate(self.observation_space, self._joined(seen)))
            for stream in np.flatnonzero(info["_final_obs"]):
                last = {key: rows[stream][key] for key in ("last_action", "last_reward")}
                final = info["final_obs"][stream]
                info["final_obs"][stream] = {**(final if self._is_dict else {"obs": final}), **last}
        return self._joined(seen), reward, terminated, truncated, info

    @property
    def exact_state(self) -> bool:
        """That of the env inside; like the next three for those who save lives, where the env inside has it."""
        return bool(self.env.exact_state)  # type: ignore[attr-defined]

    @property
    def recreate(self) -> Callable[[int], None]:
        """That of the env inside."""
        found: Callable[[int], None] = self.env.recreate  # type: ignore[attr-defined]
        return found

    @property
    def get_state(self) -> Callable[[], dict[str, Any]]:
        """Returns the state inside with the last action and reward."""
        inner: Callable[[], dict[str, Any]] = self.env.get_state  # type: ignore[attr-defined]
        return lambda: {
            "inner": inner(),
            "action": self._action.copy(),
            "reward": self._reward.copy(),
            "waiting": self._waiting.copy(),
        }

    @property
    def set_state(self) -> Callable[[dict[str, Any]], None]:
        """Takes up what ``get_state`` gave."""
        inner: Callable[[dict[str, Any]], None] = self.env.set_state  # type: ignore[attr-defined]

        def take_up(state: dict[str, Any]) -> None:
            inner(state["inner"])
            self._action[...] = state["action"]
            self._reward = np.array(state["reward"], np.float32)
            self._waiting = np.array(state["waiting"], np.bool_)

        return take_up

    def _forget(self) -> None:
        space = self.action_space
        assert isinstance(space, spaces.MultiDiscrete | spaces.Box)
        start = space.start if isinstance(space, spaces.MultiDiscrete) else 0
        self._action = np.zeros(space.shape, dtype=space.dtype) + np.asarray(start, dtype=space.dtype)
        self._reward = np.zeros((self.num_envs, 1), dtype=np.float32)
        self._waiting = np.zeros(self.num_envs, dtype=np.bool_)

    def _joined(self, seen: Any) -> dict[str, Any]:
        extra = {"last_action": self._action.copy(), "last_reward": self._reward.copy()}
        return {**seen, **extra} if self._is_dict else {"obs": seen, **extra}
