"""An agent: policy, inner learner, meta-controller and the streams it lives in, behind SB3's verbs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nl_agents.config import AgentConfig, from_dict, to_dict
from nl_agents.errors import ConfigError, StateMismatchError
from nl_agents.learning import InnerLearner, LevelScheduler, ReplayBuffer, ScaleKeeper
from nl_agents.memory import HopeCore, make_core
from nl_agents.memory.continuum import LearnerTimeLevel
from nl_agents.optim import DeepMomentum, GuardedAdamW
from nl_agents.policies import ActionSpec, MemoryPolicy, ObservationCodec, PolicyInput
from nl_agents.seeding import generator, spawn
from nl_agents.training.actor import Actor
from nl_agents.training.checkpoint import load_file, save_file
from nl_agents.training.spaces import space_from_json, space_to_json
from nl_agents.training.steering import Steering
from nl_agents.types import LevelInfo, format_levels


class AgentState(NamedTuple):
    """What ``predict`` carries from step to step: packed memory [B, S] and the features of the last action [B, A]."""

    memory: NDArray[np.float32]
    last_action: NDArray[np.float32]


class Levels(list[LevelInfo]):
    """Rows of the nest; prints as a table."""

    def __str__(self) -> str:
        return format_levels(self)


class Agent:
    """One agent with one life.

    Args:
        name: its name in the registry of agents.
        env: vector environment to live in; None for an agent that only predicts (then give ``spaces``).
        config: all options.
        seed: seed of the whole life but the environment's own.
        device: "auto", "cpu", "cuda", …
        spaces: (observation space, action space) of a single env where ``env`` is None.
        needs_boundary: the agent resets itself where ``info["task_changed"]`` says so (a privileged control).

    Raises:
        ConfigError: an option that cannot work.
        SpaceNotSupportedError: spaces without encoder or head.
    """

    def __init__(
        self,
        name: str,
        env: gym.vector.VectorEnv[Any, Any, Any] | None,
        config: AgentConfig,
        *,
        seed: int = 0,
        device: str = "auto",
        spaces: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
        needs_boundary: bool = False,
    ) -> None:
        config.check()
        self.name, self.config, self.seed, self.env = name, config, seed, env
        self.device = resolve_device(device)
        self.needs_boundary = needs_boundary
        if env is not None:
            spaces = (env.single_observation_space, env.single_action_space)
        if spaces is None:
            raise ConfigError("an agent needs an env, or the observation and action space of one; got neither")
        self.spaces = spaces
        self.lives = 0  # fresh starts of the learner within the life (reset-at-switch)
        self.build()
        self.actor: Actor | None = None
        if env is not None:
            acting = torch.Generator(self.device).manual_seed(spawn(seed, "acting"))
            self.actor = Actor(env, self.policy, config.ppo.num_steps, acting)

    def build(self) -> None:
        """Makes policy, optimizer, learner and controller anew from seed and ``lives``."""
        config, seed = self.config, spawn(self.seed, "life", self.lives)
        codec, actions = ObservationCodec(self.spaces[0]), ActionSpec(self.spaces[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spawn(seed, "weights"))
            core = make_core(
                config.memory.core,
                input_size=config.memory.width,
                width=config.memory.width,
                **core_options(config, actions),
            )
            self.policy = MemoryPolicy(codec, actions, core, config.memory.inputs, config.ppo.prediction > 0.0)
        self.policy.to(self.device)
        self.scheduler = LevelScheduler(parameter_levels(self.policy), config.ppo.max_grad_norm)
        self.optimizer = make_optimizer(self.scheduler, config)
        replay = None
        if config.replay.ratio > 0.0:
            replay = ReplayBuffer(config.replay.recent, config.replay.reservoir, generator(seed, "replay"))
        order = torch.Generator().manual_seed(spawn(seed, "order"))
        self.learner = InnerLearner(self.policy, self.optimizer, self.scheduler, config, replay, order)
        self.scales = ScaleKeeper(self.policy)
        self.steering: Steering | None = None
        if config.control.enabled:
            self.steering = Steering(config, self.scheduler, self.optimizer, self.learner, spawn(seed, "control"))

    def renew(self) -> None:
        """Starts the learner over (weights, optimizer, replay, memory), for agents that are told of a task switch."""
        assert self.actor is not None
        self.lives += 1
        self.build()
        self.actor.policy = self.policy
        self.actor.state = self.policy.core.initial_state(self.actor.env.num_envs, self.device)

    @property
    def num_timesteps(self) -> int:
        """Env steps lived so far over all streams."""
        return 0 if self.actor is None else self.actor.books.steps

    def learn(
        self,
        total_timesteps: int,
        *,
        progress_bar: bool = False,
        callback: Callable[[Agent], bool | None] | None = None,
        run_dir: str | os.PathLike[str] | None = None,
        run_info: dict[str, Any] | None = None,
    ) -> Agent:
        """Lives and learns for ``total_timesteps`` more env steps (rounded up to whole rollouts).

        Calling it again goes on with the same life; nothing is reset.

        Args:
            total_timesteps: env steps over all streams.
            progress_bar: draw one.
            callback: called with the agent after every update; returning False stops.
            run_dir: folder to keep the run in (new or empty); None keeps nothing.
            run_info: more entries for the folder's ``config.json`` (sequence, threads, …).

        Returns:
            Itself.
        """
        from nl_agents.training.life import Life

        if total_timesteps < 1:
            raise ValueError(f"total_timesteps must be >= 1 env steps, got {total_timesteps}")
        life = Life(self, run_dir, run_info, target=self.num_timesteps + total_timesteps)
        life.run(progress_bar=progress_bar, callback=callback)
        return self

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: AgentState | tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
        reward: NDArray[np.float32] | float | None = None,
    ) -> tuple[NDArray[Any], AgentState]:
        """Acts, with SB3's signature and meaning. Memory is written, no parameter is.

        Args:
            observation: one observation or a batch.
            state: what the last call returned; None is a newborn memory.
            episode_start: [B] bool, first step of an episode; None means False, or True with ``state`` None.
            deterministic: the mode of the policy, else a sample.
            reward: [B] reward of the last action; None is fed as 0, and the agent then sees less than in training.

        Returns:
            The actions (one, or a batch) and the state to hand in next.
        """
        single = _is_single(observation, self.spaces[0])
        batch = (
            {key: np.asarray(value)[None] for key, value in observation.items()}
            if (single and isinstance(observation, dict))
            else (np.asarray(observation)[None] if single else observation)
        )
        codec, spec = self.policy.codec, self.policy.actions
        leaf = batch if codec.parts[0].key is None else batch[codec.parts[0].key]
        count = np.asarray(leaf).shape[0]
        rows = torch.zeros(count, codec.row_size, dtype=codec.dtype)
        codec.pack(batch, rows.numpy())
        if state is None:
            memory = self.policy.core.initial_state(count, self.device)
            last_action = torch.zeros(count, spec.size, device=self.device)
            starts = np.ones(count, np.bool_)
        else:
            packed = torch.as_tensor(np.asarray(state[0]), dtype=torch.float32, device=self.device)
            if packed.shape[0] != count:
                raise StateMismatchError(
                    f"the state holds {packed.shape[0]} streams and the observation {count}; hand in the state of "
                    "these streams, or None for newborn ones"
                )
            memory = self.policy.core.unpack(packed)
            last_action = torch.as_tensor(np.asarray(state[1]), dtype=torch.float32, device=self.device)
            starts = np.zeros(count, np.bool_)
        if episode_start is not None:
            starts = np.broadcast_to(np.asarray(episode_start, np.bool_), (count,))
        given = PolicyInput(
            rows.to(self.device).unsqueeze(0),
            last_action.unsqueeze(0),
            torch.as_tensor(np.broadcast_to(0.0 if reward is None else reward, (count,)).astype(np.float32))
            .to(self.device)
            .unsqueeze(0),
            torch.from_numpy(starts.copy()).to(self.device).unsqueeze(0),
            torch.ones(1, count, dtype=torch.bool, device=self.device),
        )
        output, memory = self.policy(given, memory)
        chosen = spec.sample(output.parameters[0], None if deterministic else self._sampling())
        actions = spec.to_env(chosen)
        carried = AgentState(self.policy.core.pack(memory).cpu().numpy(), spec.features(chosen).cpu().numpy())
        return (actions[0] if single else actions), carried

    def _sampling(self) -> torch.Generator:
        if self.actor is not None:
            return self.actor.generator
        if not hasattr(self, "_own_generator"):
            self._own_generator = torch.Generator(self.device).manual_seed(spawn(self.seed, "predict"))
        return self._own_generator

    def memory_state(self, stream: int | None = None) -> AgentState:
        """The live lifelong memory of all streams (or of one); hand it to ``predict`` to continue it."""
        if self.actor is None:
            raise StateMismatchError("this agent has no streams: it was loaded without env; use predict(state=None)")
        packed = self.policy.core.pack(self.actor.state).cpu().numpy()
        state = AgentState(packed, self.actor.last_action.cpu().numpy())
        return state if stream is None else AgentState(*(leaf[stream : stream + 1] for leaf in state))

    def levels(self) -> Levels:
        """The nest: what learns, from what, on which objective, how often."""
        rows = [row for row in self.policy.core.levels() if row.unit == "env step"]
        rows += self.scheduler.infos()
        if self.steering is not None:
            rows += self.steering.levels()
        return Levels(rows)

    def state_dict(self) -> dict[str, Any]:
        """The whole agent with its streams, for an exact resume."""
        return {
            "lives": self.lives,
            "policy": dict(self.policy.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "learner": self.learner.state_dict(),
            "scales": self.scales.state_dict(),
            "steering": None if self.steering is None else self.steering.state_dict(),
            "actor": None if self.actor is None else self.actor.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        if int(state["lives"]) != self.lives:
            self.lives = int(state["lives"])
            self.build()
            if self.actor is not None:
                self.actor.policy = self.policy
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.learner.load_state_dict(state["learner"])
        self.scales.load_state_dict(state["scales"])
        if self.steering is not None and state["steering"] is not None:
            self.steering.load_state_dict(state["steering"])
        if self.actor is not None and state["actor"] is not None:
            self.actor.load_state_dict(state["actor"])

    def header(self) -> dict[str, Any]:
        """What is needed to build the agent again."""
        return {
            "agent": self.name,
            "seed": self.seed,
            "config": to_dict(self.config),
            "observation_space": space_to_json(self.spaces[0]),
            "action_space": space_to_json(self.spaces[1]),
        }

    def save(self, path: str | os.PathLike[str]) -> str:
        """Saves the agent with its learner, replay and live memory into one file; no pickle inside."""
        return str(save_file(path, {"kind": "agent", **self.header(), "state": self.state_dict()}))


def read_agent_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what ``Agent.save`` wrote, config and spaces rebuilt."""
    tree: dict[str, Any] = load_file(path)
    tree["config"] = from_dict(AgentConfig, tree["config"])
    tree["spaces"] = (space_from_json(tree["observation_space"]), space_from_json(tree["action_space"]))
    return tree


