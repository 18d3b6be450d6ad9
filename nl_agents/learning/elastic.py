"""Elastic weights of a policy: at a switch that the agent is told of, the Fisher information of what it did before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nl_agents.learning.rollout import Rollout
from nl_agents.policies import MemoryPolicy, PolicyInput
from nl_agents.rl.losses import masked_mean
from nl_agents.types import LevelInfo
from nl_agents.upkeep import ElasticWeights
from nl_agents.upkeep.elastic import diagonal_fisher


class ElasticPolicy(ElasticWeights):
    """EWC on an actor-critic: a switch files the task whose last whole rollout was kept.

    The model whose Fisher information is taken is the policy with the critic beside it as a Gaussian of variance 1 (in
    units of the return scale): actions are drawn anew from the policy, values from that Gaussian, so that each draw
    over a stream's chunk is an unbiased estimate, through memory too (``diagonal_fisher``). F is a mean over steps.

    Args:
        policy: to be held.
        weight: lambda.
        decay: of old importance (online EWC), None for EWC.
        draws: of actions a stream.
        generator: of the draws, on the policy's device.
    """

    def __init__(
        self, policy: MemoryPolicy, weight: float, decay: float | None, draws: int, generator: torch.Generator
    ) -> None:
        super().__init__(policy.parameters(), weight, decay)
        self.policy, self.draws, self.generator = policy, draws, generator
        self.last: tuple[PolicyInput, Tensor, Tensor] | None = None  # inputs, which of them train, packed start state

    def after_rollout(self, rollout: Rollout) -> None:
        """Keeps what the policy was shown in the last whole rollout."""
        inputs = PolicyInput(*(block.clone() for block in rollout.inputs()))
        self.last = (inputs, rollout.trains.clone(), rollout.state.clone())

    def at_switch(self) -> bool:
        """Consolidates, and so meets the switch; one before the first rollout has nothing to file."""
        if self.last is None:
            return True
        trains = self.last[1]
        fisher = diagonal_fisher(self._scores(), self.parameters)
        steps = trains.sum().clamp(min=1) / trains.shape[1]  # a stream's, on average: each draw is one stream's sum
        self.consolidate([tensor / steps for tensor in fisher])
        return True

    def _scores(self) -> Iterator[Tensor]:
        assert self.last is not None
        given, trains, start = self.last
        spec = self.policy.actions
        for stream in range(trains.shape[1]):
            index = torch.tensor([stream], device=trains.device)
            part = PolicyInput(*(block.index_select(1, index) for block in given))
            for _ in range(self.draws):
                output, _ = self.policy(part, self.policy.core.unpack(start.index_select(0, index)))
                parameters = output.parameters
                actions = spec.sample(parameters.detach(), self.generator)
                noise = torch.randn(output.values.shape, generator=self.generator, device=output.values.device)
                scores = (
                    spec.log_prob(parameters, actions) + noise * output.values
                )  # noise: d/dV log N(V + noise; V, 1)
                own = trains.index_select(1, index)
                yield masked_mean(scores, own) * own.sum()

    def state_dict(self) -> dict[str, Any]:
        """Importance, anchor, kept rollout, and the state of chance."""
        last = None if self.last is None else [list(self.last[0]), self.last[1], self.last[2]]
        return {**super().state_dict(), "last": last, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        super().load_state_dict(state)
        self.generator.set_state(state["generator"].cpu())
        device = self.policy.mean.device
        self.last = None
        if state["last"] is not None:
            given, trains, start = state["last"]
            inputs = PolicyInput(*(block.to(device, copy=True) for block in given))
            self.last = (inputs, trains.to(device, copy=True), start.to(device, copy=True))

    def level(self) -> LevelInfo:
        """Its row of a nest."""
        return super().level()._replace(context="the last rollout before a told switch")
