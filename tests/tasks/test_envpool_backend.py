"""EnvPool against Python MiniGrid, and its pools against stale episodes."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from nl_agents.tasks import Blocks, Constant, Task, TaskSequence
from nl_agents.tasks.backend import Backend
from nl_agents.tasks.envpool_backend import EnvPoolBackend
from nl_agents.tasks.python_backend import PythonBackend

pytest.importorskip("envpool")
minigrid_view = pytest.importorskip("nl_agents.envs.minigrid_view")

SPACES = (minigrid_view.OBSERVATION_SPACE, minigrid_view.ACTION_SPACE)
NOTHING = 6  # the action that changes nothing


def pools(*names: str, num_envs: int = 4) -> EnvPoolBackend:
    return EnvPoolBackend([f"MiniGrid-{name}-v0" for name in names], num_envs, *SPACES)


def python(*names: str, num_envs: int = 4) -> PythonBackend:
    make = minigrid_view.make_minigrid
    return PythonBackend([Task(name, make, {"env_id": f"MiniGrid-{name}-v0"}) for name in names], num_envs)


def life(backend: Backend, **options: str) -> TaskSequence:
    return TaskSequence(backend, ["only"], Constant(), **options)


@pytest.mark.parametrize("autoreset", ["next-step", "same-step"])
def test_envpool_and_python_give_the_same_transitions(autoreset: str) -> None:
    one, other = life(pools("Empty-5x5"), autoreset=autoreset), life(python("Empty-5x5"), autoreset=autoreset)
    assert one.single_observation_space == other.single_observation_space
    first, second = one.reset(seed=0)[0], other.reset(seed=0)[0]
    random, ended = np.random.default_rng(0), 0
    for _ in range(400):
        for key in ("image", "direction"):
            assert first[key].dtype == second[key].dtype
            np.testing.assert_array_equal(first[key], second[key])
        actions = random.choice(7, size=4, p=[0.15, 0.15, 0.5, 0.05, 0.05, 0.05, 0.05])
        first, *outcome, info = one.step(actions)
        second, *expected, expected_info = other.step(actions)
        for got, wanted in zip(outcome, expected, strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_allclose(got, wanted, rtol=1e-6)  # EnvPool's rewards are float32
        assert info.keys() == expected_info.keys()
        ended += int((outcome[1] | outcome[2]).sum())
    assert ended > 20 and one.clock == other.clock


def test_the_goal_on_the_very_last_step_is_the_one_known_difference() -> None:
    """EnvPool lets the time limit hide a termination on the same step; MiniGrid reports both."""
    outcomes = []
    for backend in (pools("Empty-5x5", num_envs=1), python("Empty-5x5", num_envs=1)):
        sequence = life(backend)
        sequence.reset(seed=0)
        for action in [NOTHING] * 95 + [2, 2, 1, 2, 2]:
            _, reward, terminated, truncated, _ = sequence.step([action])
        outcomes.append((round(float(reward[0]), 6), bool(terminated[0]), bool(truncated[0])))
    assert outcomes == [(0.1, False, True), (0.1, True, True)]


def test_a_pool_that_is_entered_again_begins_anew() -> None:
    """Doing nothing, every episode lasts exactly its task's limit; a stale one would be cut short."""
    limits = {"Empty-Random-6x6": 144, "LavaGapS5": 100, "DoorKey-5x5": 250}
    for autoreset in ("next-step", "same-step"):
        blocks = [(0, 700), (1, 900), (2, 1100)]
        sequence = TaskSequence(pools(*limits), list(limits), Blocks(blocks, cycles=2), autoreset=autoreset)
        sequence.reset(seed=0)
        lengths, found, waiting = np.zeros(4, int), [], np.zeros(4, bool)
        while sequence.clock < 6000:
            _, _, terminated, truncated, _ = sequence.step(np.full(4, NOTHING))
            lengths += ~waiting
            assert not terminated.any()
            for stream in truncated.nonzero()[0]:
                found.append((sequence.task_names[sequence.stream_tasks[stream]], lengths[stream]))
            lengths[truncated] = 0
            waiting = truncated & (autoreset == "next-step")
        assert {name for name, _ in found} == set(limits)
        assert all(limits[name] == length for name, length in found), found


def test_streams_of_two_tasks_run_side_by_side() -> None:
    """Streams that die in lava at different times enter the new task at different times."""
    backend = pools("LavaGapS5", "DoorKey-5x5", num_envs=8)
    sequence = TaskSequence(backend, ["lava", "door"], Blocks([(0, 300), (1, 900)]))
    sequence.reset(seed=3)
    random, mixed = np.random.default_rng(1), 0
    for _ in range(150):
        seen, *_ = sequence.step(random.integers(0, 3, 8))
        tasks = sequence.stream_tasks
        if len(set(tasks.tolist())) == 2:
            mixed += 1
            assert not (seen["image"][tasks == 1, :, :, 0] == 9).any()  # no lava where the door is
    entered = [at for at, _, name in sequence.effective_log if name == "door"]
    assert mixed > 3 and len(entered) == 8 and min(entered) >= 300 and len(set(entered)) > 1


def test_life_is_fixed_by_its_seed() -> None:
    def trace(seed: int) -> np.ndarray:
        sequence = life(pools("DoorKey-5x5"))
        random = np.random.default_rng(0)
        images = [sequence.reset(seed=seed)[0]["image"]]
        return np.array(images + [sequence.step(random.integers(0, 7, 4))[0]["image"] for _ in range(300)])

    assert (trace(1) == trace(1)).all() and (trace(1) != trace(2)).any()


def test_what_was_handed_out_is_never_written_to() -> None:
    sequence = life(pools("LavaGapS5"), autoreset="same-step")
    kept = [sequence.reset(seed=0)[0]["image"]]
    copies = [kept[0].copy()]
    for _ in range(100):
        kept.append(sequence.step(np.full(4, 2))[0]["image"])
        copies.append(kept[-1].copy())
    assert all((one == other).all() for one, other in zip(kept, copies, strict=True))


def test_it_says_that_it_cannot_save() -> None:
    backend = pools("Empty-5x5")
    assert not backend.exact_state and not backend.switches_in_episode
    for call in (backend.get_state, lambda: backend.set_state({}), lambda: backend.set_tasks(np.zeros(4, int))):
        with pytest.raises(NotImplementedError, match=r"recreate|next-reset"):
            call()
    assert isinstance(backend.single_observation_space, spaces.Dict)
