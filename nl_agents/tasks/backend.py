"""The narrow waist between a sequence and whatever runs the physics.

A sequence owns the clock, the schedule, autoreset and what is told. A backend owns ``num_envs`` streams of episodes
and does as it is told: begin an episode of that task on these streams, step those, show what they see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Outcome = tuple[FloatArray, BoolArray, BoolArray]


class Backend(Protocol):
    """What a sequence asks of the thing that runs the physics.

    Attributes:
        num_envs: streams B.
        single_observation_space: the observation of one stream, the same for every task.
        single_action_space: the action of one stream, the same for every task.
        exact_state: whether ``get_state`` and ``set_state`` give a bit-exact continuation.
        switches_in_episode: whether ``set_tasks`` works; if not, a task can only begin with an episode.
        episode_limit: longest possible episode in env steps over all tasks; None where unknown.
        stream_at_work: the stream being stepped or reset while an error rises; None where all are stepped at once.
    """

    @property
    def num_envs(self) -> int: ...  # noqa: D102 (described above, like the next six)
    @property
    def single_observation_space(self) -> gym.Space[Any]: ...  # noqa: D102
    @property
    def single_action_space(self) -> gym.Space[Any]: ...  # noqa: D102
    @property
    def exact_state(self) -> bool: ...  # noqa: D102
    @property
    def switches_in_episode(self) -> bool: ...  # noqa: D102
    @property
    def episode_limit(self) -> int | None: ...  # noqa: D102
    @property
    def stream_at_work(self) -> int | None: ...  # noqa: D102

    def begin_life(self, seed: int) -> None:
        """Forgets everything and seeds every source of randomness; the caller resets all streams next."""
        ...

    def set_tasks(self, tasks: IntArray) -> None:
        """Changes the physics [B] of running episodes on the spot; ``tasks`` is never written to later."""
        ...

    def reset(self, streams: IntArray, tasks: IntArray) -> None:
        """Begins an episode of ``tasks[i]`` on stream i for each i of ``streams``.

        After a ``step`` with ``waiting`` streams exactly those are reset. ``tasks`` [B] is never written to later.
        """
        ...

    def step(self, actions: npt.NDArray[Any], waiting: BoolArray | None) -> Outcome:
        """Steps every stream that is not ``waiting`` [B] (None: all).

        Returns:
            Fresh arrays reward [B], terminated [B], truncated [B]; zero and False where waiting.
        """
        ...

    def observations(self) -> Any:
        """Returns a fresh batch, in the form ``gymnasium.vector`` gives, of what each stream sees now."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Returns nested dicts of plain JSON values and arrays from which ``set_state`` continues exactly."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up a state that ``get_state`` gave, in this or another process."""
        ...

    def close(self) -> None:
        """Frees what is held outside Python."""
        ...


@runtime_checkable
class Curricular(Protocol):
    """What a backend has beside the rest if something in it moves with the clock of the life."""

    def take_curriculum(self, seed: int, clock: int) -> None:
        """Is told after ``begin_life`` what to draw the shifts from, and how many env steps have been lived.

        Args:
            seed: of the life's curriculum, kept apart from the seed of the envs.
            clock: valid env steps over all streams so far.
        """
        ...


@runtime_checkable
class Attributed(Protocol):
    """What a backend has beside the rest if named numbers of its envs can be set."""

    def watch_attributes(self, names: tuple[str, ...]) -> None:
        """Is told once, before any life, which attributes will be set.

        Raises:
            UnknownNameError: an env has no such number; the text names those it has.
        """
        ...

    def default_attribute(self, name: str, streams: IntArray, tasks: IntArray) -> FloatArray:
        """Returns [N] what the env of task ``tasks[i]`` on stream ``streams[i]`` has by itself."""
        ...

    def set_attribute(self, name: str, streams: IntArray, tasks: IntArray, values: FloatArray) -> None:
        """Sets ``values[i]`` in the env of task ``tasks[i]`` on stream ``streams[i]``; [N] each."""
        ...


@runtime_checkable
class KeepsAttributes(Protocol):
    """What an attributed backend has beside the rest if what is set stays set while streams stay in their tasks."""

    def set_all_attributes(self, values: Mapping[str, FloatArray]) -> None:
        """Sets every named attribute [B] of all streams at once."""
        ...
