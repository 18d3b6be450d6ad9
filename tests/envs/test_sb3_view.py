"""Sequences inside Stable-Baselines3."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from nl_agents import envs
from nl_agents.envs.same_step import SameStep
from nl_agents.envs.sb3_vec_env import flatten_batch
from nl_agents.tasks import Constant, Cyclic, Task
from nl_agents.tasks.testing import CountingEnv

RUNNABLE = [name for name, suite in envs.SUITES.items() if suite.runs_here]

sb3 = pytest.importorskip("stable_baselines3")


def counting(**options: object) -> envs.TaskSequence:
    tasks = [Task("a", CountingEnv, options), Task("b", CountingEnv, {**options, "reward": 1})]
    return envs.make_sequence(tasks, schedule=Cyclic(8), num_envs=2)


@pytest.mark.parametrize("truncate", [False, True])
def test_ends_are_told_as_sb3_expects(truncate: bool) -> None:
    view = envs.to_sb3(counting(truncate=truncate))
    assert view.reset()[:, :2].tolist() == [[0, 0], [0, 0]]
    for step in (1, 2, 3):
        seen, reward, ended, infos = view.step(np.zeros(2, int))
        assert ended.tolist() == [step == 3] * 2 and reward.dtype == np.float32
        assert all(info["TimeLimit.truncated"] == (truncate and step == 3) for info in infos)
        assert all(("terminal_observation" in info) == (step == 3) for info in infos)
    assert seen[:, :2].tolist() == [[1, 0], [1, 0]]
    assert [info["terminal_observation"][:2].tolist() for info in infos] == [[0, 3], [0, 3]]
    assert all(set(info) == {"TimeLimit.truncated", "terminal_observation"} for info in infos)  # and no more: hidden


def test_a_seed_starts_a_life_and_reset_goes_on_with_it() -> None:
    view = envs.to_sb3(counting())
    view.seed(3)
    first = view.reset()
    for _ in range(5):
        view.step(np.zeros(2, int))
    assert view.get_attr("clock") == [10, 10] and view.get_attr("task_log", 0) == [[(0, "a"), (8, "b")]]
    view.reset()
    assert view.get_attr("clock", [1]) == [10]
    view.seed(3)
    np.testing.assert_array_equal(view.reset(), first)
    assert view.get_attr("clock")[0] == 0
    view.set_attr("note", "kept")
    assert view.get_attr("note", 0) == ["kept"] and view.env_is_wrapped(gym.Wrapper) == [False, False]
    assert view.env_method("get_state", indices=0)[0]["num_envs"] == 2
    view.close()


def test_augmented_streams_never_miss_an_action() -> None:
    view = envs.to_sb3(envs.AugmentObservation(counting()))
    view.reset()
    for step in range(1, 20):
        actions = np.array([step % 2, 1 - step % 2])
        seen, reward, ended, infos = view.step(actions)
        assert seen["last_action"].tolist() == actions.tolist()
        np.testing.assert_array_equal(seen["last_reward"][:, 0], reward)
        for stream in ended.nonzero()[0]:
            assert infos[stream]["terminal_observation"]["last_action"] == actions[stream]


def test_flat_observations_hold_everything_once() -> None:
    sequence = envs.SUITES["minigrid-recurring"].task_env("LavaGapS5", num_envs=3, backend="python")
    space = sequence.single_observation_space
    view = envs.to_sb3(sequence, flatten=True)
    flat = view.reset()
    assert view.observation_space.shape == (151,) and flat.dtype == np.float32
    for _ in range(120):
        flat, _, ended, infos = view.step(np.full(3, 6))
        rows = gym.vector.utils.iterate(sequence.observation_space, sequence.backend.observations())
        expected = [gym.spaces.flatten(space, row) for row in rows]
        np.testing.assert_array_equal(flat, np.array(expected, np.float32))
        assert view.observation_space.contains(flat[0])
        if ended[0]:
            assert infos[0]["terminal_observation"].shape == (151,)
    with pytest.raises(ValueError, match="can be flattened, got Text"):
        flatten_batch(gym.spaces.Text(3), None)


def test_other_vector_envs_need_same_step_autoreset_or_partial_resets() -> None:
    builders = [lambda: gym.make("CartPole-v1")] * 2
    for env in (
        gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point"),
        gym.wrappers.vector.RecordEpisodeStatistics(SyncVectorEnv(builders)),
    ):
        with pytest.raises(ValueError, match=r"expects same-step autoreset.*AutoresetMode\.SAME_STEP.*SameStep under"):
            envs.to_sb3(env)
    view = envs.to_sb3(SyncVectorEnv(builders, autoreset_mode=AutoresetMode.SAME_STEP))
    view.reset()
    while not view.step(np.ones(2, int))[2].any():
        pass
    assert view.num_envs == 2
    with pytest.raises(ValueError, match="SameStep goes around the environment itself, got the wrapper RecordEpisode"):
        SameStep(gym.wrappers.vector.RecordEpisodeStatistics(SyncVectorEnv(builders)))


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_a_late_reset_is_taken_at_once(mode: AutoresetMode, truncate: bool) -> None:
    builders = [lambda lengths=lengths: CountingEnv(lengths=lengths, truncate=truncate) for lengths in ((2, 3), (3,))]
    late, at_once = (
        envs.to_sb3(SyncVectorEnv(builders, autoreset_mode=kind)) for kind in (mode, AutoresetMode.SAME_STEP)
    )
    np.testing.assert_array_equal(late.reset(), at_once.reset())
    for _ in range(20):
        one, other = late.step(np.zeros(2, int)), at_once.step(np.zeros(2, int))
        for mine, theirs in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for mine, theirs in zip(one[3], other[3], strict=True):
            assert mine["TimeLimit.truncated"] == theirs["TimeLimit.truncated"]
            np.testing.assert_array_equal(mine.get("terminal_observation"), theirs.get("terminal_observation"))


@pytest.mark.filterwarnings("ignore:.*precision lowered by casting")
def test_envpool_tells_its_timeouts() -> None:
    envpool = pytest.importorskip("envpool")
    view = envs.to_sb3(envpool.make_gymnasium("CartPole-v1", num_envs=3, seed=1, max_episode_steps=6))
    seen = view.reset()
    for step in range(1, 20):
        before, (seen, rewards, ended, infos) = seen, view.step(np.full(3, step % 2))
        assert ended.tolist() == [step % 6 == 0] * 3 and rewards.tolist() == [1.0] * 3, "there is no dummy step"
        assert [info["TimeLimit.truncated"] for info in infos] == ended.tolist()
        for stream in np.flatnonzero(ended):
            moved = before[stream, 0] + 0.02 * before[stream, 1]
            assert infos[stream]["terminal_observation"][0] == pytest.approx(moved, abs=1e-6)
            assert np.abs(seen[stream]).max() <= 0.05, "the next episode has begun"


@pytest.mark.parametrize("name", RUNNABLE)
def test_sb3_finds_nothing_wrong_with_one_stream(name: str) -> None:
    from stable_baselines3.common.env_checker import check_env

    env = envs.make(name)
    if isinstance(env.observation_space, gym.spaces.Dict):
        with pytest.warns(UserWarning, match="minimal resolution for an image"):  # SB3's own CNN wants 36 x 36
            check_env(env, skip_render_check=True)
        env = gym.wrappers.FlattenObservation(env)  # as to_sb3(flatten=True) shows it
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("kind", ["plain", "augmented", "flat"])
def test_ppo_runs_and_all_its_streams_share_one_clock(kind: str) -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecMonitor

    name = "minigrid-recurring" if kind == "flat" else "cartpole-flip"
    sequence = envs.make_sequence(name, num_envs=4)
    view = envs.to_sb3(envs.AugmentObservation(sequence) if kind == "augmented" else sequence, flatten=kind == "flat")
    policy = "MultiInputPolicy" if kind == "augmented" else "MlpPolicy"
    model = PPO(policy, VecMonitor(view), n_steps=32, batch_size=64, n_epochs=1, seed=1, device="cpu").learn(256)
    assert sequence.clock == model.num_timesteps == 256
    assert sequence.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_constant_is_a_schedule_too() -> None:
    view = envs.to_sb3(envs.make_sequence("cartpole-flip", num_envs=2, schedule=Constant(1)))
    view.reset()
    assert view.get_attr("task_log")[0] == [(0, "flipped")]
