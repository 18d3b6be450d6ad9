"""An agent behind SB3's verbs: learn, predict, save, load; and the table of its levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy

import nl_agents
from nl_agents import agents, envs
from nl_agents.errors import CheckpointError, ConfigError, SpaceNotSupportedError, StateMismatchError
from nl_agents.tasks import TaskSequence
from nl_agents.training import Agent, AgentState, resume
from nl_agents.training.build import resolve_device
from nl_agents.training.checkpoint import save_file
from tests.training.small import small_config

SEQUENCES = ["cartpole-flip:demo", "minigrid-recurring:demo"]


def world(sequence: str = SEQUENCES[0], num_envs: int = 4) -> TaskSequence:
    return envs.make_sequence(sequence, num_envs=num_envs, seed=3)


def newborn(sequence: str = SEQUENCES[0], core: str = "hope", seed: int = 5) -> Agent:
    config = small_config()
    config.memory.core = core
    return agents.make("hope", world(sequence), seed=seed, device="cpu", config=config)


def same_weights(one: Agent, other: Agent) -> bool:
    theirs = other.policy.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.policy.state_dict().items())


# ----------------------------------------------------------------------- learn


def test_learning_twice_goes_on_with_one_life() -> None:
    whole, parts = newborn().learn(384), newborn()
    assert parts.learn(192) is parts
    parts.learn(384 - parts.num_timesteps)
    assert parts.num_timesteps == whole.num_timesteps >= 384
    assert same_weights(whole, parts)


def test_the_same_seed_gives_the_same_life_and_another_seed_another() -> None:
    one, two, other = newborn().learn(128), newborn().learn(128), newborn(seed=6).learn(128)
    assert same_weights(one, two) and not same_weights(one, other)


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
def test_a_continuum_memory_learns_with_its_slow_levels_on_their_own_periods(variant: Any) -> None:
    config = small_config()
    config.memory.core, config.memory.cms_variant, config.memory.cms_periods = "cms", variant, (4, 8)
    config.memory.slow_periods = (2, 4096)
    agent = agents.make("hope", world(), seed=5, device="cpu", config=config)
    before = {name: value.clone() for name, value in agent.policy.core.named_parameters()}
    agent.learn(192)
    moved = {name for name, value in agent.policy.core.named_parameters() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[0] for name in moved} >= {"fast.0", "fast.1.out", "slow.0.down"}
    assert not any(name.startswith("slow.1") for name in moved), "its period has not passed"
    rows = {row.name: (row.period, row.unit) for row in agent.levels()}
    assert rows["core.fast.1"] == (8, "env step") and rows["core.slow.0"] == (2, "learner update")


def test_the_callback_sees_every_update_and_may_stop() -> None:
    seen: list[int] = []

    def until_three(agent: Agent) -> bool | None:
        seen.append(agent.num_timesteps)
        return False if len(seen) == 3 else None

    agent = newborn().learn(10_000, callback=until_three)
    assert len(seen) == 3 and seen == sorted(set(seen)) and agent.num_timesteps == seen[-1] < 200


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="total_timesteps must be >= 1 env steps, got 0"):
        newborn().learn(0)
    with pytest.raises(ConfigError, match="needs an env, or the observation and action space of one; got neither"):
        Agent("hope", None, small_config())
    with pytest.raises(ConfigError, match="unknown device 'gpu'; give auto, cpu, cuda"):
        agents.make("hope", world(), device="gpu")
    config = small_config()
    config.ppo.num_steps = 0
    with pytest.raises(ConfigError, match=r"ppo.num_steps must be >= 1, got 0"):
        agents.make("hope", world(), config=config)
    with pytest.raises(SpaceNotSupportedError, match="no policy head"):
        Agent("hope", None, small_config(), spaces=(spaces.Box(-1, 1, (2,)), spaces.MultiBinary((2, 2))))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="'cuda:0' asked for, but torch sees no CUDA device; give --device cpu"):
        resolve_device("cuda:0")
    assert resolve_device("auto") == torch.device("cpu")


# --------------------------------------------------------------------- predict


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_sb3_evaluates_our_agents(sequence: str) -> None:
    agent = newborn(sequence)
    view = envs.to_sb3(world(sequence, num_envs=2))
    returns, lengths = evaluate_policy(
        agent,  # type: ignore[arg-type]
        view,
        n_eval_episodes=3,
        deterministic=False,
        return_episode_rewards=True,
        warn=False,
    )
    assert isinstance(returns, list) and isinstance(lengths, list)
    assert len(returns) == 3 and min(lengths) >= 1


def observations(sequence: str, count: int) -> list[Any]:
    env = world(sequence)
    seen = [env.reset(seed=1)[0]]
    for _ in range(count - 1):
        seen.append(env.step(np.zeros(4, np.int64))[0])
    return seen


def row(observation: Any, stream: int) -> Any:
    if isinstance(observation, dict):
        return {key: value[stream] for key, value in observation.items()}
    return observation[stream]


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("core", ["hope", "cms", "lstm", "feed-forward"])
def test_one_observation_is_a_batch_of_one(sequence: str, core: str) -> None:
    agent, seen = newborn(sequence, core), observations(sequence, 6)
    batch_state: AgentState | None = None
    single_state: AgentState | None = None
    for observation in seen:
        actions, batch_state = agent.predict(observation, batch_state)
        action, single_state = agent.predict(row(observation, 2), single_state)
        assert actions.shape == (4,) and action.shape == () and action == actions[2]
        np.testing.assert_allclose(single_state.memory[0], batch_state.memory[2], atol=1e-5)
        assert np.array_equal(single_state.last_action[0], batch_state.last_action[2])


def test_memory_is_carried_and_an_episode_start_clears_its_half() -> None:
    agent, seen = newborn(), observations(SEQUENCES[0], 9)
    state: AgentState | None = None
    for observation in seen:
        _, state = agent.predict(observation, state, reward=np.ones(4, np.float32))
    assert state is not None and np.abs(state.memory).sum() > 0
    _, going_on = agent.predict(seen[0], state)
    _, restarted = agent.predict(seen[0], state, episode_start=np.array([True, False, False, False]))
    _, newborn_state = agent.predict(seen[0], None)
    assert not np.array_equal(going_on.memory[0], restarted.memory[0])
    assert not np.array_equal(newborn_state.memory[0], restarted.memory[0])  # heads of scope "never" went on
    np.testing.assert_allclose(going_on.memory[1:], restarted.memory[1:], atol=1e-6)


def test_the_reward_is_seen() -> None:
    agent, (observation, *_) = newborn(), observations(SEQUENCES[0], 1)
    memories = [agent.predict(observation, None, reward=reward)[1].memory for reward in (None, 0.0, 1.0)]
    assert np.array_equal(memories[0], memories[1]) and not np.array_equal(memories[0], memories[2])


def test_predicting_disturbs_no_life() -> None:
    quiet, asked = newborn(), newborn()
    for agent in (quiet, asked):
        agent.learn(64)
    for observation in observations(SEQUENCES[0], 3):
        asked.predict(observation, asked.memory_state(), deterministic=False)
    assert same_weights(quiet.learn(64), asked.learn(64))


def test_predict_continues_the_live_memory_of_a_stream() -> None:
    agent = newborn().learn(128)
    everyone, one = agent.memory_state(), agent.memory_state(stream=2)
    assert everyone.memory.shape == (4, agent.policy.core.state_size) and one.memory.shape[0] == 1
    assert np.array_equal(one.memory[0], everyone.memory[2])
    (observation,) = observations(SEQUENCES[0], 1)
    _, after = agent.predict(row(observation, 2), one)
    _, fresh = agent.predict(row(observation, 2), None)
    assert not np.array_equal(after.memory, fresh.memory)


def test_a_broken_observation_leaves_the_memory_alone() -> None:
    agent, seen = newborn(core="lstm"), observations(SEQUENCES[0], 2)
    _, state = agent.predict(seen[0], None)
    broken = seen[1].copy()
    broken[1, 0] = np.nan
    actions, after = agent.predict(broken, state)
    assert np.isfinite(after.memory).all() and actions.shape == (4,)
    assert np.array_equal(after.memory[1], state.memory[1]) and not np.array_equal(after.memory[0], state.memory[0])


def test_a_state_of_other_streams_is_refused() -> None:
    agent, (observation,) = newborn(), observations(SEQUENCES[0], 1)
    _, state = agent.predict(observation, None)
    with pytest.raises(StateMismatchError, match="the state holds 4 streams and the observation 1"):
        agent.predict(row(observation, 0), state)
    with pytest.raises(StateMismatchError, match="expects packed states"):
        agent.predict(observation, AgentState(state.memory[:, 1:], state.last_action))


class Steered(gym.Env[Any, Any]):
    """Continuous actions: the reward is how near they lie to 0.3."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Box(-0.5, 0.5, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 5
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        self.left -= 1
        return np.zeros(2, np.float32), -float(np.square(action - 0.3).sum()), False, self.left == 0, {}


