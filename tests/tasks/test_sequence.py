"""The sequence's plumbing, proven on an env whose every observation says where it comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from nl_agents.errors import EnvironmentCrashedError, StateMismatchError
from nl_agents.tasks import Blocks, Constant, Cyclic, GeometricHidden, Schedule, Task, TaskSequence
from nl_agents.tasks.python_backend import PythonBackend
from nl_agents.tasks.testing import CountingEnv

LENGTHS = (3, 5, 2)
TASKS = [Task("left", CountingEnv, {"lengths": LENGTHS}), Task("right", CountingEnv, {"lengths": LENGTHS, "reward": 1})]


def build(schedule: Schedule, num_envs: int = 2, tasks: list[Task] = TASKS, **options: Any) -> TaskSequence:
    return TaskSequence(PythonBackend(tasks, num_envs), [task.name for task in tasks], schedule, **options)


def idle(sequence: TaskSequence) -> np.ndarray:
    return np.zeros(sequence.num_envs, dtype=np.int64)


def test_next_step_gives_every_transition_once_with_a_dummy_between_episodes() -> None:
    sequence = build(Constant(), num_envs=1)
    seen, info = sequence.reset(seed=5)
    assert info == {}
    trace = [tuple(seen[0, :2])]
    ends, rewards, clocks = [], [], []
    for _ in range(9):
        seen, reward, terminated, truncated, info = sequence.step(idle(sequence))
        assert info == {} and not truncated[0]
        trace.append(tuple(seen[0, :2]))
        ends.append(bool(terminated[0]))
        rewards.append(float(reward[0]))
        clocks.append(sequence.clock)
    # episode 0 lasts 3 steps, the fourth call begins episode 1 and counts for nothing
    assert trace == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]
    assert ends == [False, False, True, False, False, False, False, False, True]
    assert rewards == [0.001, 0.002, 0.003, 0.0, 0.001, 0.002, 0.003, 0.004, 0.005]
    assert clocks == [1, 2, 3, 3, 4, 5, 6, 7, 8]
    assert sequence.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_same_step_hands_the_last_observation_over_in_info() -> None:
    sequence = build(Constant(), num_envs=2, autoreset="same-step")
    sequence.reset(seed=5)
    for step in (1, 2, 3):
        seen, _, terminated, _, info = sequence.step(idle(sequence))
        assert ("final_obs" in info) == terminated.any() == (step == 3)
    assert seen[:, :2].tolist() == [[1, 0], [1, 0]]
    assert [row[:2].tolist() for row in info["final_obs"]] == [[0, 3], [0, 3]]
    assert info["_final_obs"].tolist() == [True, True]
    assert sequence.clock == 6
    assert sequence.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def transitions(sequence: TaskSequence, count: int) -> list[list[tuple[Any, ...]]]:
    """Collects the first ``count`` valid transitions of every stream, the dummy steps left out."""
    seen, _ = sequence.reset(seed=1)
    found: list[list[tuple[Any, ...]]] = [[] for _ in range(sequence.num_envs)]
    begins = np.zeros(sequence.num_envs, dtype=bool)
    same_step = sequence.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    while min(map(len, found)) < count:
        before = seen
        seen, reward, terminated, truncated, info = sequence.step(idle(sequence))
        for stream in range(sequence.num_envs):
            if not begins[stream]:
                ended = terminated[stream] or truncated[stream]
                after = info["final_obs"][stream] if same_step and ended else seen[stream]
                found[stream].append((*before[stream], reward[stream], terminated[stream], truncated[stream], *after))
        begins = (terminated | truncated) & (not same_step)
    return [rows[:count] for rows in found]


@pytest.mark.parametrize("truncate", [False, True])
def test_both_autoreset_modes_give_the_same_valid_transitions(truncate: bool) -> None:
    tasks = [Task(name, CountingEnv, {"reward": reward, "truncate": truncate}) for name, reward in (("a", 0), ("b", 1))]
    for schedule, num_envs in ((Constant(), 3), (Cyclic(7), 1), (GeometricHidden(9), 1)):
        modes = ("next-step", "same-step")
        lives = [transitions(build(schedule, num_envs, tasks, autoreset=mode), 60) for mode in modes]
        assert lives[0] == lives[1]


def test_a_switch_waits_for_the_end_of_each_stream_s_episode() -> None:
    sequence = build(Blocks([(0, 7), (1, 1000)]), num_envs=2)
    sequence.reset(seed=0)
    tasks, rewards = [], []
    for _ in range(10):
        _, reward, _, _, _ = sequence.step(idle(sequence))
        tasks.append(sequence.stream_tasks.tolist())
        rewards.append(reward[0])
    # 6 steps are lived when episode 0 ends and the dummy step adds none: the switch at 7 comes due in episode 1
    assert tasks == [[0, 0]] * 9 + [[0, 0]]
    sequence.step(idle(sequence))
    assert sequence.stream_tasks.tolist() == [1, 1]
    assert sequence.task_log == [(0, "left"), (7, "right")]
    assert sequence.effective_log == [(0, 0, "left"), (0, 1, "left"), (16, 0, "right"), (16, 1, "right")]
    assert max(rewards) < 1


def test_stream_tasks_names_the_task_of_the_episode_that_just_ended() -> None:
    sequence = build(Cyclic(3), num_envs=1, autoreset="same-step", info="task-id")
    sequence.reset(seed=0)
    for _ in range(2):
        sequence.step(idle(sequence))
    _, reward, terminated, _, info = sequence.step(idle(sequence))
    assert terminated[0] and reward[0] < 1
    assert sequence.stream_tasks.tolist() == [0]  # the episode that ended
    assert info["task_id"].tolist() == [1]  # the one whose first observation was returned
    assert info["task_changed"].tolist() == [True]
    _, reward, _, _, info = sequence.step(idle(sequence))
    assert reward[0] > 1 and sequence.stream_tasks.tolist() == [1]
    assert info["task_changed"].tolist() == [False]


def test_what_is_told_at_each_level() -> None:
    told: dict[str, list[dict[str, Any]]] = {}
    for level in ("hidden", "notified", "task-id"):
        sequence = build(Cyclic(6), num_envs=2, info=level)
        told[level] = [sequence.reset(seed=0)[1]] + [sequence.step(idle(sequence))[4] for _ in range(5)]
    assert told["hidden"] == [{}] * 6
    assert all(set(info) == {"task_changed"} for info in told["notified"])
    assert [info["task_changed"].tolist() for info in told["notified"]] == [[False] * 2] * 4 + [[True] * 2, [False] * 2]
    assert [info["task_id"].tolist() for info in told["task-id"]] == [[0, 0]] * 4 + [[1, 1]] * 2


@pytest.mark.parametrize("autoreset", ["next-step", "same-step"])
def test_the_clock_ticks_alike_for_any_number_of_streams(autoreset: str) -> None:
    logs = []
    for num_envs in (1, 16, 64):
        sequence = build(GeometricHidden(50), num_envs, autoreset=autoreset)
        sequence.reset(seed=11)
        while sequence.clock < 1000:
            sequence.step(idle(sequence))
        logs.append([entry for entry in sequence.task_log if entry[0] < 1000])
    assert logs[0] == logs[1] == logs[2]
    assert len(logs[0]) > 10


def test_reset_keeps_the_life_and_a_seed_starts_a_new_one() -> None:
    sequence = build(Cyclic(5), num_envs=1)
    sequence.reset(seed=3)
    for _ in range(8):
        sequence.step(idle(sequence))
    clock, log = sequence.clock, list(sequence.task_log)
    seen, _ = sequence.reset()
    assert (sequence.clock, sequence.task_log) == (clock, log)
    assert seen[0, 1] == 0 and sequence.stream_tasks.tolist() == [1]
    sequence.reset(seed=3)
    assert (sequence.clock, sequence.task_log, sequence.stream_tasks.tolist()) == (0, [(0, "left")], [0])
    assert sequence.effective_log == [(0, 0, "left")]


def test_streams_and_seeds_are_told_apart() -> None:
    sequence = build(Constant(), num_envs=3)
    first, again, other = (sequence.reset(seed=seed)[0][:, 2].tolist() for seed in (3, 3, 4))
    assert first == again
    assert len(set(first + other)) == 6


def test_constructor_seed_is_the_first_life() -> None:
    assert (build(Constant(), seed=8).reset()[0] == build(Constant()).reset(seed=8)[0]).all()


@pytest.mark.parametrize("autoreset", ["next-step", "same-step"])
@pytest.mark.parametrize("moment", [0, 3, 4, 11])
def test_a_saved_life_goes_on_exactly(autoreset: str, moment: int) -> None:
    def live(sequence: TaskSequence, steps: int) -> list[Any]:
        rows = []
        for _ in range(steps):
            seen, reward, terminated, truncated, info = sequence.step(idle(sequence))
            tasks = sequence.stream_tasks.tolist()
            rows.append((seen.tolist(), reward.tolist(), terminated.tolist(), truncated.tolist(), repr(info), tasks))
        return rows

    old = build(Cyclic(9), autoreset=autoreset, info="task-id")
    old.reset(seed=2)
    live(old, moment)
    state = old.get_state()
    after = live(old, 30)
    new = build(Cyclic(9), autoreset=autoreset, info="task-id", seed=77)
    new.set_state(state)
    assert live(new, 30) == after
    assert (new.clock, new.task_log, new.effective_log) == (old.clock, old.task_log, old.effective_log)
    assert new.exact_state


def test_a_foreign_state_is_refused() -> None:
    sequence = build(Cyclic(9))
    sequence.reset()
    state = sequence.get_state()
    with pytest.raises(StateMismatchError, match="num_envs 2, this one 3"):
        build(Cyclic(9), num_envs=3).set_state(state)
    with pytest.raises(StateMismatchError, match="has format 99"):
        build(Cyclic(9)).set_state({**state, "format": 99})
    for _ in range(12):
        sequence.step(idle(sequence))
    with pytest.raises(StateMismatchError, match="give the same schedule"):
        build(Cyclic(8)).set_state(sequence.get_state())


class Opaque(CountingEnv):
    """The same env without a way to save it."""

    get_state = property()  # type: ignore[assignment]


def test_envs_without_state_are_recreated_alike_in_both_lives() -> None:
    tasks = [Task("a", Opaque), Task("b", Opaque, {"reward": 1})]
    old = build(Cyclic(9), tasks=tasks)
    assert not old.exact_state
    old.reset(seed=4)
    for _ in range(8):
        old.step(idle(old))
    state = old.get_state()
    assert state["backend"] is None
    old.recreate(3)
    new = build(Cyclic(9), tasks=tasks)
    new.set_state(state)
    with pytest.raises(ResetNeeded):
        new.step(idle(new))
    with pytest.raises(StateMismatchError, match="call recreate"):
        new.reset()
    new.recreate(3)
    before = old.clock
    first, second = old.reset()[0], new.reset()[0]
    assert (first == second).all() and (first[:, 0] == 0).all()
    assert new.clock == old.clock == before
    for _ in range(20):
        for one, other in zip(old.step(idle(old))[:4], new.step(idle(new))[:4], strict=True):
            assert (one == other).all()
    assert old.effective_log == new.effective_log
    seeds = old.reset()[0][:, 2].tolist()
    old.recreate(4)
    assert set(old.reset()[0][:, 2].tolist()).isdisjoint(seeds)


def test_a_crash_names_stream_task_and_clock() -> None:
    sequence = build(Constant(), tasks=[Task("fragile", CountingEnv, {"crash_at": 3})])
    sequence.reset()
    for _ in range(2):
        sequence.step(idle(sequence))
    text = "'fragile' raised RuntimeError on stream 0 at clock 4"
    with pytest.raises(EnvironmentCrashedError, match=text) as caught:
        sequence.step(idle(sequence))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_numbers_that_are_not_finite_are_passed_on() -> None:
    sequence = build(Constant(), tasks=[Task("hot", CountingEnv, {"nan_at": 2})])
    sequence.reset()
    assert np.isfinite(sequence.step(idle(sequence))[1]).all()
    seen, reward, *_ = sequence.step(idle(sequence))
    assert np.isnan(seen).all() and np.isnan(reward).all()


def test_outputs_are_the_caller_s_to_keep() -> None:
    sequence = build(Constant())
    kept = [sequence.reset()[0]]
    copies = [kept[0].copy()]
    for _ in range(10):
        kept.extend(sequence.step(idle(sequence))[:4])
        copies.extend(array.copy() for array in kept[-4:])
    assert all((one == other).all() for one, other in zip(kept, copies, strict=True))
    sequence.stream_tasks[:] = 99
    assert sequence.stream_tasks.max() == 0


def test_bad_use_is_refused_with_a_way_out() -> None:
    sequence = build(Constant())
    with pytest.raises(ResetNeeded, match="call reset"):
        sequence.step(idle(sequence))
    sequence.reset()
    with pytest.raises(ValueError, match=r"shape \(2,\), one row a stream, got \(3,\)"):
        sequence.step(np.zeros(3, dtype=int))
    for wrong in (2, -1):
        with pytest.raises(ValueError, match=r"expected actions of Discrete\(2\)"):
            sequence.step(np.array([0, wrong]))
    with pytest.raises(ValueError, match="integer actions"):
        sequence.step(np.zeros(2))
    with pytest.raises(ValueError, match="knows no options"):
        sequence.reset(options={"reset_mask": np.ones(2, bool)})
    for option, text in (("info", "hidden"), ("switch", "next-reset"), ("autoreset", "same-step")):
        with pytest.raises(ValueError, match=f"{option} must be one of .*{text}.*got 'loud'"):
            build(Constant(), **{option: "loud"})
    with pytest.raises(ValueError, match="switch only with an episode"):
        build(Constant(), switch="in-episode")


def test_autoreset_cannot_change_while_a_stream_waits() -> None:
    sequence = build(Constant())
    sequence.reset()
    for _ in range(3):
        sequence.step(idle(sequence))
    with pytest.raises(ValueError, match="call reset"):
        sequence.set_autoreset("same-step")
    sequence.reset()
    sequence.set_autoreset("same-step")
    for _ in range(5):  # the second episode
        seen, *_, info = sequence.step(idle(sequence))
    assert "final_obs" in info and seen[0, 1] == 0


class Announced(CountingEnv):
    """Says how long its episodes can be, as MiniGrid's envs do."""

    max_steps = 5


def test_blocks_too_short_to_live_in_are_warned_about() -> None:
    tasks = [Task("a", Announced), Task("b", Announced)]
    with pytest.warns(UserWarning, match="9 env steps over 2 streams, 4 each: less than two full episodes of 5"):
        build(Cyclic(9), tasks=tasks)
    build(Cyclic(20), tasks=tasks)
