"""POPGym is optional: a clear error without it, lives of one task with it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium import spaces

from nl_agents import envs
from nl_agents.envs import popgym_tasks
from nl_agents.errors import UnknownNameError


def test_without_popgym_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(popgym_tasks, "popgym_is_installed", lambda: False)
    with pytest.raises(ModuleNotFoundError, match="'CountRecallEasy' needs POPGym: pip install popgym"):
        envs.make_popgym("CountRecallEasy")
    with pytest.raises(UnknownNameError, match="did you mean 'CountRecallEasy'"):
        envs.make_popgym("CountRecalEasy")


@pytest.mark.skipif(not popgym_tasks.popgym_is_installed(), reason="POPGym is optional")
@pytest.mark.parametrize("kind", popgym_tasks.KINDS)
def test_with_popgym_every_task_lives(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # POPGym's own
        sequence = envs.make_popgym(f"{kind}Easy", num_envs=3, seed=1)
        seen, _ = sequence.reset()
        assert isinstance(sequence.single_observation_space, spaces.Discrete | spaces.Box)
        for _ in range(150):
            assert sequence.observation_space.contains(seen)
            seen, reward, *_ = sequence.step(sequence.action_space.sample())
            assert np.isfinite(reward).all()
    assert sequence.task_log == [(0, f"{kind}Easy")] and not sequence.exact_state
