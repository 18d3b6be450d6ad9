"""DQN with memory: replay of sequences from stored states, with a burn-in (Kapturowski et al. 2019, R2D2)."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor
from torch.nn import functional as F

from nl_agents.errors import ConfigError
from nl_agents.sb3.recurrent_q import RecurrentQCnnPolicy, RecurrentQMultiInputPolicy, RecurrentQPolicy
from nl_agents.sb3.sequence_replay import SequenceBatch, SequenceReplay

FOREIGN = {"n_steps", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage"}


class RecurrentDQN(DQN):
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
    replay_buffer: SequenceReplay | None

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
        foreign = sorted(FOREIGN & set(options))
        if foreign:
            raise ConfigError(f"RecurrentDQN has a replay of its own and takes no {', no '.join(foreign)}")
        if burn_in < 0 or (train_length is not None and train_length < 1):
            raise ConfigError(f"expected burn_in >= 0 and train_length >= 1 steps, got {burn_in} and {train_length}")
        self.burn_in, self.train_length, self.double_q = burn_in, train_length, double_q
        self.clock = 0  # vector steps of the memory's life
        self.nonfinite = 0  # observations and rewards refused since birth
        self.packed_memory: NDArray[Any] | None = None  # of a saved model
        super().__init__(policy, env, batch_size=batch_size, train_freq=train_freq, **options)

    def _setup_model(self) -> None:
        replay, self.replay_buffer = self.replay_buffer, cast(Any, _Later())
        self.replay_buffer_class = ReplayBuffer  # never built: ours needs the core's sizes
        super()._setup_model()
        self.replay_buffer, self.replay_buffer_class = replay, None
        cell = self.policy.q_net.cell
        period = cell.clock_period
        if self.train_length is None:
            self.train_length = -(-16 // period) * period
        if self.train_length % period:
            raise ConfigError(
                f"train_length={self.train_length} must be a multiple of the core's clock, {period} steps, because "
                "windows begin where the clock stands at 0; leave it out to get one that fits"
            )
        packed = self.packed_memory
        if packed is not None and len(packed) == self.n_envs:
            self.memory = cell.unpack(torch.from_numpy(packed).to(self.device).clone())
        else:
            self.memory, self.clock = cell.initial(self.n_envs, self.device), 0
        if self.replay_buffer is None:
            self.replay_buffer = SequenceReplay(
                self.buffer_size,
                self.observation_space,
                self.action_space,
                self.device,
                self.n_envs,
                stride=self.train_length,
                window=self.burn_in + self.train_length,
                memory_size=cell.state_size,
            )
            self.replay_buffer.start(self.clock)

    # ---------------------------------------------------------------- live

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Acts and remembers; also where the action is drawn at random."""
        assert self.replay_buffer is not None and self._last_obs is not None
        assert self._last_episode_starts is not None
        cell, first = self.policy.q_net.cell, np.asarray(self._last_episode_starts, np.bool_)
        self._stored = cell.pack(self.memory) if self.replay_buffer.wants_memory else None
        observation, self._fine = _finite(self._last_obs)
        is_valid = None if self._fine.all() else torch.from_numpy(self._fine[None]).to(self.device)
        obs, _ = self.policy.obs_to_tensor(observation)
        values, self.memory = self.policy.q_net.act(
            obs, self.memory, torch.from_numpy(first[None]).to(self.device), is_valid
        )
        self.clock += 1
        greedy = values.argmax(dim=1).cpu().numpy()
        rate = 1.0 if self.num_timesteps < learning_starts else self.exploration_rate
        drawn = np.array([self.action_space.sample() for _ in range(n_envs)])
        actions = np.where(np.random.rand(n_envs) < rate, drawn, greedy)
        return actions, actions

    def _store_transition(self, replay_buffer: Any, buffer_action: Any, new_obs: Any, *rest: Any) -> None:
        """Adds the step to the replay, as it was before normalisation; ``rest`` are rewards, ends and infos."""
        reward, ended, infos = rest
        normaliser = self._vec_normalize_env
        seen: Any = self._last_original_obs if normaliser is not None else self._last_obs
        paid = normaliser.get_original_reward() if normaliser is not None else reward
        seen, _ = _finite(seen)
        good = np.isfinite(paid)
        self.nonfinite += int(np.count_nonzero(~good) + np.count_nonzero(~self._fine))
        cut = np.array([bool(info.get("TimeLimit.truncated")) for info in infos])
        first = np.asarray(self._last_episode_starts, np.bool_)
        replay_buffer.put(
            seen, buffer_action, np.where(good, paid, 0.0), ended & ~cut, first, self._fine & good, self._stored
        )
        self._last_episode_starts = ended | (first & ~self._fine)
        self._last_obs = new_obs
        if normaliser is not None:
            self._last_original_obs = normaliser.get_original_obs()

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

    # ---------------------------------------------------------------- learn

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        """Updates on windows; nothing where there is no whole window yet."""
        assert self.replay_buffer is not None and self.train_length is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            count = max(1, batch_size // self.train_length)
            batch = self.replay_buffer.windows(count, self._vec_normalize_env)
            loss = None if batch is None else self._loss(batch)
            if loss is None:
                continue
            self.policy.optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.q_net.parameters(), self.max_grad_norm)
            if bool(torch.isfinite(norm)):
                self.policy.optimizer.step()
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
        rows = slice(self.burn_in, -1)
        begins, sound, terminated = batch.is_first[self.burn_in + 1 :], batch.is_valid, batch.terminated[rows]
        trains = sound[rows] & (terminated | (~begins & sound[self.burn_in + 1 :]))
        if not bool(trains.any()):
            return None
        target = batch.rewards[rows] + self.gamma * following.masked_fill(terminated, 0.0)
        chosen = values[:-1].gather(-1, batch.actions[rows].unsqueeze(-1)).squeeze(-1)
        return F.smooth_l1_loss(chosen[trains], target[trains])

    def _values(self, net: Any, batch: SequenceBatch) -> Tensor:
        """Q-values behind the burn-in."""
        cut, state = self.burn_in, net.cell.unpack(batch.memory)
        valid = None if bool(batch.is_valid.all()) else batch.is_valid
        if cut:
            with torch.no_grad():
                part = None if valid is None else valid[:cut]
                _, state = net.run(_flat(batch.observations, slice(None, cut)), state, batch.is_first[:cut], part, 0)
        part, phase = None if valid is None else valid[cut:], cut % net.cell.clock_period
        values, _ = net.run(_flat(batch.observations, slice(cut, None)), state, batch.is_first[cut:], part, phase)
        return cast(Tensor, values)

    # ---------------------------------------------------------------- save

    def save(self, *arguments: Any, **options: Any) -> None:
        """As in SB3, with the live memory; ``save_replay_buffer`` keeps the replay."""
        self.packed_memory = self.policy.q_net.cell.pack(self.memory).cpu().numpy()
        super().save(*arguments, **options)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "memory", "_stored", "_fine"]


class _Later:
    """Stands in for the replay while the host sets up."""


def _flat(observations: Any, rows: slice) -> Any:
    if isinstance(observations, dict):
        return {key: leaf[rows].flatten(0, 1) for key, leaf in observations.items()}
    return observations[rows].flatten(0, 1)


def _finite(observation: Any) -> tuple[Any, NDArray[np.bool_]]:
    """Blanks rows that are not finite; returns the observation and [B] which rows were finite."""
    leaves = observation if isinstance(observation, dict) else {"": observation}
    fine = np.ones(len(next(iter(leaves.values()))), np.bool_)
    for leaf in leaves.values():
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            fine &= np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
    if fine.all():
        return observation, fine
    blank = {key: np.where(fine.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0) for key, leaf in leaves.items()}
    return (blank if isinstance(observation, dict) else blank[""]), fine
