"""Soft actor-critic with memory: replay of sequences from stored states, with a burn-in, as in R2D2."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import polyak_update
from torch import Tensor

from nl_agents.sb3.recurrent_actor_critic import (
    RecurrentActor,
    RecurrentCritic,
    RecurrentSACCnnPolicy,
    RecurrentSACMultiInputPolicy,
    RecurrentSACPolicy,
)
from nl_agents.sb3.sequence_learner import SequenceLearner
from nl_agents.sb3.sequence_replay import SequenceBatch


class SACLosses(NamedTuple):
    """Of one batch of windows, all of the weights as they stand."""

    critic: Tensor
    actor: Tensor
    ent_coef: Tensor | None  # None where the coefficient is fixed


KEYS = ("train/critic_loss", "train/actor_loss", "train/ent_coef_loss")
"""Under which the losses are logged, as SAC does."""


class RecurrentSAC(SequenceLearner, SAC):
    """SAC (Haarnoja et al. 2018) that remembers, on windows of b + L steps from the memories stored there.

        a'_t, l_t ~ pi(x_<=t)            actions drawn anew for every step, and their log-probabilities
        y_t       = r_t + gamma (min_i Q'_i(x_<=t+1, a'_t+1) - alpha l_t+1)        no bootstrap where t terminated
        critic    = 1/2 sum_i mean (Q_i(x_<=t, a_t) - y_t)^2
        actor     = mean (alpha l_t - min_i Q_i(x_<=t, a'_t))
        alpha     : mean -log alpha (l_t + target_entropy)        where ``ent_coef`` is "auto"

    Three cores: the actor's, the critic's, which all Q-heads read, and that of the critic's target. Actor and critic
    share none, which Ni et al. (2022, "Recurrent model-free RL can be a strong baseline for many POMDPs") found to
    matter for return and stability. As in their networks the heads read the features of the present step beside the
    core's read-out, and the action enters there, behind the critic's core: one pass serves the action that was taken
    and the one that is drawn. Both live memories are stored with the steps; the target begins from the critic's.

    Each core runs over the first b steps (burn-in) without gradient, so gradients through time end L steps back; the
    losses are taken over the L steps that follow. None goes from the actor's loss into the critic's core. The critic
    learns from no step that a time limit ended, as its window goes on with the next episode (so there is nothing to
    bootstrap wrongly; the actor learns from it), and nobody from a step with something in it that is not finite.

    Differs from R2D2: windows are drawn uniformly, not by priority; targets are of one step; windows go on over
    episode starts, where the core clears itself. From SAC: all losses of an update are of the weights before it, where
    SAC's actor sees the critic after its step (that would be a fourth pass); gradients that are not finite are refused.
    Options are SAC's, by name; ``n_steps``, ``replay_buffer_class`` and ``optimize_memory_usage`` are not taken. The
    live memory is saved with the model; the replay is not, as in SAC. The memory is shown neither the last action nor
    the last reward, unless the observation holds them.

    Args:
        policy: "HopePolicy", "HopeCnnPolicy", "HopeMultiInputPolicy"; any core by ``policy_kwargs=dict(core="gru")``.
        env: as for SAC: Box actions.
        burn_in: b, steps; at least 0.
        train_length: L, steps that are learnt from; also the distance between stored memories, so a multiple of the
            core's clock (64 for Hope's default; 1, so any, for lstm and gru). None: the first such multiple >= 16.
        batch_size: steps learnt from in an update: ``batch_size // L`` windows, at least one.
        max_grad_norm: to which the gradients of actor and critic are clipped, each by itself; SAC clips none.
        options: all else that SAC takes.

    Raises:
        ConfigError: an option that has no meaning here, or a length that does not fit the core.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "HopePolicy": RecurrentSACPolicy,
        "HopeCnnPolicy": RecurrentSACCnnPolicy,
        "HopeMultiInputPolicy": RecurrentSACMultiInputPolicy,
    }
    policy: RecurrentSACPolicy
    actor: RecurrentActor
    critic: RecurrentCritic
    critic_target: RecurrentCritic

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        burn_in: int = 8,
        train_length: int | None = None,
        batch_size: int = 256,
        max_grad_norm: float = float("inf"),
        **options: Any,
    ) -> None:
        self.max_grad_norm = max_grad_norm
        super().__init__(policy, env, burn_in=burn_in, train_length=train_length, batch_size=batch_size, **options)

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Acts and remembers; also where the action is drawn at random."""
        obs, is_first, is_valid = self._look()
        read, self.memory = self.policy.live(obs, self.memory, is_first, is_valid)
        if self.num_timesteps < learning_starts and not (self.use_sde and self.use_sde_at_warmup):
            actions = np.array([self.action_space.sample() for _ in range(n_envs)])
        else:
            with torch.no_grad():
                actions = self.policy.choose(read, deterministic=False)
        scaled = self.policy.scale_action(actions)
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1, 1)
        return self.policy.unscale_action(scaled), scaled

    # ---------------------------------------------------------------- learn

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        """Updates on windows; nothing where there is no whole window yet."""
        self.policy.set_training_mode(True)
        tuned = [] if self.ent_coef_optimizer is None else [self.ent_coef_optimizer]
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer, *tuned])
        told = defaultdict(list)
        for _ in range(gradient_steps):
            if self.use_sde:
                self.actor.reset_noise()
            batch = self._draw(batch_size)
            losses = None if batch is None else self.losses(batch)
            if losses is None:
                continue
            told["train/ent_coef"].append(float(self._alpha()))
            self._update(losses)
            for key, loss in zip(KEYS, losses, strict=True):
                if loss is not None:
                    told[key].append(float(loss.detach()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/nonfinite_transitions", self.nonfinite)
        for key, values in told.items():
            self.logger.record(key, np.mean(values))

    def losses(self, batch: SequenceBatch) -> SACLosses | None:
        """See the class; None where nothing in the windows is learnt from."""
        rows, trains = slice(self.burn_in, -1), batch.trains(self.burn_in)
        sees = batch.is_valid[rows] & batch.is_paid[rows]
        if not bool(trains.any()):
            return None
        stored_pi, stored_vf = self.policy.split(batch.memory)
        read_vf = self.critic.read_behind(batch, stored_vf, self.burn_in)[:-1]  # [L, m, W]
        drawn, log_probs = self.actor.speak(self.actor.read_behind(batch, stored_pi, self.burn_in))  # [L + 1, m]
        alpha = self._alpha()
        with torch.no_grad():
            after = self.critic_target.read_behind(batch, stored_vf, self.burn_in)[1:]
            following = self.critic_target.judge(after, drawn[1:]).amin(dim=0) - alpha * log_probs[1:]
            target = batch.rewards[rows] + self.gamma * following.masked_fill(batch.terminated[rows], 0.0)
        errors = self.critic.judge(read_vf, batch.actions[rows]) - target  # [heads, L, m]
        critic = 0.5 * errors[:, trains].square().mean(dim=1).sum()
        judged = self.critic.judge(read_vf.detach(), drawn[:-1]).amin(dim=0)
        actor = (alpha * log_probs[:-1] - judged)[sees].mean()
        excess = log_probs[:-1].detach()[sees].mean() + float(self.target_entropy)
        ent_coef = None if self.log_ent_coef is None else -(self.log_ent_coef * excess).mean()
        return SACLosses(critic, actor, ent_coef)

    def _update(self, losses: SACLosses) -> None:
        """One step of each optimizer: the actor first, as what its loss leaves in the critic's gradient is cleared."""
        self._step(self.actor.optimizer, losses.actor, self.max_grad_norm)
        self._step(self.critic.optimizer, losses.critic, self.max_grad_norm)
        if self.ent_coef_optimizer is not None and losses.ent_coef is not None:
            self._step(self.ent_coef_optimizer, losses.ent_coef, float("inf"))
        if self._n_updates % self.target_update_interval == 0:
            polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
            polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)
        self._n_updates += 1

    def _alpha(self) -> Tensor:
        """The entropy's coefficient, without gradient."""
        return self.ent_coef_tensor if self.log_ent_coef is None else self.log_ent_coef.detach().exp()
