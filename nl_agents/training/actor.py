"""The actor: lives in a vector environment and fills rollouts. Changes memory state, never a parameter."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from nl_agents.errors import ConfigError, EnvironmentCrashedError, NlAgentsError
from nl_agents.learning import Rollout, allocate
from nl_agents.policies import MemoryPolicy, PolicyInput
from nl_agents.training.books import Books

Flags = NDArray[np.bool_]


class _Timeout(NamedTuple):
    """Truncations of one step, whose final observations are valued after the rollout."""

    t: int
    streams: Tensor
    given: PolicyInput
    state: Any
    phase: int


class HostBlocks(NamedTuple):
    """The blocks of a rollout that the environment fills, as host arrays; on CPU they are the rollout's own memory."""

    rows: NDArray[Any]
    last_reward: NDArray[np.float32]
    is_first: Flags
    is_valid: Flags
    trains: Flags
    rewards: NDArray[np.float32]
    terminated: Flags
    truncated: Flags

    @classmethod
    def of(cls, rollout: Rollout) -> HostBlocks:
        """Shares memory with a rollout on CPU; else makes staging arrays."""
        return cls(*(getattr(rollout, name).cpu().numpy() for name in cls._fields))

    def upload(self, rollout: Rollout) -> None:
        """Brings the staged blocks to the rollout's device in one go; nothing to do on CPU."""
        if rollout.rows.device.type != "cpu":
            for name, block in zip(self._fields, self, strict=True):
                getattr(rollout, name).copy_(torch.from_numpy(block))