def resolve_device(device: str) -> torch.device:
    """Turns "auto" into cuda where there is one, else cpu."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}; give auto, cpu, cuda or cuda:0") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} asked for, but torch sees no CUDA device; give --device cpu")
    return found


def core_options(config: AgentConfig, actions: ActionSpec) -> dict[str, Any]:
    """The options of the memory config that its core knows."""
    memory = config.memory
    if memory.core == "hope":
        return {
            "action_size": actions.size if memory.inputs == "all" else 0,
            "heads": memory.heads,
            "key_size": memory.key_size,
            "chunk": memory.chunk,
            "level_period": memory.level_period,
            "slow_periods": memory.slow_periods,
        }
    if memory.core == "gated-delta":
        return {"scope": memory.scope, "heads": memory.heads}
    if memory.core == "feed-forward":
        return {}
    return {"scope": memory.scope}


def parameter_levels(policy: MemoryPolicy) -> dict[str, tuple[list[nn.Parameter], int]]:
    """Groups the policy's parameters by the period of the CMS level they belong to."""
    groups: dict[str, tuple[list[nn.Parameter], int]] = {}
    taken: set[int] = set()
    slow = list(policy.core.slow) if isinstance(policy.core, HopeCore) else []
    for index, level in enumerate(slow):
        assert isinstance(level, LearnerTimeLevel)
        own = list(level.parameters())
        taken.update(id(parameter) for parameter in own)
        groups[f"core.slow.{index}"] = (own, level.period)
    rest = [parameter for parameter in policy.parameters() if id(parameter) not in taken]
    return {"weights": (rest, 1), **groups}


def make_optimizer(scheduler: LevelScheduler, config: AgentConfig) -> DeepMomentum | GuardedAdamW:
    """One parameter group a level; both optimizers refuse steps whose gradients are not finite."""
    groups: list[dict[str, Any]] = [
        {"params": level.parameters, "name": level.name, "fresh_only": level.period == 1} for level in scheduler.levels
    ]
    options = {"lr": config.optimizer.lr, "eps": 1e-5, "weight_decay": config.optimizer.weight_decay}
    if config.optimizer.name == "deep-momentum":
        return DeepMomentum(groups, **options)
    return GuardedAdamW([{**group, "fresh_only": True} for group in groups], **options)


def _is_single(observation: Any, space: gym.Space[Any]) -> bool:
    """Whether this is one observation and not a batch."""
    if isinstance(space, gym.spaces.Dict):
        key = next(key for key, leaf in space.spaces.items() if not isinstance(leaf, gym.spaces.Text))
        return np.asarray(observation[key]).ndim == len(space.spaces[key].shape or ())
    return np.asarray(observation).ndim == len(space.shape or ())
