"""Upkeep for any Stable-Baselines3 model: L2-init, shrink-and-perturb, ReDo, continual backprop, by one callback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn
from torch.optim import Optimizer

from nl_agents.errors import ConfigError
from nl_agents.upkeep import UnitLayer, Upkeep, attach, chain


class UpkeepCallback(BaseCallback):
    """Runs upkeep at every gradient step of a model, and logs its figures.

    Example::

        def parts(model):
            units = policy_units(model.policy)
            return [ReDo(units, model.policy.optimizer, 100, 0.1, torch.Generator().manual_seed(0))]

        PPO("MlpPolicy", env).learn(100_000, callback=UpkeepCallback(parts))

    An algorithm whose parts have an optimizer each, as SAC and TD3, takes a callback a part::

        UpkeepCallback(parts, optimizer=lambda model: model.critic.optimizer)

    SB3 saves no upkeep: what continual backprop knows of its units begins anew with every ``learn`` of a loaded model.

    Args:
        make_parts: from the model, when learning begins for the first time.
        optimizer: whose steps the upkeep goes with; None: ``model.policy.optimizer``.

    Raises:
        ConfigError: when learning begins, of a policy without that optimizer.
    """

    def __init__(
        self,
        make_parts: Callable[[BaseAlgorithm], Sequence[Upkeep]],
        verbose: int = 0,
        optimizer: Callable[[Any], Optimizer] | None = None,
    ) -> None:
        super().__init__(verbose)
        self.make_parts, self.optimizer = make_parts, optimizer
        self.parts: list[Upkeep] | None = None
        self._detach: Callable[[], None] | None = None

    def _on_training_start(self) -> None:
        self._on_training_end()  # of a call of learn that an error or an interrupt ended
        policy: Any = self.model.policy
        if self.optimizer is None and not hasattr(policy, "optimizer"):
            raise ConfigError(
                f"{type(policy).__name__} has no optimizer of its own, its parts have: say whose steps the upkeep goes "
                "with, UpkeepCallback(parts, optimizer=lambda model: model.critic.optimizer)"
            )
        if self.parts is None:
            self.parts = list(self.make_parts(self.model))
        self._detach = attach(policy.optimizer if self.optimizer is None else self.optimizer(self.model), self.parts)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        for part in self.parts or ():
            for key, value in part.metrics().items():
                self.logger.record(f"upkeep/{key}", value)

    def _on_training_end(self) -> None:
        if self._detach is not None:
            self._detach()
            self._detach = None


def policy_units(policy: Any) -> list[UnitLayer]:
    """The hidden layers of an ``MlpPolicy`` of PPO, A2C or RecurrentPPO: those of the actor, then those of the critic.

    Raises:
        ConfigError: the policy has no ``mlp_extractor`` with hidden layers.
    """
    extractor = getattr(policy, "mlp_extractor", None)
    if extractor is None:
        raise ConfigError(
            f"{type(policy).__name__} has no mlp_extractor; build the layers with nl_agents.upkeep.chain from its own"
        )
    heads: list[tuple[nn.Module, nn.Module]] = [
        (extractor.policy_net, policy.action_net),
        (extractor.value_net, policy.value_net),
    ]
    layers: list[UnitLayer] = []
    for body, head in heads:
        assert isinstance(body, nn.Sequential) and isinstance(head, nn.Linear)
        layers += chain(body, [head])
    return layers
