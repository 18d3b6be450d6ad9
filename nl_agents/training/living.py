"""What the loop of a life needs of an agent; ``Agent`` is one."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from nl_agents.config import AgentConfig
from nl_agents.learning import InnerLearner, LevelScheduler, ScaleKeeper
from nl_agents.optim import DeepMomentum, GuardedAdamW
from nl_agents.policies import MemoryPolicy
from nl_agents.training.actor import Actor
from nl_agents.training.experts import Experts
from nl_agents.training.steering import Steering


class Living(Protocol):
    """An agent with streams, a learner, perhaps a meta-controller, and a state that can be saved."""

    name: str
    seed: int
    config: AgentConfig
    device: torch.device
    needs_boundary: bool
    needs_task_id: bool
    actor: Actor | None
    policy: MemoryPolicy
    learner: InnerLearner
    scheduler: LevelScheduler
    optimizer: DeepMomentum | GuardedAdamW
    scales: ScaleKeeper
    steering: Steering | None
    experts: Experts | None

    @property
    def num_timesteps(self) -> int:
        """Env steps lived so far."""

    def keep_at_switch(self) -> bool:
        """Tells upkeep of a switch; whether one of its parts meets it, so that the learner goes on."""

    def renew(self) -> None:
        """Starts the learner over."""

    def levels(self) -> Any:
        """The nest; prints as a table."""

    def nest(self) -> Any:
        """The nest of the whole agent; prints as a table."""

    def header(self) -> dict[str, Any]:
        """What is needed to build the agent again."""

    def state_dict(self) -> dict[str, Any]:
        """Everything, for an exact resume."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
