"""How FastRecurrentPPO lives in its environment: one forward pass a step, memory kept between rollouts."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from nl_agents.sb3.finite import blanked
from nl_agents.sb3.policies import Memory, MemoryActorCritic, SequenceFlags
from nl_agents.sb3.rollout_chunks import ChunkBuffer
from nl_agents.sb3.two_cores import one_thread_each

if TYPE_CHECKING:
    from nl_agents.sb3.fast_recurrent_ppo import FastRecurrentPPO

Flags = NDArray[np.bool_]


class Collector:
    """The part of an algorithm that belongs to its streams: live memory, step clock, counts of what was refused.

    An observation that is not finite is shown to nobody: the step is invalid (no memory is written) and neither it nor
    the step that led to it is learnt from. A reward that is not finite counts as 0 and its step is not learnt from.

    Args:
        policy: acts.
        num_envs: B.
    """

    def __init__(self, policy: MemoryActorCritic, num_envs: int) -> None:
        self.policy, self.num_envs, self.device = policy, num_envs, policy.device
        self.memory: Memory = policy.initial_memory(num_envs)
        self.clock = 0  # vector steps of the memory's life
        self.nonfinite = 0  # observations and rewards refused since birth

    @property
    def phase(self) -> int:
        """The memory's step clock."""
        return self.clock % self.policy.clock_period

    def packed(self) -> Tensor:
        """The live memory, one vector a stream [B, S]."""
        return self.policy.pack_memory(self.memory)

    def restore(self, packed: Tensor, clock: int) -> None:
        """Takes up a memory that ``packed`` gave."""
        self.memory, self.clock = self.policy.unpack_memory(packed.clone()), clock

    def collect(self, model: FastRecurrentPPO, env: VecEnv, callback: BaseCallback, buffer: ChunkBuffer) -> bool:
        """Lives one rollout; returns False if a callback ended it (what was lived until then is kept)."""
        buffer.begin()
        for step in range(buffer.num_steps):
            if model.use_sde and model.sde_sample_freq > 0 and step % model.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            if step % buffer.chunk_steps == 0:
                buffer.memory[step // buffer.chunk_steps] = self.packed()
                buffer.phases[step // buffer.chunk_steps] = self.phase
            if not self._step(model, env, callback, buffer, step):
                return False
        self._bootstrap(model, buffer)
        return True

    def _step(
        self, model: FastRecurrentPPO, env: VecEnv, callback: BaseCallback, buffer: ChunkBuffer, step: int
    ) -> bool:
        written = buffer.host
        observation, finite = blanked(model._last_obs)
        shown = buffer.put_observation(step, observation)
        assert model._last_episode_starts is not None
        is_first = np.asarray(model._last_episode_starts, np.bool_)
        written["is_first"][step], written["is_valid"][step] = is_first, finite
        flags = self._flags(is_first, None if finite.all() else finite)
        actions, values, log_probs, self.memory = self.policy.act_step(shown, self.memory, flags)
        self.clock += 1
        taken = actions.cpu().numpy()
        sent = self._to_env(taken)
        new_obs, rewards, ended, infos = env.step(sent)
        good = np.isfinite(rewards)
        if not (good.all() and finite.all()):
            self.nonfinite += int(np.count_nonzero(~good) + np.count_nonzero(~finite))
            rewards = np.where(good, rewards, 0.0)
        truncated = self._cut(ended, infos)
        _, reached = blanked(new_obs)
        trains = finite & good & (reached | ended)
        written["actions"][step] = taken.reshape(written["actions"].shape[1:])
        written["values"][step], written["log_probs"][step] = values.cpu().numpy(), log_probs.cpu().numpy()
        written["rewards"][step] = rewards
        written["terminated"][step], written["truncated"][step] = ended & ~truncated, truncated
        if truncated.any():
            trains &= self._value_timeouts(buffer, step, np.flatnonzero(truncated), infos)
        written["trains"][step] = trains
        model.num_timesteps += env.num_envs
        model._last_obs = cast(Any, new_obs)
        model._last_episode_starts = ended | (is_first & ~finite)  # an episode begins with its first valid step
        callback.update_locals({
            "self": model, "env": env, "callback": callback, "rollout_buffer": buffer, "n_steps": step,
            "n_rollout_steps": buffer.num_steps, "obs_tensor": shown, "actions": actions, "clipped_actions": sent,
            "values": values, "log_probs": log_probs, "new_obs": new_obs, "rewards": rewards, "dones": ended,
            "infos": infos,
        })  # fmt: skip
        goes_on = callback.on_step()
        if goes_on:
            model._update_info_buffer(infos, ended)
        return goes_on

    @staticmethod
    def _cut(ended: Flags, infos: list[dict[str, Any]]) -> Flags:
        """[B] whose episodes were cut by time, with the observation that they reached."""
        cut = np.zeros(len(ended), np.bool_)
        for stream in np.flatnonzero(ended):
            told = infos[stream]
            cut[stream] = bool(told.get("TimeLimit.truncated")) and "terminal_observation" in told
        return cut

    def _flags(self, is_first: Flags, is_valid: Flags | None) -> SequenceFlags:
        """One step [1, B] as a policy is told it."""
        first = torch.from_numpy(is_first[None]).to(self.device)
        valid = None if is_valid is None else torch.from_numpy(is_valid[None]).to(self.device)
        return SequenceFlags(first, valid, self.phase)

    def _value_timeouts(
        self, buffer: ChunkBuffer, step: int, streams: NDArray[np.int64], infos: list[dict[str, Any]]
    ) -> Flags:
        """Values the last observations of cut episodes, all streams at once; returns [B] which of them are finite."""
        seen = [infos[stream]["terminal_observation"] for stream in streams]
        last = {key: np.stack([row[key] for row in seen]) for key in seen[0]} if isinstance(seen[0], dict) else seen
        last, fine = blanked(last if isinstance(last, dict) else np.stack(last))
        index = torch.from_numpy(streams).to(buffer.device)
        values = self._follow(_tensors(last, buffer.device), self.memory.rows(index), np.zeros(len(streams), np.bool_))
        buffer.host["bootstrap_values"][step, streams] = values.cpu().numpy()
        known = np.ones(self.num_envs, np.bool_)
        known[streams] = fine
        self.nonfinite += int(np.count_nonzero(~fine))
        return known

    def _bootstrap(self, model: FastRecurrentPPO, buffer: ChunkBuffer) -> None:
        """Fills in what each step led to: the next step's value, the last observation's at the end."""
        last, _ = blanked(model._last_obs)
        assert model._last_episode_starts is not None
        values = self._follow(_tensors(last, buffer.device), self.memory, model._last_episode_starts)
        lived, written = buffer.num_steps, buffer.host
        following = np.concatenate((written["values"][1:lived], values.cpu().numpy()[None]))
        np.copyto(written["bootstrap_values"][:lived], following, where=~written["truncated"][:lived])

    def _follow(self, observation: Any, memory: Memory, is_first: Flags) -> Tensor:
        flags = self._flags(np.asarray(is_first, np.bool_), None)
        with one_thread_each() if self.policy.runs_on_two_cores else nullcontext():
            return self.policy.values_after(observation, memory, flags)

    def _to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Box actions as the environment takes them: unsquashed, or clipped."""
        space = self.policy.action_space
        if not isinstance(space, spaces.Box):
            return actions
        if self.policy.squash_output:
            unscaled: NDArray[Any] = self.policy.unscale_action(actions)
            return unscaled
        clipped: NDArray[Any] = np.clip(actions, space.low, space.high)
        return clipped


def _tensors(observation: Any, device: torch.device) -> Any:
    if isinstance(observation, dict):
        return {key: torch.as_tensor(leaf).to(device) for key, leaf in observation.items()}
    return torch.as_tensor(observation).to(device)
