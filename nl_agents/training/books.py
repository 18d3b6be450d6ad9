"""The books of a life: the clock, running episodes, and a row for every episode that ended."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from nl_agents.types import Episode


class Books:
    """Counts env steps and episodes over all streams.

    Args:
        env: where it, or what it wraps, has ``task_names`` and ``stream_tasks``, episodes carry the name of the task
            they ended under.

    Attributes:
        steps: env steps lived so far over all streams (dummy reset steps do not count).
        ended: episodes that ended since ``take``.
    """

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        self.world = env.unwrapped
        self.tasks: list[str] | None = getattr(self.world, "task_names", None)
        streams = env.num_envs
        self.steps = 0
        self.episodes = 0
        self.returns = np.zeros(streams, np.float64)
        self.lengths = np.zeros(streams, np.int64)
        self.begins = np.zeros(streams, np.int64)
        self.ended: list[Episode] = []

    def add(self, reward: NDArray[np.float32], lived: NDArray[np.bool_], ended: NDArray[np.bool_]) -> None:
        """Adds one vector step: rewards [B], who lived it [B], whose episode ended with it [B]."""
        self.begins[self.lengths == 0] = self.steps
        self.returns += reward
        self.lengths += lived
        self.steps += int(np.count_nonzero(lived))
        if ended.any():
            index = self.world.stream_tasks if self.tasks is not None else None  # type: ignore[attr-defined]
            for stream in np.flatnonzero(ended).tolist():
                task = "task" if self.tasks is None or index is None else self.tasks[int(index[stream])]
                row = (float(self.returns[stream]), int(self.lengths[stream]), int(self.begins[stream]))
                self.ended.append(Episode(self.steps, stream, task, *row))
            self.returns[ended], self.lengths[ended] = 0.0, 0

    def cut(self) -> None:
        """Forgets running episodes (the env was made anew); they appear in no record."""
        self.returns[:], self.lengths[:] = 0.0, 0

    def take(self) -> list[Episode]:
        """Returns the episodes that ended since the last call."""
        ended, self.ended = self.ended, []
        self.episodes += len(ended)
        return ended

    def state_dict(self) -> dict[str, Any]:
        """Everything, for an exact resume (``ended`` must have been taken)."""
        return {
            "steps": self.steps,
            "episodes": self.episodes,
            "returns": self.returns.copy(),
            "lengths": self.lengths.copy(),
            "begins": self.begins.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        self.steps, self.episodes = int(state["steps"]), int(state["episodes"])
        self.returns, self.lengths = np.array(state["returns"]), np.array(state["lengths"])
        self.begins, self.ended = np.array(state["begins"]), []