def test_continuous_actions_are_lived_with() -> None:
    env = gym.vector.SyncVectorEnv([Steered] * 3)
    agent = agents.make("hope", env, device="cpu", config=small_config()).learn(100)
    action, _ = agent.predict(np.zeros(2, np.float32), deterministic=False)
    assert action in Steered.action_space and int(agent.optimizer.refused_steps) == 0


class Matched(gym.Env[Any, Any]):
    """Two dials to turn to what three lamps and a number say; every space that comes in several numbers."""

    observation_space = gym.spaces.Dict(
        lamps=gym.spaces.MultiBinary(2), shown=gym.spaces.MultiDiscrete([3, 2], start=[1, 0])
    )
    action_space: gym.Space[Any] = gym.spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 20
        return self._seen(), {}

    def _seen(self) -> dict[str, Any]:
        self.wanted = self.np_random.integers(0, [3, 2])
        lamps = np.array([self.wanted[1], 1 - self.wanted[1]], np.int8)
        return {"lamps": lamps, "shown": self.wanted + np.array([1, 0])}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        self.left -= 1
        reward = float(np.mean(np.asarray(action) == self.wanted[: len(action)]))
        return self._seen(), reward, self.left == 0, False, {}


class Switched(Matched):
    """The same with two switches."""

    action_space = gym.spaces.MultiBinary(2)


