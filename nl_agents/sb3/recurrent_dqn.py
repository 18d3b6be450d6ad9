"""DQN with memory: replay of sequences from stored states, with a burn-in (Kapturowski et al. 2019, R2D2)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor
from torch.nn import functional as F

from nl_agents.sb3.recurrent_q import (
    RecurrentQCnnPolicy,
    RecurrentQMultiInputPolicy,
    RecurrentQNetwork,
    RecurrentQPolicy,
)
from nl_agents.sb3.sequence_learner import SequenceLearner
from nl_agents.sb3.sequence_replay import SequenceBatch


class RecurrentDQN(SequenceLearner, DQN):
    """DQN (Mnih et al. 2015) whose Q-networks remember, on windows of b + L steps from the memory stored there.

        a* = argmax_a Q(x_<=t+1, a)        y_t = r_t + gamma Q'(x_<=t+1, a*)        loss = huber(y_t - Q(x_<=t, a_t))

    Both networks, Q and the target network Q', run over the first b steps (burn-in) without gradient: what they then
    remember is of today's weights, where the stored memory is of those that acted. The loss is taken over the L steps
    that follow. A step that ended by a time limit is not learnt from, nor one with something in it that is not finite.

    Differs from R2D2: windows are drawn uniformly, not by priority; targets are of one step, rewards as they come;
    windows go on over episode starts, where the core clears itself. From DQN: double Q-learning (``double_q=False``
    turns it off); each stream explores on its own; the live memory is saved with the model (the replay is not, as in
    DQN). Options are DQN's, by name; ``n_steps``, ``replay_buffer_class`` and ``optimize_memory_usage`` are not taken.

    Args:
        policy: "HopePolicy", "HopeCnnPolicy", "HopeMultiInputPolicy"; any core by ``policy_kwargs=dict(core="gru")``.
        env: as for DQN.
        burn_in: b, steps; at least 0.
        train_length: L, steps that are learnt from; also the distance between stored states, so a multiple of the
            core's clock (64 for Hope's default; 1, so any, for lstm and gru). None: the first such multiple >= 16.
        double_q: see above.
        batch_size: steps learnt from in an update: ``batch_size // L`` windows, at least one.
        train_freq: vector steps between updates, as for DQN.
        options: all else that DQN takes.

    Raises:
        ConfigError: an option that has no meaning here, or a length that does not fit the core.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "HopePolicy": RecurrentQPolicy,
        "HopeCnnPolicy": RecurrentQCnnPolicy,
        "HopeMultiInputPolicy": RecurrentQMultiInputPolicy,
    }
    policy: RecurrentQPolicy
    q_net: RecurrentQNetwork
    q_net_target: RecurrentQNetwork

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        burn_in: int = 8,
        train_length: int | None = None,
        double_q: bool = True,
        batch_size: int = 256,
        train_freq: Any = 4,
        **options: Any,
    ) -> None:
        self.double_q = double_q
        options.update(batch_size=batch_size, train_freq=train_freq)
        super().__init__(policy, env, burn_in=burn_in, train_length=train_length, **options)

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Acts and remembers; also where the action is drawn at random."""
        obs, is_first, is_valid = self._look()
        read, self.memory = self.q_net.read_step(obs, self.memory, is_first, is_valid)
        with torch.no_grad():
            greedy = self.policy.choose(read, True)
        rate = 1.0 if self.num_timesteps < learning_starts else self.exploration_rate
        drawn = np.array([self.action_space.sample() for _ in range(n_envs)])
        actions = np.where(np.random.rand(n_envs) < rate, drawn, greedy)
        return actions, actions

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """As the policy does it; where not deterministic each stream explores at the current rate, and remembers."""
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if not deterministic:
            drawn = np.array([self.action_space.sample() for _ in range(actions.size)]).reshape(actions.shape)
            actions = np.where(np.random.rand(*actions.shape) < self.exploration_rate, drawn, actions)
        return actions, state

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        """Updates on windows; nothing where there is no whole window yet."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            batch = self._draw(batch_size)
            loss = None if batch is None else self._loss(batch)
            if loss is not None and self._step(self.policy.optimizer, loss, self.max_grad_norm):
                losses.append(float(loss.detach()))
        self._n_updates += len(losses)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/nonfinite_transitions", self.nonfinite)
        if losses:
            self.logger.record("train/loss", np.mean(losses))

    def _loss(self, batch: SequenceBatch) -> Tensor | None:
        """The mean loss of the windows; None where nothing in them is learnt from."""
        values = self._values(self.q_net, batch)  # [L + 1, m, A]
        with torch.no_grad():
            after = self._values(self.q_net_target, batch)[1:]
            best = (values[1:] if self.double_q else after).argmax(dim=-1, keepdim=True)
            following = after.gather(-1, best).squeeze(-1)  # [L, m]
        rows, trains = slice(self.burn_in, -1), batch.trains(self.burn_in)
        if not bool(trains.any()):
            return None
        target = batch.rewards[rows] + self.gamma * following.masked_fill(batch.terminated[rows], 0.0)
        chosen = values[:-1].gather(-1, batch.actions[rows].unsqueeze(-1)).squeeze(-1)
        return F.smooth_l1_loss(chosen[trains], target[trains])

    def _values(self, net: RecurrentQNetwork, batch: SequenceBatch) -> Tensor:
        """Q-values [L + 1, m, A] behind the burn-in."""
        values: Tensor = net.q_net(net.read_behind(batch, batch.memory, self.burn_in))
        return values
