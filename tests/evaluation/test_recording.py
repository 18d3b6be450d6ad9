from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from nl_agents import envs
from nl_agents.envs import AugmentObservation, to_sb3
from nl_agents.errors import ConfigError
from nl_agents.evaluation import Lifetime, find_visits, run_episodes, run_lifetime, sb3_lives
from nl_agents.evaluation.lifetime import ARRAYS
from nl_agents.sb3 import history_env
from nl_agents.seeding import spawn
from nl_agents.tasks import Cyclic
from tests.evaluation.lives import simulated_life
from tests.evaluation.runs import write_run


def lean(observation: Any) -> np.ndarray:
    """Pushes to the side the pole falls: right on the standard task."""
    return (observation[:, 2] + 0.3 * observation[:, 3] > 0).astype(np.int64)


def push_right(observation: Any) -> np.ndarray:
    """Falls within a dozen steps, so that a short life has many episodes."""
    return np.ones(len(observation), np.int64)


class Predicts:
    """Has predict as Stable-Baselines3 does; counts what it is handed."""

    def __init__(self) -> None:
        self.starts = 0
        self.states: list[Any] = []
        self.deterministic: list[bool] = []

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[Any, Any]:
        self.starts += int(episode_start.sum())
        self.states.append(state)
        self.deterministic.append(deterministic)
        return lean(observation), (state or 0) + 1


