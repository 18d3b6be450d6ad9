"""Level 2 at work: turns the meta-controller's settings into periods, rates and a replay ratio, epoch by epoch."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from nl_agents.config import AgentConfig
from nl_agents.control import EpochRule, MetaController
from nl_agents.learning import InnerLearner, LevelScheduler
from nl_agents.types import Episode, LevelInfo

FASTEST = "weights"
"""The level that steps at every update: its period is not for the controller to move."""


class Steering:
    """Runs the meta-controller over the learner of one agent.

    Factors: the rate of every level, the period of every slow level, the replay ratio (at most twice its default:
    replay costs time). A decision epoch lasts at least five of the slowest period in force, ``control.epoch_steps`` env
    steps and twenty finished episodes. Before ``control.warmup_steps`` nothing is proposed.

    Args:
        config: all options.
        scheduler: periods are set here.
        optimizer: rates are set on its groups (by ``name``).
        learner: the replay ratio is set here.
        seed: of the controller's own stream.
    """

    def __init__(
        self, config: AgentConfig, scheduler: LevelScheduler, optimizer: Optimizer, learner: InnerLearner, seed: int
    ) -> None:
        self.config, self.scheduler, self.optimizer, self.learner = config.control, scheduler, optimizer, learner
        space: dict[str, int | float] = {}
        bounds: dict[str, tuple[float, float] | None] = {}
        for name, period in scheduler.periods().items():
            space[f"{name}.rate"] = config.optimizer.lr
            if name != FASTEST:
                space[f"{name}.period"] = period
        if learner.replay is not None:
            space["replay.ratio"] = config.replay.ratio
            bounds["replay.ratio"] = (config.replay.ratio / 8, config.replay.ratio * 2)
        self.records: list[dict[str, Any]] = []
        self.controller = MetaController(space, bounds, seed, on_record=self.records.append)
        self.rule = EpochRule()
        self.returns: list[float] = []
        self.begun_updates = self.begun_steps = 0
        self.running = False
        self.epochs = self.void = 0
        self.surprise = 0.0

    def after_rollout(self, steps: int, episodes: list[Episode]) -> list[dict[str, Any]]:
        """Ends and begins decision epochs where due.

        Args:
            steps: the agent's clock (env steps).
            episodes: those that ended in the rollout.

        Returns:
            The controller's new records. A decision is recorded before it is applied.
        """
        if steps < self.config.warmup_steps:
            return []
        if self.running:
            self.returns.extend(episode.return_ for episode in episodes)
            if not self._is_over(steps):
                return []
            self.controller.observe(steps, self.returns)
            self._note_credit()
        decision = self.controller.propose(steps)
        self._apply(decision.settings)
        self.returns, self.running = [], True
        self.begun_updates, self.begun_steps = self.learner.updates, steps
        return self._take_records()

    def _is_over(self, steps: int) -> bool:
        periods = self.scheduler.periods().values()
        updates = self.learner.updates - self.begun_updates
        enough = steps - self.begun_steps >= self.config.epoch_steps
        return enough and self.rule.is_over(updates, len(self.returns), periods)

    def _apply(self, settings: dict[str, Any]) -> None:
        """Puts settings in force; what does not change is not touched."""
        periods = self.scheduler.periods()
        for group in self.optimizer.param_groups:
            name = str(group["name"])
            group["lr"] = float(settings[f"{name}.rate"])
            wanted = settings.get(f"{name}.period")
            if wanted is not None and int(wanted) != periods[name]:
                self.scheduler.set_period(name, int(wanted))
        if "replay.ratio" in settings:
            self.learner.replay_ratio = float(settings["replay.ratio"])

    def _note_credit(self) -> None:
        credit = self.records[-1]
        self.epochs += 1
        self.void += credit["void"] is not None
        self.surprise = float(credit["surprise"] or 0.0)

    def _take_records(self) -> list[dict[str, Any]]:
        taken = list(self.records)
        self.records.clear()
        self.controller.log.clear()
        return taken

    def metrics(self) -> dict[str, float]:
        """Figures to log."""
        return {
            "control/epoch": self.epochs,
            "control/void": self.void,
            "control/reward": self.surprise,
            "control/replay_ratio": self.learner.replay_ratio,
        }

    def levels(self) -> list[LevelInfo]:
        """The controller's row among an agent's levels: the settings that it moves."""
        return self.controller.levels()[:1]

    def least_updates(self) -> int:
        """Learner updates that the decision epoch in force lasts at least, by the slowest period."""
        return self.rule.least_updates(self.scheduler.periods().values())

    def state_dict(self) -> dict[str, Any]:
        """Controller and running epoch, for an exact resume."""
        return {
            "controller": self.controller.state_dict(),
            "returns": list(self.returns),
            "begun_updates": self.begun_updates,
            "begun_steps": self.begun_steps,
            "running": self.running,
            "epochs": self.epochs,
            "void": self.void,
            "surprise": self.surprise,
            "rates": {str(group["name"]): float(group["lr"]) for group in self.optimizer.param_groups},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        self.controller.load_state_dict(state["controller"])
        self.returns = [float(value) for value in state["returns"]]
        for name in ("begun_updates", "begun_steps", "running", "epochs", "void", "surprise"):
            setattr(self, name, state[name])
        for group in self.optimizer.param_groups:
            group["lr"] = float(state["rates"][str(group["name"])])
