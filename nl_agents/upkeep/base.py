"""What every kind of upkeep is to the loop that learns: a penalty, something to do after a step, a state to save."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nl_agents.types import LevelInfo


class Upkeep:
    """Base of all upkeep.

    A loop that learns calls it in this order, at every learner update::

        loss = loss + penalty()        # where that is not None
        loss.backward(); optimizer.step()
        after_step()

    Attributes:
        name: what its row in a nest is called, after ``upkeep.``.
    """

    name = "upkeep"

    def penalty(self) -> Tensor | None:
        """A scalar to add to the loss, or None."""
        return None

    def after_step(self) -> None:
        """Called after every step of the optimizer."""

    def after_rollout(self, rollout: Any) -> None:
        """Called after all updates on a rollout (``nl_agents.learning.Rollout``)."""

    def at_switch(self) -> bool:
        """Called where the agent is told that the task has changed (privileged agents only).

        Returns:
            Whether it is this upkeep that meets the switch, so that the learner is not started over.
        """
        return False

    def metrics(self) -> dict[str, float]:
        """Figures to log, by the part of their key after ``upkeep/``."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""

    def level(self) -> LevelInfo:
        """Its row of a nest."""
        return LevelInfo(f"upkeep.{self.name}", "nothing", "weights", "none", 1, "learner update", "life")
