"""cartpole-flip: two tasks that look alike and are not, switched in the middle of episodes, unannounced."""

from __future__ import annotations

import numpy as np
import pytest

from nl_agents import envs
from nl_agents.tasks import Blocks, GeometricHidden, TaskSequence


def switching_at_5(**options: str) -> TaskSequence:
    with pytest.warns(UserWarning, match="less than two full episodes"):
        return envs.make_sequence("cartpole-flip", num_envs=2, schedule=Blocks([(0, 5), (1, 10_000)]), **options)


def test_presets_are_the_published_ones() -> None:
    suite, quick = envs.preset("cartpole-flip")
    assert (quick.steps, quick.num_envs, quick.schedule) == (1_500_000, 16, GeometricHidden(25_000))
    assert suite.presets["quick"] is quick and suite.switch == "in-episode"
    assert suite.tasks == ("standard", "flipped")


def test_a_switch_flips_the_buttons_within_the_episode() -> None:
    sequence = switching_at_5()
    before, _ = sequence.reset(seed=0)
    pushes = []
    for step in range(6):
        action = np.full(2, step % 2)
        seen, _, terminated, truncated, info = sequence.step(action)
        assert not terminated.any() and not truncated.any() and info == {}
        pushes.append(np.sign(seen[:, 1] - before[:, 1]).tolist())
        before = seen
    # 2 streams: the switch at 5 takes effect with the fourth vector step, which begins at clock 6
    assert pushes == [[-1, -1], [1, 1], [-1, -1], [-1, -1], [1, 1], [-1, -1]]
    assert sequence.task_log == [(0, "standard"), (5, "flipped")]
    assert sequence.effective_log[2:] == [(6, 0, "flipped"), (6, 1, "flipped")]


def test_the_task_cannot_be_read_off_the_start_of_an_episode() -> None:
    """Starts are the same numbers under either task: no classifier can beat chance on them."""
    suite = envs.SUITES["cartpole-flip"]
    for seed in range(3):
        starts = [suite.task_env(task, num_envs=32).reset(seed=seed) for task in suite.tasks]
        np.testing.assert_array_equal(starts[0][0], starts[1][0])
        assert starts[0][1] == starts[1][1] == {}


def test_notified_agents_learn_of_the_switch_before_they_act_in_it() -> None:
    sequence = switching_at_5(info="task-id", autoreset="same-step")
    told = [sequence.reset(seed=0)[1]] + [sequence.step(np.array([0, 1]))[4] for _ in range(4)]
    assert [info["task_changed"].tolist() for info in told] == [[False] * 2] * 3 + [[True] * 2] + [[False] * 2]
    assert [info["task_id"].tolist() for info in told] == [[0, 0]] * 3 + [[1, 1]] * 2


def test_only_the_native_backend_exists() -> None:
    with pytest.raises(ValueError, match="native vector backend only, got backend='envpool'; use 'auto'"):
        envs.make_sequence("cartpole-flip", backend="envpool")
