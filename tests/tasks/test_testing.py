"""The counting env counts."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from nl_agents.tasks.testing import CountingEnv


def test_it_says_episode_step_and_seed() -> None:
    env = CountingEnv(lengths=(2, 1), truncate=True)
    assert env.reset(seed=1030)[0].tolist() == [0, 0, 6]
    assert [env.step(0)[0].tolist(), env.step(0)[3]] == [[0, 1, 6], True]
    assert env.reset()[0].tolist() == [1, 0, 6]
    assert env.step(0)[1:4] == (0.001, False, True)
    check_env(CountingEnv(), skip_render_check=True)


def test_it_fails_when_told_to() -> None:
    env = CountingEnv(nan_at=1, crash_at=2)
    env.reset(seed=0)
    seen, reward, *_ = env.step(0)
    assert np.isnan(seen).all() and np.isnan(reward)
    with pytest.raises(RuntimeError, match="told to crash"):
        env.step(0)
