"""Callbacks for lives that go on: memory on disk, evaluation with it, its levels in the log, marks at task switches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization
from torch import Tensor

from nl_agents.errors import ConfigError
from nl_agents.sb3.checks import check_whole
from nl_agents.sb3.evaluation import as_vec_env, evaluate_policy_lifelong
from nl_agents.sb3.memory_file import check_memory, live_memory, load_memory, save_memory


class MemoryCallback(BaseCallback):
    """Saves the live memory of a recurrent model, and restores it when learning begins.

    RecurrentPPO leaves its memory out of ``model.save``; with this a later process goes on with it. The ``save`` of
    FastRecurrentPPO, RecurrentDQN and RecurrentSAC holds it; they take this too. Other models are refused at once.

    Args:
        path: safetensors file, replaced at each save.
        save_every: vector steps between two saves; None saves at the end of ``learn`` only.
        restore: whether a file that is there is taken up when learning begins.
    """

    def __init__(self, path: str | Path, save_every: int | None = None, restore: bool = True, verbose: int = 0) -> None:
        super().__init__(verbose)
        check_whole("save_every", save_every, 1, "vector steps", or_none=True)
        self.path, self.save_every, self.restore = Path(path), save_every, restore

    def _on_training_start(self) -> None:
        check_memory(self.model)
        if self.restore and self.path.exists():
            load_memory(self.model, self.path)

    def _on_step(self) -> bool:
        if self.save_every is not None and self.n_calls % self.save_every == 0:
            save_memory(self.model, self.path)
        return True

    def _on_training_end(self) -> None:
        save_memory(self.model, self.path)


class LifelongEvalCallback(EventCallback):
    """Evaluates with a copy of the live memory, every ``eval_every`` vector steps.

    Where the model learns behind a ``VecNormalize``, its figures are handed to the evaluation's, as SB3 does.

    Args:
        eval_env: an environment, or an SB3 ``VecEnv``, of its own.
        eval_every: vector steps between two evaluations.
        n_eval_episodes: episodes of each.
        deterministic: whether the likeliest action is taken.
        callback_after_eval: called after each evaluation; False ends the training.
    """

    def __init__(
        self,
        eval_env: VecEnv | gym.Env[Any, Any],
        eval_every: int = 10_000,
        n_eval_episodes: int = 5,
        deterministic: bool = True,
        callback_after_eval: BaseCallback | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(callback_after_eval, verbose)
        check_whole("eval_every", eval_every, 1, "vector steps")
        check_whole("n_eval_episodes", n_eval_episodes, 1, "episodes")
        self.eval_env, self.eval_every = as_vec_env(eval_env), eval_every
        self.n_eval_episodes, self.deterministic = n_eval_episodes, deterministic
        self.returns: list[tuple[int, float]] = []  # (env steps, mean return)

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_every:
            return True
        if self.model.get_vec_normalize_env() is not None:
            sync_envs_normalization(self.training_env, self.eval_env)
        memory = "newborn" if live_memory(self.model) is None else "live"
        result = evaluate_policy_lifelong(
            self.model, self.eval_env, self.n_eval_episodes, memory, deterministic=self.deterministic
        )
        self.returns.append((self.num_timesteps, float(np.mean(result.returns))))
        self.logger.record("eval/lifelong_return_mean", self.returns[-1][1])
        self.logger.record("eval/lifelong_length_mean", float(np.mean(result.lengths)))
        return self._on_event()


class LevelMonitorCallback(BaseCallback):
    """Logs, at the end of each rollout, how much every level of the live memory keeps."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        for level, norm in self.level_norms().items():
            self.logger.record(f"memory/{level}/norm", norm)

    def level_norms(self) -> dict[str, float]:
        """Level -> Euclidean norm of its part of the memory, mean over streams; nothing for a policy without levels."""
        norms: dict[str, float] = {}
        for name, (cell, state) in self._parts().items():
            core = getattr(cell, "core", None)
            if core is None:
                flat = torch.cat([leaf.flatten(1) for leaf in state], dim=1)
                norms[f"{name}.lstm"] = float(flat.norm(dim=1).mean())
                continue
            for index, row in enumerate(core.state_levels()):
                parts = [
                    _part(leaf, owner.to(leaf.device), index)
                    for leaf, owner in zip(state, core.owners(), strict=True)
                    if leaf.is_floating_point()
                ]
                level = f"{name}.{row.name.removeprefix('core.')}"
                norms[level] = float(torch.cat(parts, dim=1).norm(dim=1).mean())
        return norms

    def _parts(self) -> dict[str, tuple[Any, Any]]:
        """Who remembers -> its cell and the cell's live state, batch first."""
        model, policy = cast(Any, self.model), cast(Any, self.model.policy)
        if hasattr(policy, "living"):
            parts: dict[str, tuple[Any, Any]] = policy.living(model.memory)
            return parts
        named = {"actor": getattr(policy, "lstm_actor", None), "critic": getattr(policy, "lstm_critic", None)}
        cells = {name: cell for name, cell in named.items() if cell is not None}
        if hasattr(model, "collector"):
            lived = {"actor": model.collector.memory.pi, "critic": model.collector.memory.vf}
            return {name: (cell, lived[name]) for name, cell in cells.items()}
        host = getattr(model, "_last_lstm_states", None)
        if host is None or not hasattr(cells.get("actor"), "from_host"):
            return {}
        kept, kind = {"actor": host.pi, "critic": host.vf}, host.pi[0].dtype
        return {name: (cell, cell.from_host(kept[name], kind)) for name, cell in cells.items()}


def _part(leaf: Tensor, owner: Tensor, index: int) -> Tensor:
    """[B, n] the numbers of a leaf [B, ...] that belong to level ``index``."""
    return leaf.flatten(1)[:, owner.expand(leaf.shape[1:]).flatten() == index]


class TaskSwitchCallback(BaseCallback):
    """Marks the switches of a task sequence in the log; reads the sequence's own record and shows the agent nothing.

    Args:
        verbose: 1 prints each switch.

    Attributes:
        switches: (scheduled env step, name of the task that began), in order.
    """

    def __init__(self, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.switches: list[tuple[int, str]] = []
        self._names: list[str] = []

    def _on_training_start(self) -> None:
        try:
            self.training_env.get_attr("task_log", 0)
        except AttributeError as error:
            raise ConfigError(
                "TaskSwitchCallback reads the record of a task sequence and the environment has none: learn in "
                "envs.to_sb3(envs.make_sequence(...)), or leave the callback out"
            ) from error

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        log = self.training_env.get_attr("task_log", 0)[0]
        for step, name in log[len(self.switches) :]:
            self.switches.append((int(step), str(name)))
            if self.verbose:
                print(f"env step {step}: task {name!r} begins")
            if name not in self._names:
                self._names.append(name)
        self.logger.record("task/switches", max(0, len(self.switches) - 1))
        self.logger.record("task/index", self._names.index(self.switches[-1][1]) if self.switches else 0)
