"""Cue, distractors, question for B streams at once: a backend of a task sequence.

Everything that a stream shows is a hash of (its key, number of its episode, step), so which cue came how many episodes
ago is known without keeping any, and a few integers a stream are the whole state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from nl_agents.seeding import hash_uniform, spawn
from nl_agents.tasks.backend import BoolArray, IntArray, Outcome

CUES = 4  # also the number of actions; chance is 1 / CUES
DISTRACTORS = 4
QUESTION = CUES + DISTRACTORS  # the symbol that asks
_LONGEST = 1 << 32  # draws that an episode may take


@dataclass(frozen=True)
class Trial:
    """What one task asks.

    Attributes:
        distance: distractor steps between cue and question, >= 1.
        back: whose cue is asked: 0 this episode's, n that of n episodes ago.
    """

    distance: int
    back: int = 0


class NeedleBackend:
    """B streams of episodes: a cue (symbols 0-3), ``distance`` distractors (4-7), the question (8).

    The action at the question is the answer: reward 1 if it is the cue that is asked for, else 0, and the episode
    terminates. Any other action is ignored, with reward 0. The first ``back`` episodes of a stream ask for a cue that
    was never shown: there, chance is all there is.

    Args:
        trials: what each task asks.
        num_envs: streams B.
    """

    exact_state = True
    switches_in_episode = False
    stream_at_work: int | None = None

    def __init__(self, trials: tuple[Trial, ...], num_envs: int) -> None:
        for trial in trials:
            if not 1 <= trial.distance < _LONGEST - 2 or trial.back < 0:
                raise ValueError(f"a trial needs 1 <= distance < {_LONGEST - 2} env steps and back >= 0, got {trial}")
        self.num_envs = num_envs
        self.single_observation_space = spaces.Discrete(QUESTION + 1)
        self.single_action_space = spaces.Discrete(CUES)
        self.episode_limit: int | None = max(trial.distance for trial in trials) + 2
        self._distances = np.array([trial.distance for trial in trials], np.int64)
        self._backs = np.array([trial.back for trial in trials], np.int64)
        self._tasks = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)
        self.begin_life(0)

    def begin_life(self, seed: int) -> None:
        """Gives every stream a key of its own; the next episode is its number 0."""
        self._keys = np.array([spawn(seed, "needle", stream) for stream in range(self.num_envs)], np.uint64)
        self._episodes = np.full(self.num_envs, -1, np.int64)

    def set_tasks(self, tasks: IntArray) -> None:
        """The question of a running episode does not change."""
        raise NotImplementedError("needle tasks switch with the next episode; use switch='next-reset'")

    def reset(self, streams: IntArray, tasks: IntArray) -> None:
        """Begins an episode: its cue is seen next."""
        self._tasks = self._tasks.copy()
        self._tasks[streams] = tasks[streams]
        self._episodes[streams] += 1
        self._steps[streams] = 0

    def step(self, actions: npt.NDArray[Any], waiting: BoolArray | None) -> Outcome:
        """Goes one symbol further; the answer to the question ends the episode."""
        terminated: BoolArray = self._steps > self._distances[self._tasks]
        reward = (terminated & (actions == self._cues(self._backs[self._tasks]))).astype(np.float64)
        self._steps += 1
        if waiting is not None:
            reward[waiting], terminated[waiting] = 0.0, False
        return reward, terminated, np.zeros(self.num_envs, np.bool_)

    def observations(self) -> IntArray:
        """Returns the symbols [B]; after the answer the question stays in sight."""
        uniform = hash_uniform(self._keys, self._draws(self._episodes, self._steps))
        distractors = CUES + (uniform * DISTRACTORS).astype(np.int64)
        seen = np.where(self._steps > self._distances[self._tasks], QUESTION, distractors)
        return np.where(self._steps == 0, self._cues(np.zeros_like(self._steps)), seen)

    def get_state(self) -> dict[str, Any]:
        """Returns copies of all arrays."""
        arrays = {"tasks": self._tasks, "steps": self._steps, "keys": self._keys, "episodes": self._episodes}
        return {name: array.copy() for name, array in arrays.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up copies of all arrays."""
        self._tasks, self._steps = np.array(state["tasks"], np.int64), np.array(state["steps"], np.int64)
        self._keys, self._episodes = np.array(state["keys"], np.uint64), np.array(state["episodes"], np.int64)

    def close(self) -> None:
        """Holds nothing outside Python."""

    def _cues(self, back: IntArray) -> IntArray:
        """Returns the cue [B] of ``back`` episodes ago."""
        uniform = hash_uniform(self._keys, self._draws(self._episodes - back, np.zeros_like(back)))
        return (uniform * CUES).astype(np.int64)

    @staticmethod
    def _draws(episodes: IntArray, steps: IntArray) -> npt.NDArray[np.uint64]:
        """Numbers the draws of a stream; episodes before the first wrap around, to draws that nothing else uses."""
        return (episodes * _LONGEST + steps).astype(np.uint64)
