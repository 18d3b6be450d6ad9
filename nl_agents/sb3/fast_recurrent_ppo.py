"""RecurrentPPO on chunks of fixed length: one memory call a minibatch, and memory that is saved with the model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import FloatSchedule, explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from nl_agents.errors import ConfigError
from nl_agents.memory.form import compiled, load_compiled
from nl_agents.sb3.checks import check_whole, warn_newborn
from nl_agents.sb3.collection import Collector
from nl_agents.sb3.policies import (
    FastLstmCnnPolicy,
    FastLstmMultiInputPolicy,
    FastLstmPolicy,
    HopeCnnPolicy,
    HopeMultiInputPolicy,
    HopePolicy,
    MemoryActorCritic,
    SequenceFlags,
)
from nl_agents.sb3.random_state import random_state, set_random_state
from nl_agents.sb3.rollout_chunks import ChunkBatch, ChunkBuffer
from nl_agents.sb3.taken_policy import fuse, refuse_unheard
from nl_agents.sb3.two_cores import two_cores

ppo_kernel = load_compiled("nl_agents.sb3.ppo_kernel") if compiled is not None else None
FIGURES = ("kl", "clip", "policy", "value", "entropy", "loss")
"""What is kept of every minibatch."""
straight_pass: Any = load_compiled("nl_agents.sb3.straight_pass") if compiled is not None else None
Roots = tuple[Sequence[Tensor], Sequence[Tensor] | None]
"""Where back-propagation begins, and with which gradients."""
CHUNK_STEPS = 64
"""Longest default chunk: a multiple of the clocks of all cores but those of unusual options."""


class FastRecurrentPPO(RecurrentPPO):
    """PPO (Schulman et al. 2017) with memory: RecurrentPPO's constructor, options, logs and losses; another rollout.

    A rollout [T, B] is cut by time into chunks of L steps. A minibatch is ``batch_size // L`` chunks, run by one call
    of the memory, which clears itself wherever an episode starts: no padding to the longest episode, no loop over time.
    The memory is stored at chunk starts only. Gradients go back to the start of a chunk, in RecurrentPPO to the start
    of the episode or of the minibatch's slice.

    Differs from RecurrentPPO besides: an episode cut by time is bootstrapped for all its streams at once; squashed
    actions are unscaled; advantages of a single step are not normalised (0/0 there); what is not finite is refused and
    counted; ``save`` keeps the live memory and the random state, ``load`` takes up the memory, and
    ``learn(..., reset_num_timesteps=False)`` after it goes on where the saved model stood.

    Args:
        policy: "HopePolicy", "HopeCnnPolicy", "HopeMultiInputPolicy", "MlpLstmPolicy", "CnnLstmPolicy",
            "MultiInputLstmPolicy" (the last three are the fused LSTM), or a class of these.
        env: as for RecurrentPPO.
        options: all of RecurrentPPO's, by place or by name.
        chunk_steps: L, env steps of back-propagation through time; None: 64, or ``n_steps`` or ``batch_size`` if that
            is less. Multiples of the core's clock period are fastest (Hope: 64).

    Raises:
        ConfigError: a policy without sequences, or chunk_steps < 1.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "HopePolicy": HopePolicy,
        "HopeCnnPolicy": HopeCnnPolicy,
        "HopeMultiInputPolicy": HopeMultiInputPolicy,
        "MlpLstmPolicy": FastLstmPolicy,
        "CnnLstmPolicy": FastLstmCnnPolicy,
        "MultiInputLstmPolicy": FastLstmMultiInputPolicy,
        "FastLstmPolicy": FastLstmPolicy,
        "FastLstmCnnPolicy": FastLstmCnnPolicy,
        "FastLstmMultiInputPolicy": FastLstmMultiInputPolicy,
    }
    policy: MemoryActorCritic
    rollout_buffer: ChunkBuffer  # type: ignore[assignment]

    def __init__(self, policy: Any, env: Any, *options: Any, chunk_steps: int | None = None, **named: Any) -> None:
        check_whole("chunk_steps", chunk_steps, 1, "env steps", or_none=True)
        self.chunk_steps = chunk_steps
        self.refused_steps = 0
        self._clock = self._nonfinite = 0
        self.packed_memory: Any = None  # of a saved model
        self._learnt: list[Tensor] = []  # the policy's parameters
        self._straight = False  # whether the policy learns without autograd
        self._random_state: dict[str, Any] | None = None  # of a saved model that has not gone on yet
        super().__init__(policy, env, *options, **named)

    def _setup_model(self) -> None:
        check_whole("n_steps", self.n_steps, 1, "env steps of a stream in a rollout")
        check_whole("batch_size", self.batch_size, 1, "env steps of a minibatch", or_none=True)
        self._setup_lr_schedule()
        super().set_random_seed(self.seed)
        made = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, use_sde=self.use_sde, **self.policy_kwargs
        )
        if not isinstance(made, MemoryActorCritic):
            raise ConfigError(
                f"FastRecurrentPPO runs whole sequences and {type(made).__name__} cannot: use one of "
                f"{', '.join(self.policy_aliases)}, or a subclass of HopePolicy or FastLstmPolicy"
            )
        refuse_unheard(type(made))
        self.policy = made.to(self.device)
        fuse(self.policy)
        self.clip_range = FloatSchedule(self.clip_range)
        if self.clip_range_vf is not None:
            if isinstance(self.clip_range_vf, float | int) and self.clip_range_vf <= 0:
                raise ConfigError(f"clip_range_vf must be > 0, got {self.clip_range_vf}; None turns the clipping off")
            self.clip_range_vf = FloatSchedule(self.clip_range_vf)
        self.collector = Collector(self.policy, self.n_envs)
        if self.packed_memory is None:  # a model that RecurrentPPO saved, or we did when it lay among the tensors
            self.packed_memory = self.collector.packed()
        limit = self.n_steps if self.batch_size is None else min(self.n_steps, self.batch_size)
        if self.chunk_steps is not None and self.chunk_steps > limit:
            warnings.warn(
                f"chunk_steps={self.chunk_steps} is lowered to {limit}, as a chunk lies in a rollout of "
                f"n_steps={self.n_steps} and a minibatch of batch_size={self.batch_size}: raise these",
                stacklevel=4,
            )
        self.rollout_buffer = ChunkBuffer(
            self.n_steps,
            min(CHUNK_STEPS if self.chunk_steps is None else self.chunk_steps, limit),
            self.n_envs,
            self.observation_space,
            self.action_space,
            self.collector.packed().shape[1],
            self.device,
        )

    # ---------------------------------------------------------------- live

    def reset_memory(self) -> None:
        """Makes all streams newborn; nothing else does, but a new model."""
        self.collector = Collector(self.policy, self.n_envs)

    def memory_state(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """A copy of the live memory as ``predict(obs, state=...)`` takes it: the actor's (h, c), one row a stream."""
        hidden, cell = self.policy.lstm_actor.to_host(self.collector.memory.pi)
        return hidden.cpu().numpy().copy(), cell.cpu().numpy().copy()

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Fills the rollout; False if a callback ended it."""
        self.policy.set_training_mode(False)
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()
        if not self.collector.collect(self, env, callback, rollout_buffer):
            return False
        rollout_buffer.finish(self.gamma, self.gae_lambda)
        callback.on_rollout_end()
        return True

    # ---------------------------------------------------------------- learn

    def train(self) -> None:
        """Learns from the rollout: ``n_epochs`` passes over its chunks in random minibatches."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self._learnt = list(self.policy.parameters())
        self._straight = straight_pass is not None and ppo_kernel is not None and straight_pass.admits(self.policy)
        books: dict[str, list[Any]] = {}
        with two_cores() if self.policy.runs_on_two_cores else nullcontext():
            self._learn_from_rollout(books)
        self._log(books)

    def _learn_from_rollout(self, books: dict[str, list[Any]]) -> None:
        for epoch in range(self.n_epochs):
            if hasattr(self.policy.optimizer, "observe_fresh"):  # a deep optimizer learns from first epochs only
                self.policy.optimizer.observe_fresh = epoch == 0
            books["kl"] = []
            goes_on = all(self._update(batch, books) for batch in self.rollout_buffer.batches(self.batch_size))
            self._n_updates += 1
            if not goes_on:
                if self.verbose >= 1:
                    print(f"Early stopping at epoch {epoch}: KL {float(books['kl'][-1]):.3f} > 1.5 x {self.target_kl}")
                break

    def _update(self, batch: ChunkBatch, books: dict[str, list[Any]]) -> bool:
        """One optimizer step; returns False where the KL from the acting policy asks to stop."""
        rows: Tensor | slice = slice(None) if batch.trains is None else batch.trains
        count = len(batch.returns) if batch.trains is None else int(batch.trains.sum())
        if count == 0:
            return True
        figures, go_back = self._judge(batch, rows, count)
        for name, figure in figures.items():
            books.setdefault(name, []).append(figure)
        if self.target_kl is not None and float(figures["kl"]) > 1.5 * self.target_kl:
            return False
        for parameter in self._learnt:
            parameter.grad = None
        go_back()
        self._step()
        return True

    def _judge(self, batch: ChunkBatch, rows: Tensor | slice, count: int) -> tuple[dict[str, Any], Callable[[], None]]:
        """The losses' figures, and what computes all gradients."""
        if self._straight and straight_pass.serves(self.policy, batch):
            way = straight_pass.StraightPass(self.policy, batch)
            figures, (_, found) = self._quick_losses(batch, *way.said)
            assert found is not None
            return figures, lambda: way.back(*found)
        flags = SequenceFlags(batch.is_first, batch.is_valid, batch.phase)
        memory = self.policy.unpack_memory(batch.memory)
        values, log_probs, entropies = self.policy.evaluate_sequence(batch.observations, batch.actions, memory, flags)
        if ppo_kernel is not None and entropies is not None and values.is_cpu:
            figures, roots = self._quick_losses(batch, values, log_probs, entropies)
        else:
            figures, roots = self._losses(batch, values[rows], log_probs[rows], entropies, rows, count)
        return figures, lambda: torch.autograd.backward(*roots)

    def _losses(
        self,
        batch: ChunkBatch,
        values: Tensor,
        log_probs: Tensor,
        entropies: Tensor | None,
        rows: Tensor | slice,
        count: int,
    ) -> tuple[dict[str, Any], Roots]:
        """What ``ppo_kernel`` computes, in torch: of the rows that train."""
        advantages = batch.advantages[rows]
        if self.normalize_advantage and count > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clip = self._now(self.clip_range)
        log_ratio = log_probs - batch.old_log_probs[rows]
        ratio = log_ratio.exp()
        policy_loss = -torch.min(advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)).mean()
        expected = values
        if self.clip_range_vf is not None:
            bound, old = self._now(self.clip_range_vf), batch.old_values[rows]
            expected = old + (expected - old).clamp(-bound, bound)
        value_loss = (batch.returns[rows] - expected).square().mean()
        entropy_loss = log_probs.mean() if entropies is None else -entropies[rows].mean()
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        with torch.no_grad():
            kl = ((ratio - 1) - log_ratio).mean()
            outside = ((ratio - 1).abs() > clip).float().mean()
        found = (kl, outside, policy_loss, value_loss, entropy_loss, loss)
        return dict(zip(FIGURES, (figure.detach() for figure in found), strict=True)), ((loss,), None)

    def _quick_losses(
        self, batch: ChunkBatch, values: Tensor, log_probs: Tensor, entropies: Tensor
    ) -> tuple[dict[str, Any], Roots]:
        """The same in one compiled call, with the gradients of what the policy says."""
        said = (values, log_probs, entropies)
        given = [part.detach().contiguous().numpy() for part in (*said, *batch[2:6])]
        trains = np.empty(0, np.bool_) if batch.trains is None else batch.trains.numpy()
        grads = tuple(torch.empty_like(part) for part in said)
        bound = 0.0 if self.clip_range_vf is None else self._now(self.clip_range_vf)
        weights, clip = (float(self.ent_coef), float(self.vf_coef)), self._now(self.clip_range)
        into = (grad.numpy() for grad in grads)
        assert ppo_kernel is not None
        found = ppo_kernel.losses(*given, trains, clip, bound, weights, self.normalize_advantage, *into)
        return dict(zip(FIGURES, found.tolist(), strict=True)), (said, grads)

    def _step(self) -> None:
        """Steps the optimizer, unless a gradient is not finite."""
        found = [parameter.grad for parameter in self._learnt if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(found)))
        if not bool(torch.isfinite(norm)):
            self.refused_steps += 1
            return
        torch._foreach_mul_(found, (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        self.policy.optimizer.step()

    def _now(self, schedule: Any) -> float:
        """A schedule's value at the current progress."""
        return float(schedule(self._current_progress_remaining))

    def _log(self, books: dict[str, list[Any]]) -> None:
        lived = slice(self.n_steps)
        buffer = self.rollout_buffer
        values, returns = (block[lived].flatten().cpu().numpy() for block in (buffer.values, buffer.returns))
        means = {name: float(np.mean([float(one) for one in figures])) for name, figures in books.items() if figures}
        keys = {
            "entropy": "train/entropy_loss",
            "policy": "train/policy_gradient_loss",
            "value": "train/value_loss",
            "kl": "train/approx_kl",
            "clip": "train/clip_fraction",
        }
        for name, mean in means.items():
            if name in keys:
                self.logger.record(keys[name], mean)
        if books.get("loss"):
            self.logger.record("train/loss", float(books["loss"][-1]))
        self.logger.record("train/explained_variance", explained_variance(values, returns))
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", self._now(self.clip_range))
        if self.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", self._now(self.clip_range_vf))
        self.logger.record("train/refused_steps", self.refused_steps)
        self.logger.record("train/nonfinite_transitions", self.collector.nonfinite)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "FastRecurrentPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learns for ``total_timesteps`` env steps, as RecurrentPPO does.

        Memory of scope ``never`` goes on over calls; ``reset_num_timesteps=False`` goes on in every respect.
        """
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def set_random_seed(self, seed: int | None = None) -> None:
        """As in SB3; a seed that is given after ``load`` takes the place of the random state that was saved."""
        super().set_random_seed(seed)
        if seed is not None:
            self._random_state = None

    def _setup_learn(
        self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True, *rest: Any
    ) -> tuple[int, BaseCallback]:
        told = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *rest)
        state, self._random_state = self._random_state, None
        if state is not None and not reset_num_timesteps:
            set_random_state(state)
        return told

    # ---------------------------------------------------------------- save

    def save(self, *arguments: Any, **options: Any) -> None:
        """As in SB3; the zip also holds the live memory, its clock and the random state."""
        pending = self._random_state
        self.packed_memory = self.collector.packed().cpu().numpy()
        self._clock, self._nonfinite = self.collector.clock, self.collector.nonfinite
        self._random_state = pending or random_state()
        try:
            super().save(*arguments, **options)
        finally:
            self._random_state = pending

    @classmethod
    def load(cls, path: Any, *arguments: Any, **options: Any) -> Self:
        """As in SB3; the memory goes on where it was saved.

        With an environment of another number of streams all memories are newborn, and a warning says so. For an exact
        continuation give the environment as it stood and ``force_reset=False``; the random state goes on too, unless
        ``seed=`` or ``set_random_seed`` gives another.
        """
        model = super().load(path, *arguments, **options)
        if options.get("seed") is not None:
            model._random_state = None
        saved = torch.as_tensor(model.packed_memory)
        if saved.shape[0] == model.n_envs:
            model.collector.restore(saved.to(model.device), model._clock)
            model.collector.nonfinite = model._nonfinite
        else:
            warn_newborn(len(saved), model.n_envs)
        return model

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "collector", "_learnt"]