@pytest.mark.parametrize("world", [Matched, Switched])
def test_spaces_of_several_numbers_are_lived_with_and_come_back(world: Any, tmp_path: Path) -> None:
    env = gym.vector.SyncVectorEnv([world] * 4)
    agent = agents.make("hope", env, seed=1, device="cpu", config=small_config()).learn(200)
    again = agents.load(agent.save(tmp_path / "agent"), device="cpu")
    seen, _ = env.reset(seed=3)
    action, _ = agent.predict(seen)
    assert action in env.action_space
    np.testing.assert_array_equal(action, again.predict(seen)[0])
    single = {key: value[0] for key, value in seen.items()}
    assert agent.predict(single, deterministic=False)[0] in env.single_action_space


@pytest.mark.slow
def test_dials_are_learnt() -> None:
    config = agents.config("ppo")
    config.optimizer.lr = 3e-3
    env = gym.vector.SyncVectorEnv([Matched] * 8)
    agent = agents.make("ppo", env, seed=1, device="cpu", config=config)
    agent.learn(30_000)
    seen, _ = env.reset(seed=3)
    assert np.mean(agent.predict(seen)[0] == seen["shown"] - np.array([1, 0])) > 0.9


# -------------------------------------------------------------- save and load


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_loaded_agent_acts_alike(sequence: str, tmp_path: Path) -> None:
    agent, seen = newborn(sequence).learn(128), observations(sequence, 4)
    loaded = nl_agents.load(agent.save(tmp_path / "agent.zip"), device="cpu")
    assert same_weights(agent, loaded) and loaded.config == agent.config and loaded.spaces == agent.spaces
    mine: AgentState | None = agent.memory_state()
    theirs = mine
    for observation in seen:
        (one, mine), (other, theirs) = agent.predict(observation, mine), loaded.predict(observation, theirs)
        assert np.array_equal(one, other) and np.array_equal(mine.memory, theirs.memory)
    with pytest.raises(StateMismatchError, match="loaded without env"):
        loaded.memory_state()


def test_a_loaded_agent_goes_on_living_with_its_memory(tmp_path: Path) -> None:
    agent = newborn().learn(128)
    path = agent.save(tmp_path / "agent.zip")
    loaded = nl_agents.load(path, env=world(), device="cpu")
    assert loaded.num_timesteps == agent.num_timesteps
    assert np.array_equal(loaded.memory_state().memory, agent.memory_state().memory)
    loaded.learn(64)
    assert loaded.num_timesteps > agent.num_timesteps and not same_weights(loaded, agent)
    fewer = nl_agents.load(path, env=world(num_envs=2), device="cpu")  # other streams: newborn memories
    assert np.abs(fewer.memory_state().memory).sum() == 0 and same_weights(fewer, agent)
    fewer.learn(32)


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    path = newborn().save(tmp_path / "agent.zip")
    with pytest.raises(ConfigError, match=r"the agent was built for space .*, the environment has"):
        nl_agents.load(path, env=world(SEQUENCES[1]))
    with pytest.raises(CheckpointError, match="holds no agent: expected a file that"):
        nl_agents.load(save_file(tmp_path / "other.zip", {"kind": "something"}))
    with pytest.raises(CheckpointError, match=r"missing\.zip"):
        nl_agents.load(tmp_path / "missing.zip")


# ------------------------------------------------------------------------ CUDA


@pytest.mark.gpu
@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("name", ["hope", "rl2"])
def test_a_short_life_on_cuda(name: str, sequence: str, tmp_path: Path) -> None:
    options = {"num_envs": 4, "seed": 3}
    info = {"sequence": sequence, "sequence_options": options}
    agent = agents.make(name, world(sequence), seed=5, device="cuda", config=small_config(name))
    agent.learn(300, run_dir=tmp_path / "run", run_info=info)
    assert agent.policy.mean.is_cuda and int(agent.optimizer.refused_steps) == 0
    assert all(parameter.isfinite().all() for parameter in agent.policy.parameters())
    moved, (observation,) = nl_agents.load(agent.save(tmp_path / "agent.zip"), device="cpu"), observations(sequence, 1)
    one, other = (it.predict(observation, agent.memory_state())[1].memory for it in (agent, moved))
    np.testing.assert_allclose(one, other, atol=1e-3)
    again = resume(tmp_path / "run", steps=500)
    assert again.num_timesteps >= 500 and again.device.type == "cuda"


# ---------------------------------------------------------------------- levels


def test_the_nest_is_a_printable_table() -> None:
    levels = newborn().levels()
    text = str(levels)
    assert [row.unit for row in levels] == ["env step"] * 3 + ["learner update"] * 3 + ["decision epoch"]
    assert [row.period for row in levels if row.unit == "learner update"] == [1, 4, 16]
    assert len(text.splitlines()) == len(levels) + 2
    for level in levels:
        assert level.name in text and level.objective in text
