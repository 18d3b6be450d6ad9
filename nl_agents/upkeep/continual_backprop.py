"""Continual backprop: at every update a very small share of mature units, the least useful ones, is born again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from nl_agents.errors import ConfigError
from nl_agents.types import LevelInfo
from nl_agents.upkeep.base import Upkeep
from nl_agents.upkeep.units import UnitLayer


class ContinualBackprop(Upkeep):
    """Generate and test (Dohare et al. 2024, Nature 632, Algorithm 1).

    After every step and for every layer::

        age_i += 1
        u_i   <- decay u_i + (1 - decay) mean|h_i| sum_k |w_out,ik|
        owed  += replacement * #{i: age_i > maturity}
        while owed >= 1: the eligible unit of least u_i / (1 - decay^age_i) is born again; owed -= 1

    A replaced unit gets new incoming weights, outgoing weights 0, utility and age 0, and the optimizer forgets it
    (moments and, with ``ElementAdamW``, step counts). What it gave on average, m_i w_out,i, moves into the bias of the
    layers that read it, with m_i the decayed mean of its activity, corrected as u is: so the network's mean output
    stays as it was (this is in the authors' code).

    Args:
        layers: hidden layers.
        optimizer: of their weights.
        replacement: share of the mature units replaced an update; 1e-4 in the authors' PPO runs.
        maturity: updates before a unit may be replaced; 10,000 there, over a thousand times more updates.
        decay: of utilities and means, .99 there.
        generator: of the new weights, on the host.
    """

    name = "continual-backprop"

    def __init__(
        self,
        layers: Sequence[UnitLayer],
        optimizer: Optimizer | None,
        replacement: float,
        maturity: int,
        decay: float,
        generator: torch.Generator,
    ) -> None:
        if not 0.0 <= replacement <= 1.0 or maturity < 0 or not 0.0 <= decay < 1.0:
            raise ConfigError(
                "continual backprop needs replacement in [0, 1], maturity >= 0 and decay in [0, 1), got "
                f"{replacement}, {maturity} and {decay}"
            )
        self.layers, self.optimizer, self.generator = list(layers), optimizer, generator
        self.replacement, self.maturity, self.decay = replacement, maturity, decay
        homes = [layer.incoming.weight for layer in self.layers]
        sizes = [layer.size for layer in self.layers]
        self.utility = [home.new_zeros(size) for home, size in zip(homes, sizes, strict=True)]
        self.average = [home.new_zeros(size) for home, size in zip(homes, sizes, strict=True)]
        self.age = [home.new_zeros(size) for home, size in zip(homes, sizes, strict=True)]
        self.owed = [0.0] * len(self.layers)
        self.replaced = 0

    @torch.no_grad()
    def after_step(self) -> None:
        """Ages all units, judges them, replaces those that are due."""
        for index, layer in enumerate(self.layers):
            if layer.absolute is None or layer.mean is None:
                continue
            age, share = self.age[index].add_(1.0), 1.0 - self.decay
            self.utility[index].lerp_(layer.absolute * layer.outgoing_strength(), share)
            self.average[index].lerp_(layer.mean, share)
            eligible = age > self.maturity
            self.owed[index] += self.replacement * int(eligible.sum())
            count = min(int(self.owed[index]), int(eligible.sum()))
            if count:
                self.owed[index] -= count
                self._replace(index, eligible, count)

    def _replace(self, index: int, eligible: torch.Tensor, count: int) -> None:
        layer, correction = self.layers[index], 1.0 - self.decay ** self.age[index]
        worth = (self.utility[index] / correction).masked_fill(~eligible, torch.inf)
        units = worth.topk(count, largest=False).indices
        given = self.average[index][units] / correction[units]
        for reader in layer.outgoing:
            if reader.bias is not None:
                reader.bias.add_(reader.weight[:, units] @ given)
        layer.renew(units.cpu(), self.optimizer, self.generator)
        for kept in (self.utility, self.average, self.age):
            kept[index][units] = 0.0
        self.replaced += count

    def metrics(self) -> dict[str, float]:
        """Units replaced so far."""
        return {"recycled_units": float(self.replaced)}

    def state_dict(self) -> dict[str, Any]:
        """Utilities, mean activities, ages, debts, and the state of chance."""
        return {
            "utility": list(self.utility),
            "average": list(self.average),
            "age": list(self.age),
            "owed": list(self.owed),
            "replaced": self.replaced,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        for name in ("utility", "average", "age"):
            for mine, saved in zip(getattr(self, name), state[name], strict=True):
                mine.copy_(saved)
        self.owed = [float(debt) for debt in state["owed"]]
        self.replaced = int(state["replaced"])
        self.generator.set_state(state["generator"].cpu())

    def level(self) -> LevelInfo:
        """Its row of a nest."""
        units = sum(layer.size for layer in self.layers)
        stores = f"utility, mean activity and age of {units} units"
        flow, rule = "activity of hidden units", "running mean of what each unit gives on"
        return LevelInfo(f"upkeep.{self.name}", stores, flow, rule, 1, "learner update", "life")
