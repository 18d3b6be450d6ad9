"""Last action and last reward beside the observation."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from nl_agents.tasks import AugmentObservation, Constant, Task, TaskSequence
from nl_agents.tasks.python_backend import PythonBackend
from nl_agents.tasks.testing import CountingEnv


def build(autoreset: str = "next-step") -> AugmentObservation:
    backend = PythonBackend([Task("a", CountingEnv)], 2)
    return AugmentObservation(TaskSequence(backend, ["a"], Constant(), autoreset=autoreset))


def test_both_carry_over_the_end_of_an_episode() -> None:
    env = build()
    seen, _ = env.reset(seed=0)
    assert seen["last_action"].tolist() == [0, 0] and seen["last_reward"].tolist() == [[0], [0]]
    for action in (1, 0, 1):
        seen, *_ = env.step(np.array([action, 0]))
        assert seen["last_action"].tolist() == [action, 0]
    assert seen["obs"][0, :2].tolist() == [0, 3]
    seen, *_ = env.step(np.array([0, 1]))  # begins an episode: this action was never taken
    assert seen["obs"][0, :2].tolist() == [1, 0]
    assert seen["last_action"].tolist() == [1, 0]
    assert seen["last_reward"][:, 0].tolist() == pytest.approx([0.003, 0.003])
    assert env.observation_space.contains(seen)
    seen, _ = env.reset()
    assert seen["last_action"].tolist() == [1, 0]  # the same life
    seen, _ = env.reset(seed=1)
    assert seen["last_action"].tolist() == [0, 0] and not seen["last_reward"].any()


def test_same_step_augments_the_final_observation_too() -> None:
    env = build("same-step")
    env.reset()
    for _ in range(3):
        seen, *_, info = env.step(np.array([1, 0]))
    final = info["final_obs"][0]
    assert final["obs"][:2].tolist() == [0, 3] and seen["obs"][0, :2].tolist() == [1, 0]
    assert final["last_action"] == seen["last_action"][0] == 1
    assert final["last_reward"] == seen["last_reward"][0] == np.float32(0.003)
    assert env.single_observation_space.contains(final)


def test_a_dict_keeps_its_keys() -> None:
    class Dictionary(CountingEnv):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Dict({"count": self.observation_space})

        def _observation(self):
            return {"count": super()._observation()}

    env = AugmentObservation(TaskSequence(PythonBackend([Task("a", Dictionary)], 1), ["a"], Constant()))
    assert set(env.single_observation_space) == {"count", "last_action", "last_reward"}
    assert set(env.reset()[0]) == {"count", "last_action", "last_reward"}
    with pytest.raises(ValueError, match="already has last_action, last_reward"):
        AugmentObservation(env)


def test_other_action_spaces_are_refused() -> None:
    class Two(CountingEnv):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.MultiBinary(2)

    with pytest.raises(ValueError, match="Discrete, MultiDiscrete or Box action, got MultiBinary"):
        AugmentObservation(TaskSequence(PythonBackend([Task("a", Two)], 1), ["a"], Constant()))
