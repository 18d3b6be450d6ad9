"""Consolidation of values: what the fast critic has found out moves into the slow one, and the fast one lets go."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from nl_agents.learning.rollout import Rollout
from nl_agents.policies import PolicyInput
from nl_agents.policies.permanent import PermanentTransientPolicy
from nl_agents.types import LevelInfo
from nl_agents.upkeep import Upkeep

PASSES = 1  # over the kept experience at a consolidation, one step a rollout and minibatch of streams
STREAMS = 4  # of a minibatch


class PermanentValues(Upkeep):
    """Moves values from the transient to the permanent part, every ``period`` rollouts.

    Anand & Precup 2023, Algorithm 2, without knowing where tasks change::

        V_permanent  <-  regression, by Adam at rate lr, to the sum V_permanent + V_transient as it now is,
                         on the inputs of the last ``period`` rollouts
        V_transient  <-  decay * V_transient              (its last layer is scaled)

    Args:
        policy: whose values have both parts.
        period: rollouts between two consolidations, >= 1.
        lr: of the permanent part.
        decay: what is left of the transient part, in [0, 1]; 0 resets it.
    """

    name = "permanent"

    def __init__(self, policy: PermanentTransientPolicy, period: int, lr: float, decay: float) -> None:
        self.policy, self.period, self.decay = policy, period, decay
        self.optimizer = torch.optim.Adam(policy.permanent.parameters(), lr=lr, foreach=True)
        self.kept: list[tuple[PolicyInput, torch.Tensor]] = []
        self.consolidations = 0
        self.error = 0.0

    def after_rollout(self, rollout: Rollout) -> None:
        """Keeps the rollout's inputs; consolidates when it is time."""
        inputs = PolicyInput(*(block.clone() for block in rollout.inputs()))
        self.kept.append((inputs, rollout.state.clone()))
        if len(self.kept) < self.period:
            return
        with torch.no_grad():
            targets = [self.policy(given, self.policy.core.unpack(state))[0].values for given, state in self.kept]
        for _ in range(PASSES):
            for (given, _), target in zip(self.kept, targets, strict=True):
                self._regress(given, target)
        with torch.no_grad():
            self.policy.critic.weight.mul_(self.decay)
            self.policy.critic.bias.mul_(self.decay)
        self.kept.clear()
        self.consolidations += 1

    def _regress(self, given: PolicyInput, target: torch.Tensor) -> None:
        for streams in torch.arange(target.shape[1], device=target.device).split(STREAMS):
            part = PolicyInput(*(block.index_select(1, streams) for block in given))
            loss = F.mse_loss(self.policy.permanent_values(part), target.index_select(1, streams))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.error = float(loss.detach())

    def metrics(self) -> dict[str, float]:
        """Consolidations so far; squared error of the last regression step."""
        return {"consolidations": float(self.consolidations), "permanent_error": self.error}

    def state_dict(self) -> dict[str, Any]:
        """Kept inputs and the optimizer (the values themselves are the policy's)."""
        return {
            "kept": [[list(given), state] for given, state in self.kept],
            "optimizer": self.optimizer.state_dict(),
            "consolidations": self.consolidations,
            "error": self.error,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        device = self.policy.mean.device
        self.kept = [
            (PolicyInput(*(block.to(device, copy=True) for block in given)), start.to(device, copy=True))
            for given, start in state["kept"]
        ]
        self.optimizer.load_state_dict(state["optimizer"])
        self.consolidations, self.error = int(state["consolidations"]), float(state["error"])

    def level(self) -> LevelInfo:
        """Its row of a nest."""
        count = sum(parameter.numel() for parameter in self.policy.permanent.parameters())
        stores = f"permanent values, {count:,} weights, and the inputs they wait for"
        return LevelInfo("upkeep.permanent", stores, "transient values", "L2 to both", self.period, "rollout", "life")
