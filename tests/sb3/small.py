"""Small environments and models for the plug-in's tests."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SMALL_HOPE = {"heads": 2, "key_size": 4, "chunk": 8, "level_period": 8, "level_size": 4}
POLICY_KWARGS: dict[str, dict[str, Any]] = {
    "hope": {"core": "hope", "core_kwargs": SMALL_HOPE, "lstm_hidden_size": 16},
    "lstm": {"core": "lstm", "lstm_hidden_size": 16},
    "gru": {"core": "gru", "lstm_hidden_size": 16},
}
CRITICS: dict[str, dict[str, bool]] = {
    "own": {},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "feed-forward": {"shared_lstm": False, "enable_critic_lstm": False},
}


class Toy(gym.Env[Any, Any]):
    """Observes (step / 10, last action, noise); pays for repeating the action that the first step showed.

    Args:
        space: action space.
        kind: "box", "dict", "image", "multi" (MultiDiscrete) or "multi-dict" observations.
        length: env steps of an episode.
        truncates: whether episodes are cut instead of ended.
        bad: (episode step, what) at which "obs" or "reward" is nan.
    """

    def __init__(
        self,
        space: gym.Space[Any] | None = None,
        kind: str = "box",
        length: int = 7,
        truncates: bool = False,
        bad: tuple[int, str] | None = None,
    ) -> None:
        self.action_space = spaces.Discrete(2) if space is None else space
        self.kind, self.length, self.truncates, self.bad = kind, length, truncates, bad
        box = spaces.Box(-10, 10, (3,), np.float32)
        image = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        kinds: dict[str, gym.Space[Any]] = {"box": box, "image": image, "dict": spaces.Dict({"a": box, "b": image})}
        kinds["multi"] = spaces.MultiDiscrete([3, 4])
        kinds["multi-dict"] = spaces.Dict({"a": box, "multi": kinds["multi"]})
        self.observation_space = kinds[kind]

    def _seen(self) -> Any:
        seen = np.array([self.clock / 10, self.cue, self.np_random.normal()], np.float32)
        if self.clock:
            seen[1] = 0
        if self.bad == (self.clock, "obs"):
            seen[0] = np.nan
        image = self.np_random.integers(0, 255, (36, 36, 1), dtype=np.uint8)
        multi = np.array([self.cue, self.clock % 4], np.int64)
        dicts = {"dict": {"a": seen, "b": image}, "multi-dict": {"a": seen, "multi": multi}}
        return {"box": seen, "image": image, "multi": multi, **dicts}[self.kind]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.clock, self.cue = 0, float(self.np_random.integers(2))
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        reward = float(np.mean(action) == self.cue)
        if self.bad == (self.clock, "reward"):
            reward = np.nan
        over = self.clock >= self.length
        return self._seen(), reward, over and not self.truncates, over and self.truncates, {}
