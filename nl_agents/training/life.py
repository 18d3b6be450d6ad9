"""The loop of a life: act, learn, adjust, record, checkpoint; and how a killed life goes on exactly."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from nl_agents.config import to_dict
from nl_agents.errors import NlAgentsError, NonFiniteError
from nl_agents.training.interrupt import Interrupt
from nl_agents.training.living import Living
from nl_agents.training.logging import MetricLogger
from nl_agents.training.monitors import memory_norms, versions
from nl_agents.training.progress import ProgressBar
from nl_agents.training.run_folder import RunFolder
from nl_agents.training.summary import write_summary
from nl_agents.training.world import World
from nl_agents.types import Episode


class Life:
    """Runs an agent until its clock reaches ``target``, keeping a run folder if asked.

    Everything happens at rollout boundaries, in this order: act T vector steps; learn; update scales; let the
    controller decide; write records; checkpoint if due. A checkpoint holds the agent, its streams, the environment (or,
    where that cannot be kept, the number from which it is made anew, interrupted or not) and the length of every
    record, so a life killed anywhere goes on from its last checkpoint to the same end, bit for bit on CPU.
    """

    def __init__(
        self,
        agent: Living,
        run_dir: str | os.PathLike[str] | None,
        info: dict[str, Any] | None = None,
        *,
        target: int,
    ) -> None:
        assert agent.actor is not None, "an agent without env cannot live; build it with env="
        self.agent, self.actor, self.target = agent, agent.actor, target
        self.world = World(agent.actor.env)
        self.folder: RunFolder | None = None
        self.logger: MetricLogger | None = None
        self.checkpoints = 0
        self.next_checkpoint = agent.num_timesteps + agent.config.run.checkpoint_every
        self.rollouts = 0
        self.recent: deque[Episode] = deque(maxlen=100)
        self.logged_tasks = self.logged_effective = 0
        self.logged_levels: dict[str, tuple[int, float]] = {}
        if run_dir is not None:
            content = {
                **agent.header(),
                "steps": target,
                "num_envs": self.actor.env.num_envs,
                "device": str(agent.device),
                "threads": torch.get_num_threads(),
                "versions": versions(),
                "levels": str(agent.levels()),
                "nest": str(agent.nest()),
                **(info or {}),
            }
            content["config"] = to_dict(agent.config)
            self.folder = RunFolder(run_dir, keep=agent.config.run.keep).create(content)
            self.logger = MetricLogger(run_dir)

    @classmethod
    def resumed(cls, agent: Living, run_dir: str | os.PathLike[str], target: int) -> Life:
        """Opens a run folder where its last checkpoint left it (or at its birth, if it had none)."""
        life = cls(agent, None, target=target)
        life.folder = RunFolder(run_dir, keep=agent.config.run.keep).open()
        found = life.folder.checkpoints.latest()
        if found is None:
            life.folder.rewind({})
            life.logger = MetricLogger(run_dir, purge_step=0)
            life.logger.rewind({"rows": 0, "columns": 0})
            return life
        tree = life.folder.checkpoints.load(found)
        life.folder.rewind(tree["positions"])
        agent.load_state_dict(tree["agent"])
        life.logger = MetricLogger(run_dir, purge_step=agent.num_timesteps + 1)
        life.logger.rewind(tree["table"])
        life._restore(tree["life"], tree["env"])
        return life

    def run(self, *, progress_bar: bool, callback: Callable[[Any], bool | None] | None) -> None:
        """Lives to the end. Ctrl-C ends it after the current rollout, with a checkpoint.

        Raises:
            KeyboardInterrupt: after that checkpoint.
            NonFiniteError: a refused step with ``run.on_nonfinite="stop"``, after a checkpoint.
            EnvironmentCrashedError: the env raised; the last checkpoint is intact.
        """
        started, before = time.perf_counter(), self.agent.num_timesteps
        bar: AbstractContextManager[ProgressBar | None] = (
            ProgressBar(self.target, before) if progress_bar else nullcontext(None)
        )
        try:
            with bar as drawn, Interrupt() as interrupt:
                self._record_levels()
                while self.agent.num_timesteps < self.target and not interrupt.asked and not self.world.is_over:
                    self._turn(time.perf_counter() - started, before)
                    if drawn is not None:
                        drawn.show(self.agent.num_timesteps, self.recent)
                    if callback is not None and callback(self.agent) is False:
                        break
        except NonFiniteError:
            self._close(save=True, seconds=time.perf_counter() - started)
            raise
        except BaseException:
            self._close(save=False, seconds=time.perf_counter() - started)
            raise
        self._close(save=True, seconds=time.perf_counter() - started)
        if interrupt.asked:
            raise KeyboardInterrupt

    def _turn(self, seconds: float, before: int) -> None:
        """One rollout: act, learn, adjust, record, checkpoint."""
        agent, actor = self.agent, self.actor
        bad, refused = actor.nonfinite, 0
        if agent.experts is not None:
            if not actor.started:
                actor.restart()
            agent.experts.enter()
        rollout, clock = actor.collect()
        if agent.experts is not None:
            agent.experts.mask(rollout, actor.tasks)
        metrics: dict[str, float] = {}
        if agent.needs_boundary and actor.take_notice() and not agent.keep_at_switch():
            agent.renew()
        else:
            refused = -agent.learner.refused_chunks
            metrics = agent.learner.learn(rollout, clock)
            refused += agent.learner.refused_chunks
            agent.scales.update(rollout)
        episodes = actor.books.take()
        self.recent.extend(episodes)
        self.rollouts += 1
        if agent.steering is not None:
            for record in agent.steering.after_rollout(agent.num_timesteps, episodes):
                if self.folder is not None:
                    self.folder.decisions.write_rows([record])
        if self.folder is not None:
            self._record(episodes, metrics, rollout.is_valid.float().mean(), seconds, before)
        if agent.num_timesteps >= self.next_checkpoint:
            self.next_checkpoint += agent.config.run.checkpoint_every
            self._checkpoint()
        if (actor.nonfinite > bad or refused) and agent.config.run.on_nonfinite == "stop":
            raise NonFiniteError(
                f"{actor.nonfinite - bad} transitions and {refused} chunks for replay before env step "
                f"{agent.num_timesteps} were not finite and were refused; the life stopped with a checkpoint "
                "(run.on_nonfinite=stop)"
            )

    def _record(
        self, episodes: list[Episode], metrics: dict[str, float], valid: torch.Tensor, seconds: float, before: int
    ) -> None:
        assert self.folder is not None and self.logger is not None
        world, agent = self.world.sequence, self.agent
        self.folder.episodes.write_rows([tuple(episode) for episode in episodes])
        log, effective = getattr(world, "task_log", []), getattr(world, "effective_log", [])
        self.folder.task_log.write_rows(log[self.logged_tasks :])
        self.folder.effective_log.write_rows(effective[self.logged_effective :])
        self.logged_tasks, self.logged_effective = len(log), len(effective)
        self._record_levels()
        if self.rollouts % agent.config.run.log_every:
            return
        record = self.logger.record
        if self.recent:
            record("rollout/return_mean", sum(episode.return_ for episode in self.recent) / len(self.recent))
            record("rollout/length_mean", sum(episode.length for episode in self.recent) / len(self.recent))
        record("rollout/episodes", self.actor.books.episodes)
        record("rollout/valid_fraction", valid)
        record("time/fps", (agent.num_timesteps - before) / max(seconds, 1e-9), exclude="csv")
        record("train/nonfinite_transitions", self.actor.nonfinite)
        record("train/refused_steps", agent.optimizer.refused_steps)
        if agent.learner.replay is not None:
            record("replay/chunks", agent.learner.replay.size)
            record("replay/refused_chunks", agent.learner.replay.refused)
        for name, norm in memory_norms(self.actor.state).items():
            record(f"memory/{name}/norm", norm)
        for name, (period, rate) in self.logged_levels.items():
            record(f"level/{name}/period", period)
            record(f"level/{name}/rate", rate)
        for key, mean in metrics.items():
            record(key, mean)
        for name, figure in agent.optimizer.statistics().items():
            if name != "refused_steps":
                record(f"optimizer/{name}", figure)
        if agent.steering is not None:
            for key, setting in agent.steering.metrics().items():
                record(key, setting)
        self.logger.dump(agent.num_timesteps)

    def _record_levels(self) -> None:
        """Writes a row of levels.csv for every level whose period or rate moved."""
        rates = {str(group["name"]): float(group["lr"]) for group in self.agent.optimizer.param_groups}
        now = {name: (period, rates[name]) for name, period in self.agent.scheduler.periods().items()}
        rows = [
            (self.agent.num_timesteps, name, *value)
            for name, value in now.items()
            if self.logged_levels.get(name) != value
        ]
        self.logged_levels = now
        if self.folder is not None:
            self.folder.levels.write_rows(rows)

    def _checkpoint(self) -> None:
        """Saves a restore point; an env that cannot be kept is made anew, in every life alike."""
        if self.folder is None:
            return
        assert self.logger is not None
        self.checkpoints += 1
        kept = self.world.save(self.checkpoints, self.agent.seed, self.actor.restart)
        tree = {
            "agent": self.agent.state_dict(),
            "env": kept,
            "life": self._state(),
            "positions": self.folder.positions(),
            "table": self.logger.positions(),
        }
        self.folder.checkpoints.save(self.checkpoints, tree)

    def _state(self) -> dict[str, Any]:
        return {
            "checkpoints": self.checkpoints,
            "next_checkpoint": self.next_checkpoint,
            "rollouts": self.rollouts,
            "recent": [list(episode) for episode in self.recent],
            "logged_tasks": self.logged_tasks,
            "logged_effective": self.logged_effective,
            "logged_levels": {name: list(value) for name, value in self.logged_levels.items()},
        }

    def _restore(self, state: dict[str, Any], env_state: dict[str, Any] | None) -> None:
        self.checkpoints, self.next_checkpoint = int(state["checkpoints"]), int(state["next_checkpoint"])
        self.rollouts = int(state["rollouts"])
        self.recent.extend(Episode(*row) for row in state["recent"])
        self.logged_tasks, self.logged_effective = int(state["logged_tasks"]), int(state["logged_effective"])
        self.logged_levels = {name: (int(row[0]), float(row[1])) for name, row in state["logged_levels"].items()}
        self.world.restore(env_state, self.checkpoints, self.agent.seed)

    def _close(self, *, save: bool, seconds: float) -> None:
        """Ends the run's records; with ``save`` a last checkpoint first."""
        if self.folder is None:
            return
        assert self.logger is not None
        try:
            if save:
                self._checkpoint()
                write_summary(self.folder.path, self.agent, seconds)
        except NlAgentsError:
            self.logger.close()
            self.folder.close()
            raise
        self.logger.close()
        self.folder.close()
