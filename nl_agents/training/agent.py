"""An agent: policy, inner learner, meta-controller and the streams it lives in, behind SB3's verbs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from nl_agents.config import AgentConfig, from_dict, to_dict
from nl_agents.errors import CheckpointError, ConfigError, StateMismatchError
from nl_agents.learning import InnerLearner, LevelScheduler, ReplayBuffer, ScaleKeeper
from nl_agents.memory import make_codec, make_core
from nl_agents.memory.registry import core_class
from nl_agents.policies import ActionSpec, MemoryPolicy, ObservationCodec, PermanentTransientPolicy, input_size
from nl_agents.seeding import generator, spawn
from nl_agents.training.actor import Actor
from nl_agents.training.build import core_options, make_optimizer, parameter_levels, resolve_device
from nl_agents.training.checkpoint import load_file, save_file
from nl_agents.training.experts import Experts
from nl_agents.training.life import Life
from nl_agents.training.nest import Nest, make_nest
from nl_agents.training.predictor import AgentState, Predictor
from nl_agents.training.serving import Serving
from nl_agents.training.spaces import space_from_json, space_to_json
from nl_agents.training.steering import Steering
from nl_agents.training.upkeep import make_upkeep
from nl_agents.types import LevelInfo, format_levels


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
        needs_boundary: the agent listens to ``info["task_changed"]`` (a privileged control): it resets itself there,
            or, with ``upkeep.ewc``, files what it has learnt.
        needs_task_id: the agent keeps a learner for every task that ``info["task_id"]`` names (a privileged control).

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
        needs_task_id: bool = False,
    ) -> None:
        config.check()
        self.name, self.config, self.seed, self.env = name, config, seed, env
        self.device = resolve_device(device)
        self.needs_boundary, self.needs_task_id = needs_boundary, needs_task_id
        if env is not None:
            spaces = (env.single_observation_space, env.single_action_space)
        if spaces is None:
            raise ConfigError("an agent needs an env, or the observation and action space of one; got neither")
        self.spaces = spaces
        self.lives = 0  # which learner: fresh starts within the life (reset-at-switch), or the task (expert)
        self.build()
        self.actor: Actor | None = None
        if env is not None:
            acting = torch.Generator(self.device).manual_seed(spawn(seed, "acting"))
            self.actor = Actor(env, self.policy, config.ppo.num_steps, acting)
        self.experts = Experts(self) if needs_task_id else None

    def build(self) -> None:
        """Makes policy, optimizer, learner and controller anew from seed and ``lives``."""
        config, seed = self.config, spawn(self.seed, "life", self.lives)
        codec, actions = ObservationCodec(self.spaces[0], config.memory.grid), ActionSpec(self.spaces[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spawn(seed, "weights"))
            memory = config.memory
            size = input_size(codec, actions, memory.inputs) if core_class(memory.core).direct else memory.width
            core = make_core(memory.core, input_size=size, width=memory.width, **core_options(config, actions))
            kind = PermanentTransientPolicy if config.upkeep.permanent_every > 0 else MemoryPolicy
            self.policy = kind(codec, actions, core, memory.inputs, config.ppo.prediction > 0.0)
            if config.uniform:
                torch.nn.init.zeros_(self.policy.actor.weight)
        self.policy.to(self.device)
        self.scheduler = LevelScheduler(parameter_levels(self.policy), config.ppo.max_grad_norm)
        self.optimizer = make_optimizer(self.scheduler, config)
        replay = None
        if config.replay.ratio > 0.0:
            form = config.replay.state_codec
            kept = None if form == "float32" else make_codec(form, core)
            replay = ReplayBuffer(config.replay.recent, config.replay.reservoir, generator(seed, "replay"), kept)
        order = torch.Generator().manual_seed(spawn(seed, "order"))
        upkeep = make_upkeep(config, self.policy, self.optimizer, seed)
        self.learner = InnerLearner(self.policy, self.optimizer, self.scheduler, config, replay, order, upkeep)
        self.scales = ScaleKeeper(self.policy)
        self._predictor = Predictor(self.policy, self.spaces[0], spawn(seed, "predict"))
        self.steering: Steering | None = None
        if config.control.enabled:
            self.steering = Steering(config, self.scheduler, self.optimizer, self.learner, spawn(seed, "control"))

    def keep_at_switch(self) -> bool:
        """Tells upkeep of a switch; whether one of its parts meets it, so that the learner goes on."""
        return any([part.at_switch() for part in self.learner.upkeep])  # all are told

    def renew(self) -> None:
        """Starts the learner over (weights, optimizer, replay, memory), for agents that are told of a task switch."""
        self.begin_life(self.lives + 1)

    def begin_life(self, number: int) -> None:
        """Puts a newborn learner in force; ``number`` tells newborn ones apart."""
        self.lives = number
        self.build()
        if self.actor is not None:
            self.actor.policy = self.policy
            self.actor.state = self.policy.core.initial_state(self.actor.env.num_envs, self.device)

    def enter_task(self, task: int) -> None:
        """Lets ``predict`` answer for a task of the sequence that it lived in; for evaluation.

        Only agents with a learner for every task (``expert``) change: a task that was never lived gets a newborn one.
        All others do not know tasks.

        Args:
            task: index in the sequence's ``task_names``.
        """
        if self.experts is not None:
            self.experts.take_up(task)

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
        if total_timesteps < 1:
            raise ValueError(f"total_timesteps must be >= 1 env steps, got {total_timesteps}")
        life = Life(self, run_dir, run_info, target=self.num_timesteps + total_timesteps)
        life.run(progress_bar=progress_bar, callback=callback)
        return self

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
        return self._predictor(observation, state, episode_start, deterministic, reward)

    def memory_state(self, stream: int | None = None) -> AgentState:
        """The live lifelong memory of all streams (or of one); hand it to ``predict`` to continue it."""
        if self.actor is None:
            raise StateMismatchError("this agent has no streams: it was loaded without env; use predict(state=None)")
        packed = self.policy.core.pack(self.actor.state).cpu().numpy()
        state = AgentState(packed, self.actor.last_action.cpu().numpy())
        return (
            state if stream is None else AgentState(packed[stream : stream + 1], state.last_action[stream : stream + 1])
        )

    def serve(self, codec: str = "float32", without: Sequence[str] = ()) -> Serving:
        """Returns a frozen copy that only acts: memory kept in a codec's form, chosen levels only.

        Args:
            codec: float32, bf16, int8 or low-rank:4 (``nl_agents.memory.CODECS``).
            without: names of levels (``levels()``) to leave out.

        Raises:
            UnknownNameError: no such codec or level.
            ConfigError: a codec that cannot work on this core, a level that cannot be left out.
        """
        return Serving(self.policy, self.spaces[0], spawn(self.seed, "serve"), codec, without)

    def levels(self) -> Levels:
        """The nest: what learns, from what, on which objective, how often."""
        rows = [row for row in self.policy.core.levels() if row.unit == "env step"]
        rows += self.scheduler.infos()
        if self.steering is not None:
            rows += self.steering.levels()
        return Levels(rows)

    def nest(self) -> Nest:
        """The whole nest, fastest first: every level of memory, learner, optimizer and controller, with its numbers."""
        return make_nest(self)

    def state_dict(self) -> dict[str, Any]:
        """The whole agent with its streams, for an exact resume."""
        return {
            "lives": self.lives,
            **self.learner_state(),
            "steering": None if self.steering is None else self.steering.state_dict(),
            "actor": None if self.actor is None else self.actor.state_dict(),
            "experts": None if self.experts is None else self.experts.state_dict(),
        }

    def learner_state(self) -> dict[str, Any]:
        """Policy, optimizer, learner and scales."""
        return {
            "policy": dict(self.policy.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "learner": self.learner.state_dict(),
            "scales": self.scales.state_dict(),
        }

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Takes up what ``learner_state`` gave."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.learner.load_state_dict(state["learner"])
        self.scales.load_state_dict(state["scales"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        if int(state["lives"]) != self.lives:
            self.lives = int(state["lives"])
            self.build()
            if self.actor is not None:
                self.actor.policy = self.policy
        self.load_learner_state(state)
        if self.experts is not None and state["experts"] is not None:
            self.experts.load_state_dict(state["experts"])
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
    """Reads what ``Agent.save`` wrote, config and spaces rebuilt.

    Raises:
        CheckpointError: the file is corrupt, of another version, or holds no agent.
    """
    tree = load_file(path)
    if not isinstance(tree, dict) or tree.get("kind") != "agent":
        raise CheckpointError(f"{path} holds no agent: expected a file that Agent.save wrote")
    tree["config"] = from_dict(AgentConfig, tree["config"])
    tree["spaces"] = (space_from_json(tree["observation_space"]), space_from_json(tree["action_space"]))
    return tree