class Actor:
    """Runs the policy on all streams and keeps what belongs to them: observations, memory, running episodes.

    Both of gymnasium's autoreset modes become the same [T, B] blocks. In NEXT_STEP mode the step after an episode's end
    is a dummy: ``is_valid`` False, no reward, no memory write. A timeout bootstraps from its final observation in both:
    it is kept with the memory at that time, and valued after the rollout.

    A non-finite observation is never shown to the policy: that step counts as invalid, and the one that led to it
    enters no loss; a non-finite reward counts as 0 in the books and enters no loss. Both are counted in ``nonfinite``.

    Args:
        env: vector environment; if it, or what it wraps, has ``task_names`` and ``stream_tasks``, episodes carry their
            task's name.
        policy: acts; on any device.
        num_steps: T of a rollout.
        generator: randomness of actions, on the policy's device.

    Raises:
        ConfigError: the env has autoreset disabled.
    """

    def __init__(
        self, env: gym.vector.VectorEnv[Any, Any, Any], policy: MemoryPolicy, num_steps: int, generator: torch.Generator
    ) -> None:
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if mode == AutoresetMode.DISABLED:
            raise ConfigError("the vector env has autoreset disabled; build it with NEXT_STEP or SAME_STEP autoreset")
        self.env, self.policy, self.generator = env, policy, generator
        self.same_step = mode == AutoresetMode.SAME_STEP
        self.device = policy.mean.device
        streams, codec = env.num_envs, policy.codec
        self.rollout = allocate(num_steps, streams, codec, policy.actions, policy.core.state_size, self.device)
        self.host = HostBlocks.of(self.rollout)
        shown = self.rollout.inputs()
        self.shown = [PolicyInput(*(block[t : t + 1] for block in shown)) for t in range(num_steps)]
        self.rows: NDArray[Any] = np.zeros((streams, codec.row_size), torch.zeros(0, dtype=codec.dtype).numpy().dtype)
        self.finite: Flags = np.ones(streams, np.bool_)
        self.is_first: Flags = np.ones(streams, np.bool_)
        self.dummy: Flags = np.zeros(streams, np.bool_)
        self.last_action = torch.zeros(streams, policy.actions.size, device=self.device)
        self.last_reward: NDArray[np.float32] = np.zeros(streams, np.float32)
        self.state = policy.core.initial_state(streams, self.device)
        self.clock = 0  # vector steps so far
        self.nonfinite = 0
        self.books = Books(env)
        self.started = False
        self.told: Flags = np.zeros(streams, np.bool_)  # streams told of the switch that is under way
        self.notice = False
        self.task: NDArray[np.int64] | None = None  # of every stream, where the environment tells it
        self.tasks: NDArray[np.int64] = np.full((num_steps, streams), -1, np.int64)  # of every step of the rollout

    def take_notice(self) -> bool:
        """Whether ``info["task_changed"]`` told of a new switch since the last call (streams may switch one by one)."""
        notice, self.notice = self.notice, False
        return notice

    def _listen(self, changed: Flags) -> None:
        if (changed & self.told).any() or (changed.any() and not self.told.any()):
            self.notice, self.told = True, changed.copy()
        else:
            self.told |= changed
        if self.told.all():
            self.told[:] = False

    def restart(self, seed: int | None = None) -> None:
        """Resets the env; running episodes leave the books, memory goes on (its episode levels clear)."""
        observation, info = self._guarded(self.env.reset, seed=seed)
        self._take(observation)
        if "task_changed" in info:
            self._listen(info["task_changed"])
        self._note_task(info)
        self.is_first[:], self.dummy[:] = True, False
        self.books.cut()
        self.started = True

    @torch.inference_mode()
    def collect(self) -> tuple[Rollout, int]:
        """Lives T vector steps.

        Returns:
            The rollout (the same preallocated blocks every time) and the core's step clock at its first step.
        """
        if not self.started:
            self.restart()
        rollout, start = self.rollout, self._phase()
        rollout.state.copy_(self.policy.core.pack(self.state))
        timeouts: list[_Timeout] = []
        for t in range(rollout.rows.shape[0]):
            self._step(t, timeouts)
        self.host.upload(rollout)
        rollout.log_probs.copy_(self.policy.actions.log_prob(rollout.parameters, rollout.actions))
        scale = self.policy.return_scale
        last, _ = self.policy(self._given(), self.state, self._phase())
        rollout.values.mul_(scale)
        rollout.bootstrap_values[:-1] = rollout.values[1:]
        rollout.bootstrap_values[-1] = last.values[0] * scale
        for timeout in timeouts:
            output, _ = self.policy(timeout.given, timeout.state, timeout.phase)
            rollout.bootstrap_values[timeout.t, timeout.streams] = output.values[0] * scale
        return rollout, start

    def _act(self, t: int) -> tuple[Tensor, Flags]:
        """Chooses actions [B, ...] and writes down on what grounds; also says which streams' steps are valid."""
        rollout, host = self.rollout, self.host
        valid = ~self.dummy & self.finite
        host.rows[t], host.last_reward[t], host.is_first[t] = self.rows, self.last_reward, self.is_first
        host.is_valid[t] = valid
        rollout.last_action[t] = self.last_action
        given = self.shown[t] if rollout.rows.is_cpu else self._given()  # on CPU the rollout holds it already
        output, self.state = self.policy.act(given, self.state, self._phase())
        parameters = output.parameters[0]
        actions = self.policy.actions.sample(parameters, self.generator)
        rollout.actions[t], rollout.parameters[t], rollout.values[t] = actions, parameters, output.values[0]
        return actions, valid

    def _step(self, t: int, timeouts: list[_Timeout]) -> None:
        """One vector step: acts, steps the env, and brings both autoreset modes to one form."""
        host, spec = self.host, self.policy.actions
        actions, valid = self._act(t)
        if self.task is not None:
            self.tasks[t] = self.task
        result = self._guarded(self.env.step, spec.to_env(actions))
        observation, reward, terminated, truncated, info = result
        reward = np.asarray(reward, np.float32)
        lived, good = ~self.dummy, np.isfinite(reward)
        if not good.all():
            self.nonfinite += int(np.count_nonzero(~good & lived))
            reward = np.where(good, reward, np.float32(0.0))
        features = spec.features(actions)
        if self.dummy.any():
            reward = np.where(lived, reward, np.float32(0.0))
            terminated, truncated = terminated & lived, truncated & lived
            self.last_action = torch.where(self._tensor(lived).unsqueeze(1), features, self.last_action)
            self.last_reward = np.where(lived, reward, self.last_reward)
        else:
            self.last_action, self.last_reward = features, reward
        truncated = truncated & ~terminated
        ended = terminated | truncated
        self.clock += 1
        if "task_changed" in info:
            self._listen(info["task_changed"])
        self._note_task(info)
        self.books.add(reward, lived, ended)
        trains = valid & good
        self._take(observation)
        cut = np.flatnonzero(truncated)
        if self.same_step:
            if cut.size:
                rows, fine = self._final_rows(info["final_obs"], cut)
                trains[cut] &= fine
                self._keep_timeouts(t, cut, rows, timeouts)
            self.is_first = ended | (self.is_first & ~valid)
            reached = self.finite | ended
        else:
            if cut.size:
                self._keep_timeouts(t, cut, self.rows[cut], timeouts)
            self.is_first = self.dummy | (self.is_first & ~valid & lived)
            self.dummy = ended
            reached = self.finite | terminated
        host.rewards[t], host.terminated[t], host.truncated[t] = reward, terminated, truncated
        host.trains[t] = trains & reached

    def _note_task(self, info: dict[str, Any]) -> None:
        if "task_id" in info:
            self.task = np.array(info["task_id"], np.int64)

    def _given(self) -> PolicyInput:
        """The policy's input of the coming step [1, B, ...]."""
        arrays = (self.rows, self.last_reward, self.is_first, ~self.dummy & self.finite)
        rows, last_reward, is_first, is_valid = (self._tensor(array).unsqueeze(0) for array in arrays)
        return PolicyInput(rows, self.last_action.unsqueeze(0), last_reward, is_first, is_valid)

    def _final_rows(self, final: Any, streams: NDArray[np.int64]) -> tuple[NDArray[Any], Flags]:
        """Packs SAME_STEP's final observations of some streams; also says which are finite (the others are blanked)."""
        rows = np.zeros((len(streams), self.rows.shape[1]), self.rows.dtype)
        for row, stream in zip(rows, streams, strict=True):
            own = final[stream] if not isinstance(final, dict) else {key: final[key][stream] for key in final}
            self.policy.codec.pack(_batched(own), row[None])
        fine: Flags = np.asarray(np.isfinite(rows).all(axis=1))
        rows[~fine] = 0
        self.nonfinite += int(np.count_nonzero(~fine))
        return rows, fine

    def _keep_timeouts(self, t: int, streams: NDArray[np.int64], rows: NDArray[Any], timeouts: list[_Timeout]) -> None:
        """Files the final observations of truncated streams beside the memory that stood when they were seen."""
        index = torch.from_numpy(streams).to(self.device)
        given = PolicyInput(
            self._tensor(rows).unsqueeze(0),
            self.last_action[index].unsqueeze(0),
            self._tensor(self.last_reward[streams]).unsqueeze(0),
            torch.zeros(1, len(streams), dtype=torch.bool, device=self.device),
            torch.ones(1, len(streams), dtype=torch.bool, device=self.device),
        )
        state = type(self.state)(*(leaf[index] for leaf in self.state))
        timeouts.append(_Timeout(t, index, given, state, self._phase()))

    def _take(self, observation: Any) -> None:
        """Packs an observation; rows that are not finite are blanked and remembered."""
        self.policy.codec.pack(observation, self.rows)
        self.finite = np.ones(len(self.rows), np.bool_)
        if self.rows.dtype.kind == "f" and not np.isfinite(self.rows).all():
            self.finite = np.isfinite(self.rows).all(axis=1)
            self.nonfinite += int(np.count_nonzero(~self.finite))
            self.rows[~self.finite] = 0.0

    def _phase(self) -> int:
        return self.clock % self.policy.core.clock_period

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _guarded(self, call: Any, *arguments: Any, **options: Any) -> Any:
        """Calls the env; what it raises becomes an EnvironmentCrashedError that says when."""
        try:
            return call(*arguments, **options)
        except NlAgentsError:
            raise
        except Exception as error:
            raise EnvironmentCrashedError(
                f"the environment raised {type(error).__name__} at env step {self.books.steps}: {error}; repair it, "
                "then resume from the last checkpoint"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """All that belongs to the streams, for an exact resume."""
        return {
            "rows": self.rows.copy(),
            "finite": self.finite.copy(),
            "is_first": self.is_first.copy(),
            "dummy": self.dummy.copy(),
            "told": self.told.copy(),
            "task": None if self.task is None else self.task.copy(),
            "last_action": self.last_action.clone(),
            "last_reward": self.last_reward.copy(),
            "memory": [leaf.clone() for leaf in self.state],
            "clock": self.clock,
            "nonfinite": self.nonfinite,
            "generator": self.generator.get_state(),
            "books": self.books.state_dict(),
            "started": self.started,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        for name in ("rows", "finite", "is_first", "dummy", "told", "last_reward"):
            setattr(self, name, np.array(state[name]))
        self.task = None if state["task"] is None else np.array(state["task"], np.int64)
        self.last_action = state["last_action"].to(self.device)
        self.state = type(self.state)(
            *(leaf.to(self.device, copy=True) for leaf in state["memory"])
        )  # acting writes it
        self.clock, self.nonfinite = int(state["clock"]), int(state["nonfinite"])
        self.generator.set_state(state["generator"].cpu())
        self.books.load_state_dict(state["books"])
        self.started = bool(state["started"])


def _batched(observation: Any) -> Any:
    """One observation as a batch of one."""
    if isinstance(observation, dict):
        return {key: np.asarray(value)[None] for key, value in observation.items()}
    return np.asarray(observation)[None]
