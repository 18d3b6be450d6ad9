"""Windows of steps for algorithms without memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv

from nl_agents import envs
from nl_agents.errors import SpaceNotSupportedError
from nl_agents.memory import CORES
from nl_agents.optim import DeepMomentum
from nl_agents.sb3 import HistoryWrapper, HopeWindowExtractor, VecHistory, history_env
from nl_agents.tasks.testing import CountingEnv
from tests.sb3.small import SMALL_HOPE, Toy

SMALL: dict[str, Any] = {"features_dim": 8, "core_kwargs": SMALL_HOPE}
KWARGS = {"features_extractor_class": HopeWindowExtractor, "features_extractor_kwargs": SMALL, "net_arch": [8]}
LEARNERS = {"buffer_size": 100, "learning_starts": 8, "train_freq": 4, "batch_size": 4}
ALGORITHMS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    A2C: {},
    DQN: LEARNERS,
    SAC: LEARNERS,
    TD3: LEARNERS,
}


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.__name__)
def test_every_algorithm_learns_on_windows(algorithm: Any, tmp_path: Path) -> None:
    space = spaces.Box(-1, 1, (2,), np.float32) if algorithm in (SAC, TD3) else spaces.Discrete(2)
    env = history_env(Toy(space), 4)
    options = {**ALGORITHMS[algorithm], "seed": 0, "device": "cpu"}
    model = algorithm("MlpPolicy", env, **options, policy_kwargs={**KWARGS}).learn(32)
    assert all(bool(value.isfinite().all()) for value in model.policy.state_dict().values())
    model.save(tmp_path / "model")
    seen, _ = env.reset()
    action, _ = model.predict(seen, deterministic=True)
    again, _ = algorithm.load(tmp_path / "model", device="cpu").predict(seen, deterministic=True)
    np.testing.assert_array_equal(action, again)


@pytest.mark.filterwarnings("ignore:Your observation  has an unconventional shape")  # a window is no vector
def test_the_window_shows_what_was_seen_and_what_was_taken() -> None:
    env = HistoryWrapper(CountingEnv(), 3)
    check_env(env, skip_render_check=True)
    size = spaces.flatdim(env.env.observation_space)
    seen, _ = env.reset(seed=0)
    assert seen[:, -1].tolist() == [0, 0, 1] and seen[:, -2].tolist() == [0, 0, 1]
    for clock, action in enumerate((1, 0), start=1):
        raw = seen[-1, :size]
        seen, reward, *_ = env.step(action)
        np.testing.assert_array_equal(seen[-2, :size], raw)
        assert seen[-1, 1] == clock and seen[-1, -3] == reward and seen[-1, -2:].tolist() == [0, 1]
        assert seen[-1, size : size + 2].tolist() == [1 - action, action]


@pytest.mark.parametrize("across", [False, True])
def test_streams_are_shown_as_single_environments_are(across: bool) -> None:
    single = HistoryWrapper(CountingEnv(), 5, across)
    streams = history_env(DummyVecEnv([CountingEnv, CountingEnv]), 5, across_episodes=across)
    assert isinstance(streams, VecHistory)
    expected, _ = single.reset()
    shown = streams.reset()
    for step in range(8):
        np.testing.assert_array_equal(shown, np.stack([expected, expected]))
        expected, reward, terminated, truncated, _ = single.step(step % 2)
        shown, rewards, ended, infos = streams.step(np.full(2, step % 2))
        assert ended.tolist() == [terminated or truncated] * 2 and rewards == pytest.approx([reward] * 2)
        if terminated or truncated:
            np.testing.assert_array_equal(infos[0]["terminal_observation"], expected)
            before, (expected, _) = expected, single.reset()
            assert (expected[-2] == before[-1]).all() == across


def test_bytes_are_shown_alike_alone_and_in_a_dict() -> None:
    alone, within = (HistoryWrapper(Toy(kind=kind), 2) for kind in ("image", "dict"))
    image, _ = alone.reset(seed=0)
    both, _ = within.reset(seed=0)
    size = 36 * 36
    np.testing.assert_array_equal(both[-1, 3 : 3 + size], image[-1, :size])
    assert 0.9 < image[-1, :size].max() <= 1 and both[-1, 1] == within.unwrapped.cue


def test_our_sequences_have_windows() -> None:
    env = history_env(envs.to_sb3(envs.make_sequence("cartpole-flip", num_envs=2, seed=0)), 4, across_episodes=True)
    PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu", policy_kwargs={**KWARGS}).learn(32)


@pytest.mark.parametrize("core", CORES)
def test_rows_that_are_not_there_do_not_count(core: str) -> None:
    torch.manual_seed(0)
    extractor = HopeWindowExtractor(spaces.Box(-np.inf, np.inf, (6, 9), np.float32), 16, core)
    window = torch.randn(3, 6, 9)
    window[..., -2:] = torch.tensor([0.0, 1.0])
    window[:, :2, -1], window[:, 2, -2] = 0.0, 1.0
    one = extractor(window)
    window[:, :2, :-1] = torch.nan
    assert one.shape == (3, 16)
    torch.testing.assert_close(extractor(window), one, atol=1e-6, rtol=1e-5)


def test_deep_optimizer_for_feed_forward_algorithms() -> None:
    kwargs = {**KWARGS, "optimizer_class": DeepMomentum}
    model = PPO("MlpPolicy", history_env(Toy(), 4), n_steps=16, batch_size=16, device="cpu", policy_kwargs=kwargs)
    assert isinstance(model.learn(32).policy.optimizer, DeepMomentum)


def test_wrong_uses_are_told() -> None:
    with pytest.raises(SpaceNotSupportedError, match=r"expects the Box \[K, F\] of history_env.*wrap"):
        PPO("MlpPolicy", Toy(), device="cpu", policy_kwargs={**KWARGS})
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match="steps must be an integer >= 1"):
            history_env("CartPole-v1", wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"observation space .* cannot be flattened"):
        env = Toy()
        env.observation_space = spaces.Sequence(spaces.Discrete(2))  # type: ignore[assignment]
        history_env(env, 3)
