"""A learner for every task, for a control that is told which task runs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nl_agents.learning import Rollout
from nl_agents.training.actor import Actor


class Learning(Protocol):
    """An agent whose learner can be filed and built anew."""

    lives: int
    actor: Actor | None

    def learner_state(self) -> dict[str, Any]:
        """Policy, optimizer, learner and scales."""

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Takes up what ``learner_state`` gave."""

    def begin_life(self, number: int) -> None:
        """Builds a newborn learner."""


class Experts:
    """Files the learner of a task that is left and takes up the one of the task that begins.

    One learner acts at a time: that of the task in which most streams are when a rollout begins. Steps of streams that
    are in another task then (they finish an episode) train nobody.

    Args:
        agent: whose learners these are.
    """

    def __init__(self, agent: Learning) -> None:
        self.agent = agent
        self.now = -1  # task in force, -1 before the first
        self.filed: dict[int, dict[str, Any]] = {}

    def enter(self) -> None:
        """Called before a rollout: changes learners if most streams are in another task."""
        actor = self.agent.actor
        assert actor is not None
        if actor.task is None:
            return
        self.take_up(int(np.bincount(actor.task).argmax()))

    def take_up(self, task: int) -> None:
        """Puts the learner of a task in force; a newborn one where the task has never been lived."""
        if task == self.now:
            return
        if self.now >= 0:
            self.filed[self.now] = self.agent.learner_state()
            self.agent.begin_life(task)
            if task in self.filed:
                self.agent.load_learner_state(self.filed.pop(task))
        elif task != self.agent.lives:
            self.agent.begin_life(task)
        self.now = task

    def mask(self, rollout: Rollout, tasks: NDArray[np.int64]) -> None:
        """Takes the steps [T, B] of other tasks out of all losses, in place."""
        own = tasks == self.now
        if not own.all():
            rollout.trains.logical_and_(rollout.trains.new_tensor(own))

    def state_dict(self) -> dict[str, Any]:
        """Learners that are not in force, and which one is."""
        return {"now": self.now, "filed": {str(task): state for task, state in self.filed.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        self.now = int(state["now"])
        self.filed = {int(task): kept for task, kept in state["filed"].items()}