class PredictsFromReward(Predicts):
    """Has our agents' predict, which is also handed the reward."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards = 0.0

    def predict(  # type: ignore[override]
        self, observation: Any, state: Any, episode_start: Any, deterministic: bool, reward: Any = None
    ) -> tuple[Any, Any]:
        self.rewards += float(np.sum(reward))
        return super().predict(observation, state, episode_start, deterministic)


def test_a_function_lives_through_a_sequence() -> None:
    life = run_lifetime(lean, "cartpole-flip:quick", 40_000, seed=3, learn=False, num_envs=8)
    assert life.num_envs == 8
    assert 40_000 <= life.steps < 40_008
    assert np.array_equal(life.returns, life.length)  # CartPole pays one a step
    assert np.array_equal(life.step - life.begin, life.length * 8)  # all streams step together
    visits = find_visits(life)
    whole = visits.of_episode >= 0
    mean = {name: life.returns[whole & (life.task == index)].mean() for index, name in enumerate(life.task_names)}
    assert mean["standard"] > 5 * mean["flipped"]  # the same push fails where it is reversed


def test_episodes_follow_each_other_without_a_gap_on_every_stream() -> None:
    sequence = envs.make_sequence("cartpole-flip", num_envs=5, seed=0, schedule=Cyclic(every=5003))
    life = run_lifetime(lean, sequence, 20_000, learn=False)
    for stream in range(5):
        mine = life.stream == stream
        assert life.begin[mine][0] == 0
        assert np.array_equal(life.begin[mine][1:], life.step[mine][:-1])


def test_equal_seeds_give_equal_lives() -> None:
    first, again, other = (
        run_lifetime(push_right, "cartpole-flip", 2000, seed=seed, learn=False, num_envs=4) for seed in (1, 1, 2)
    )
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.step, other.step)


@pytest.mark.parametrize("kind", [Predicts, PredictsFromReward])
def test_a_model_is_handed_its_state_and_the_starts(kind: type[Predicts]) -> None:
    model = kind()
    life = run_lifetime(model, "cartpole-flip", 4000, learn=False, num_envs=4, deterministic=True)
    assert model.states[0] is None
    assert model.states[1:] == list(range(1, len(model.states)))
    assert model.starts == pytest.approx(4 + len(life), abs=4)  # the ends of the very last step are never handed on
    assert all(model.deterministic)
    if isinstance(model, PredictsFromReward):
        assert model.rewards == 4.0 * (len(model.states) - 1)


def test_a_stable_baselines3_model_lives_without_learning() -> None:
    from stable_baselines3 import PPO

    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu")
    before = [weight.detach().clone() for weight in model.policy.parameters()]
    life = run_lifetime(model, "cartpole-flip", 3000, learn=False, num_envs=4)
    assert len(life) > 20
    assert life.meta["agent"] == "PPO"
    assert all(bool((old == new).all()) for old, new in zip(before, model.policy.parameters(), strict=True))


def test_a_stable_baselines3_model_lives_and_learns() -> None:
    from stable_baselines3 import PPO

    sequence = envs.make_sequence("cartpole-flip", num_envs=4, seed=0)
    model = PPO("MlpPolicy", envs.to_sb3(sequence), n_steps=32, batch_size=64, n_epochs=1, device="cpu")
    before = [weight.detach().clone() for weight in model.policy.parameters()]
    life = run_lifetime(model, sequence, 1000, seed=1)
    assert 1000 <= life.steps < 1000 + 4 * 32
    assert np.array_equal(life.returns, life.length)
    assert life.length.sum() <= life.steps
    assert not all(bool((old == new).all()) for old, new in zip(before, model.policy.parameters(), strict=True))


VIEWS: dict[str, Any] = {
    "last action and reward": lambda sequence: to_sb3(AugmentObservation(sequence)),
    "window": lambda sequence: history_env(to_sb3(sequence), 4),
    "normalised": lambda sequence: VecNormalize(to_sb3(sequence)),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("learn", [True, False])
def test_models_that_see_a_sequence_through_wrappers_live_on_it(view: str, learn: bool) -> None:
    """Returns are the sequence's own: CartPole's are the lengths of its episodes, whatever the model is shown."""
    seen = VIEWS[view](envs.make_sequence("cartpole-flip", num_envs=4))
    policy = "MultiInputPolicy" if view.startswith("last") else "MlpPolicy"
    model = PPO(policy, seen, n_steps=16, batch_size=32, device="cpu", seed=1)
    life = run_lifetime(model, seen, 1000, seed=1, learn=learn)
    assert len(life.returns) > 5 and life.steps >= 1000
    np.testing.assert_array_equal(life.returns, life.length)
    assert sb3_lives.innermost(seen).vector_env.unwrapped.get_state()["seed"] == spawn(1, "sequence")
    if learn and view == "normalised":
        assert seen.obs_rms.count > 900


def test_a_model_that_sees_something_else_is_told_how_to_be_measured() -> None:
    seen = history_env(to_sb3(envs.make_sequence("cartpole-flip", num_envs=4)), 4)
    model = PPO("MlpPolicy", seen, n_steps=16, batch_size=32, device="cpu")
    for learn in (True, False):
        with pytest.raises(ConfigError, match="give the VecEnv as the model was trained on it"):
            run_lifetime(model, "cartpole-flip", 1000, learn=learn, num_envs=4)
    normalised = VecNormalize(to_sb3(envs.make_sequence("cartpole-flip", num_envs=4)))
    model = PPO("MlpPolicy", normalised, n_steps=16, batch_size=32, device="cpu")
    with pytest.raises(ConfigError, match="the model normalises what it sees"):
        run_lifetime(model, envs.make_sequence("cartpole-flip", num_envs=4), 1000)
    with pytest.raises(ConfigError, match=r"made by nl_agents\.envs\.to_sb3"):
        run_lifetime(model, DummyVecEnv([lambda: gym.make("CartPole-v1")]), 1000)


def test_one_of_our_agents_lives_and_learns() -> None:
    from nl_agents import agents

    sequence = envs.make_sequence("cartpole-flip", num_envs=4, seed=0)
    agent = agents.make("ppo", sequence, seed=0, device="cpu")
    life = run_lifetime(agent, sequence, 2000)
    assert life.meta["agent"] == "ppo"
    assert life.steps == agent.num_timesteps >= 2000
    assert np.array_equal(life.returns, life.length)
    assert 0.7 * life.steps < life.length.sum() <= life.steps  # what is missing was still running at the end
    again = run_lifetime(agent, envs.make_sequence("cartpole-flip", num_envs=4), 1000, learn=False)
    assert len(again) > 5
    assert agent.num_timesteps == life.steps


def test_run_episodes_takes_equally_many_from_every_stream() -> None:
    sequence = envs.SUITES["cartpole-flip"].task_env("flipped", num_envs=4, seed=0)
    episodes = run_episodes(push_right, sequence, 10)
    assert len(episodes) == 10
    assert sorted(episode.stream for episode in episodes) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert {episode.task for episode in episodes} == {"flipped"}
    with pytest.raises(ConfigError, match="episodes must be an integer >= 1"):
        run_episodes(push_right, sequence, 0)


class WritesARun:
    """Learns as our agents do: leaves a run folder behind."""

    name = "writes-a-run"

    def __init__(self, env: Any, life: Lifetime) -> None:
        self.env, self.life = env, life

    def learn(self, total_timesteps: int, run_dir: Path | None = None) -> None:
        assert run_dir is not None
        write_run(run_dir, self.life, agent=self.name, planned=total_timesteps)


def test_a_learning_agent_leaves_its_life() -> None:
    sequence = envs.make_sequence("cartpole-flip", num_envs=4, seed=0)
    life = simulated_life()
    found = run_lifetime(WritesARun(sequence, life), sequence, life.steps)
    np.testing.assert_array_equal(found.step, life.step)
    assert found.meta["agent"] == "writes-a-run"
    assert "run_dir" not in found.meta


def test_an_agent_bound_to_another_sequence_is_refused() -> None:
    sequence, other = (envs.make_sequence("cartpole-flip", num_envs=4, seed=seed) for seed in (0, 1))
    with pytest.raises(ConfigError, match="live on the sequence that they were made with"):
        run_lifetime(WritesARun(sequence, simulated_life()), other, 1000)


def test_bad_subjects_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs a subject with a learn method, got function"):
        run_lifetime(lean, "cartpole-flip", 1000)
    with pytest.raises(ConfigError, match="or a function from observations to actions, got int"):
        run_lifetime(3, "cartpole-flip", 1000, learn=False)
    with pytest.raises(ConfigError, match="steps must be an integer >= 1"):
        run_lifetime(lean, "cartpole-flip", 0, learn=False)


def test_the_record_of_a_run_is_plain_csv(tmp_path: Path) -> None:
    write_run(tmp_path / "run", simulated_life())
    with (tmp_path / "run" / "episodes.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["step", "stream", "task", "return", "length", "begin"]
