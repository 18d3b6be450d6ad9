"""ReDo: units that have gone quiet are born again, every so often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nl_agents.errors import ConfigError
from nl_agents.types import LevelInfo
from nl_agents.upkeep.base import Upkeep
from nl_agents.upkeep.units import UnitLayer


def dormancy_scores(absolute: Tensor) -> Tensor:
    """Scores of one layer's units (Sokar et al. 2023, Definition 3.1): s_i = E|h_i| / mean_k E|h_k|.

    Args:
        absolute: [H] mean absolute activity of each unit.

    Returns:
        [H]; all 0 where the whole layer is silent.
    """
    return absolute / absolute.mean().clamp_min(1e-9)


class ReDo(Upkeep):
    """Recycles dormant neurons (Sokar et al. 2023, Algorithm 1): every ``period`` updates, those of score <= threshold.

    Scores come from the minibatch of that update, layer by layer: each layer is judged by its own activity, whichever
    network (actor or critic) it belongs to. Incoming weights are drawn anew, outgoing ones zeroed, and the optimizer
    forgets both.

    Args:
        layers: hidden layers.
        optimizer: of their weights.
        period: learner updates between two looks, >= 1; 1000 with DQN (authors), 100 with PPO (Dohare et al. 2024).
        threshold: tau >= 0; .1 there, .025 elsewhere, 0 recycles only what is silent.
        generator: of the new weights, on the host.
    """

    name = "redo"

    def __init__(
        self,
        layers: Sequence[UnitLayer],
        optimizer: Optimizer | None,
        period: int,
        threshold: float,
        generator: torch.Generator,
    ) -> None:
        if period < 1 or threshold < 0.0:
            raise ConfigError(f"ReDo needs a period >= 1 and a threshold >= 0, got {period} and {threshold}")
        self.layers, self.optimizer, self.generator = list(layers), optimizer, generator
        self.period, self.threshold = period, threshold
        self.updates = self.recycled = 0
        self.dormant = 0.0  # share at the last look

    def after_step(self) -> None:
        """Counts an update; looks and recycles when one is due."""
        self.updates += 1
        if self.updates % self.period:
            return
        silent = 0
        for layer in self.layers:
            if layer.absolute is None:
                continue
            units = torch.nonzero(dormancy_scores(layer.absolute) <= self.threshold).flatten().cpu()
            layer.renew(units, self.optimizer, self.generator)
            silent += units.numel()
        self.recycled += silent
        self.dormant = silent / sum(layer.size for layer in self.layers)

    def metrics(self) -> dict[str, float]:
        """Units recycled so far, share that was dormant at the last look."""
        return {"recycled_units": float(self.recycled), "dormant_fraction": self.dormant}

    def state_dict(self) -> dict[str, Any]:
        """Counts and the state of chance."""
        return {
            "updates": self.updates,
            "recycled": self.recycled,
            "dormant": self.dormant,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        self.updates, self.recycled = int(state["updates"]), int(state["recycled"])
        self.dormant = float(state["dormant"])
        self.generator.set_state(state["generator"].cpu())

    def level(self) -> LevelInfo:
        """Its row of a nest."""
        flow, rule = "activity of hidden units", "none: quiet units are drawn anew"
        return LevelInfo("upkeep.redo", "counts", flow, rule, self.period, "learner update", "life")
