"""What off-policy algorithms with memory share: a live memory, a replay of sequences, one rule for bad numbers."""

from __future__ import annotations

from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import PyTorchObs, RolloutReturn
from torch import Tensor

from nl_agents.errors import ConfigError, StateMismatchError
from nl_agents.sb3.checks import check_whole, warn_newborn
from nl_agents.sb3.finite import blanked
from nl_agents.sb3.remembering import RememberingPolicy
from nl_agents.sb3.sequence_replay import SequenceBatch, SequenceReplay

FOREIGN = {"n_steps", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage"}


class SequenceLearner(OffPolicyAlgorithm):
    """An off-policy algorithm whose memory lives with its streams; to be named before the host's class among the bases.

    Args:
        policy: as the host takes it.
        env: as the host takes it.
        burn_in: b, steps; at least 0.
        train_length: L, steps that are learnt from, and the distance between stored memories. None: the first multiple
            of the core's clock that is >= 16.
        options: the host's, by name.

    Raises:
        ConfigError: an option that has no meaning here, or a length that does not fit the core.
    """

    policy: RememberingPolicy
    replay_buffer: SequenceReplay | None

    def __init__(
        self, policy: Any, env: Any, *, burn_in: int = 8, train_length: int | None = None, **options: Any
    ) -> None:
        foreign = sorted(FOREIGN & set(options))
        if foreign:
            raise ConfigError(f"{type(self).__name__} has a replay of its own and takes no {', no '.join(foreign)}")
        check_whole("burn_in", burn_in, 0, "steps")
        check_whole("train_length", train_length, 1, "steps", or_none=True)
        check_whole("batch_size", options.get("batch_size", 1), 1, "steps learnt from")
        self.burn_in, self.train_length = burn_in, train_length
        self.clock = 0  # vector steps of the memory's life
        self.nonfinite = 0  # observations and rewards refused since birth
        self.packed_memory: NDArray[Any] | None = None  # of a saved model
        self._owed: int | None = None  # num_timesteps before the step that the memory has lived and the replay has not
        cast(Any, super()).__init__(policy, env, **options)

    def _setup_model(self) -> None:
        kind = self.policy_aliases["HopePolicy"]
        if not issubclass(self.policy_class, kind):
            raise ConfigError(
                f"{type(self).__name__} cannot run a {self.policy_class.__name__}: use one of "
                f"{', '.join(self.policy_aliases)}, or a subclass of {kind.__module__}.{kind.__name__}"
            )
        replay, self.replay_buffer = self.replay_buffer, cast(Any, _Later())
        self.replay_buffer_class = ReplayBuffer  # never built: ours needs the core's sizes
        super()._setup_model()
        self.replay_buffer, self.replay_buffer_class = replay, None
        period = self.policy.clock_period
        if self.train_length is None:
            self.train_length = -(-16 // period) * period
        if self.train_length % period:
            raise ConfigError(
                f"train_length={self.train_length} must be a multiple of the core's clock, {period} steps, because "
                "windows begin where the clock stands at 0; leave it out to get one that fits"
            )
        packed = self.packed_memory
        if packed is not None and len(packed) == self.n_envs:
            self.memory = self.policy.unpack_memory(torch.from_numpy(packed).to(self.device).clone())
        else:
            self.memory, self.clock = self.policy.initial_memory(self.n_envs), 0
        if self.replay_buffer is None:
            self.replay_buffer = SequenceReplay(
                self.buffer_size,
                self.observation_space,
                self.action_space,
                self.device,
                self.n_envs,
                stride=self.train_length,
                window=self.burn_in + self.train_length,
                memory_size=self.policy.memory_size,
            )
            self.replay_buffer.start(self.clock)

    # ---------------------------------------------------------------- live

    def _look(self) -> tuple[PyTorchObs, Tensor, Tensor | None]:
        """What the step shows the memory: observations [B, ...], is_first [1, B] and is_valid [1, B] (None: all).

        To be called once a step, before the memory takes it: what is stored in the replay is the memory as it was.
        """
        assert self.replay_buffer is not None and self._last_obs is not None
        assert self._last_episode_starts is not None
        if self._owed is not None:  # a step that an error or an interrupt broke off
            self.replay_buffer.skip(1)
        self._owed = self.num_timesteps
        first = np.asarray(self._last_episode_starts, np.bool_)
        self._stored = self.packed() if self.replay_buffer.wants_memory else None
        observation, self._fine = blanked(self._last_obs)
        is_valid = None if self._fine.all() else torch.from_numpy(self._fine[None]).to(self.device)
        obs, _ = self.policy.obs_to_tensor(observation)
        self.clock += 1
        return obs, torch.from_numpy(first[None]).to(self.device), is_valid

    def collect_rollouts(self, *arguments: Any, **options: Any) -> RolloutReturn:
        """As in SB3; a step after which a callback ended all is stored too, as the memory has lived it."""
        self._watches = options["callback"]
        rollout = super().collect_rollouts(*arguments, **options)
        if not rollout.continue_training:
            self._settle()
        return rollout

    def _settle(self) -> None:
        """Stores the step that callbacks are being told of, which SB3 does behind them."""
        if self._owed is not None and self.num_timesteps > self._owed:
            names = ("replay_buffer", "buffer_actions", "new_obs", "rewards", "dones", "infos")
            self._store_transition(*(self._watches.locals[name] for name in names))

    def packed(self) -> Tensor:
        """The live memory of all that lives in the environment, one vector a stream [B, S]."""
        return self.policy.pack_memory(self.memory)

    def restore(self, packed: Tensor, clock: int) -> None:
        """Takes up a memory that ``packed`` gave."""
        self._settle()
        self.memory, self.clock = self.policy.unpack_memory(packed.to(self.device).clone()), clock
        self._align()

    def _align(self) -> None:
        """Brings the replay's step clock to the memory's, over steps without content where they are apart."""
        replay = self.replay_buffer
        assert replay is not None
        if replay.clock == replay.begun:
            replay.start(self.clock)
        elif replay.clock != self.clock:  # another life's, or saved at another step
            replay.skip((self.clock - replay.clock) % self.policy.clock_period or self.policy.clock_period)
        self._owed = None

    def memory_state(self) -> tuple[NDArray[np.float32]]:
        """A copy of the live memory of who acts, as ``predict(obs, state=...)`` takes it: one packed row a stream."""
        return (self.policy.pack_acting(self.memory).cpu().numpy(),)

    def _store_transition(self, replay_buffer: Any, buffer_action: Any, new_obs: Any, *rest: Any) -> None:
        """Adds the step to the replay, as it was before normalisation; ``rest`` are rewards, ends and infos.

        Once: a step that ``_settle`` has stored is there.
        """
        if self._owed is None:
            return
        self._owed = None
        reward, ended, infos = rest
        normaliser = self._vec_normalize_env
        seen: Any = self._last_original_obs if normaliser is not None else self._last_obs
        paid = normaliser.get_original_reward() if normaliser is not None else reward
        seen, _ = blanked(seen)
        self.nonfinite += int(np.count_nonzero(~np.isfinite(paid)) + np.count_nonzero(~self._fine))
        cut = np.array([bool(info.get("TimeLimit.truncated")) for info in infos])
        first = np.asarray(self._last_episode_starts, np.bool_)
        replay_buffer.put(seen, buffer_action, paid, ended & ~cut, first, self._fine, self._stored)
        self._last_episode_starts = ended | (first & ~self._fine)
        self._last_obs = new_obs
        if normaliser is not None:
            self._last_original_obs = normaliser.get_original_obs()

    # ---------------------------------------------------------------- learn

    def _draw(self, batch_size: int) -> SequenceBatch | None:
        """Windows of ``batch_size`` steps that are learnt from, one at least; None while there is none."""
        assert self.replay_buffer is not None and self.train_length is not None
        return self.replay_buffer.windows(max(1, batch_size // self.train_length), self._vec_normalize_env)

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor, max_norm: float) -> bool:
        """One optimizer step, refused (False) where the gradient is not finite."""
        optimizer.zero_grad()
        loss.backward()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        fine = bool(torch.isfinite(norm))
        if fine:
            optimizer.step()
        return fine

    # ---------------------------------------------------------------- save

    def save(self, *arguments: Any, **options: Any) -> None:
        """As in SB3, with the live memory; ``save_replay_buffer`` keeps the replay."""
        self._settle()
        self.packed_memory = self.packed().cpu().numpy()
        super().save(*arguments, **options)

    @classmethod
    def load(cls, *arguments: Any, **options: Any) -> Self:
        """As in SB3; with an environment of another number of streams memories are newborn, and a warning says so."""
        model = super().load(*arguments, **options)
        packed = model.packed_memory
        if packed is not None and len(packed) != model.n_envs:
            warn_newborn(len(packed), model.n_envs)
        return model

    def save_replay_buffer(self, *arguments: Any, **options: Any) -> None:
        """As in SB3."""
        self._settle()
        super().save_replay_buffer(*arguments, **options)

    def load_replay_buffer(self, *arguments: Any, **options: Any) -> None:
        """As in SB3; where its step clock stands elsewhere than the memory's, steps without content lie between.

        Raises:
            StateMismatchError: a replay of other windows or another memory.
        """
        own = self.replay_buffer
        super().load_replay_buffer(*arguments, **options)
        loaded = self.replay_buffer
        assert own is not None and loaded is not None
        sizes = [(part.stride, part.window, part.n_envs, part.memories.shape[-1]) for part in (loaded, own)]
        if sizes[0] != sizes[1]:
            self.replay_buffer = own
            raise StateMismatchError(
                f"the replay has (train_length, burn_in + train_length, streams, floats of a memory) = {sizes[0]} and "
                f"the model {sizes[1]}: build the model with the same lengths, core and number of streams"
            )
        self._align()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "memory", "_stored", "_fine", "_owed", "_watches"]


class _Later:
    """Stands in for the replay while the host sets up."""
