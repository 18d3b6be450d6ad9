"""Laws over all ready sequences, on every backend at hand."""

from __future__ import annotations

import json
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from nl_agents import envs
from nl_agents.tasks import Blocks, GeometricHidden, TaskSequence
from nl_agents.tasks.envpool_backend import envpool_is_installed

RUNNABLE = [name for name, suite in envs.SUITES.items() if suite.runs_here]

CASES = [("cartpole-flip", "auto"), ("minigrid-recurring", "python"), ("minigrid-memory", "python"), ("needle", "auto")]
CASES += [("control-obs-shift", "auto"), ("permute-long", "auto"), ("control-drift", "auto")]
CASES += [("minigrid-goal-reversal", "auto"), ("minigrid-memory-switch", "auto")]
if "mujoco-slippery" in RUNNABLE:
    CASES.append(("mujoco-slippery", "auto"))
if envpool_is_installed():
    CASES += [("minigrid-recurring", "envpool"), ("minigrid-memory", "envpool")]
WITHOUT_CHANCE = {"minigrid-goal-reversal"}  # one room, one start, a written schedule
EXACT = [case for case in CASES if case[1] != "envpool" and case[0] != "mujoco-slippery"]


def build(case: tuple[str, str], num_envs: int = 4, blocks: int | None = None, **options: Any) -> TaskSequence:
    """A suite with blocks short enough to see several switches in a test."""
    name, backend = case
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*less than two full episodes")
        schedule = None if blocks is None else Blocks([(task, blocks) for task in (0, 1)])
        return envs.make_sequence(name, num_envs=num_envs, schedule=schedule, backend=backend, **options)


def leaves(seen: Any) -> list[np.ndarray]:
    return [np.asarray(seen[key]) for key in sorted(seen)] if isinstance(seen, dict) else [np.asarray(seen)]


def some_actions(random: np.random.Generator, sequence: TaskSequence, *shape: int) -> np.ndarray:
    space = sequence.single_action_space
    if isinstance(space, gym.spaces.Box):
        return random.uniform(space.low, space.high, (*shape, *space.shape)).astype(space.dtype)
    return random.integers(0, space.n, shape)


def trace(sequence: TaskSequence, steps: int, seed: int = 0) -> list[list[np.ndarray]]:
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(steps):
        seen, *outcome, info = sequence.step(some_actions(random, sequence, sequence.num_envs))
        finals = info.get("final_obs", [])
        rows.append([*leaves(seen), *outcome, *(leaf for row in finals if row is not None for leaf in leaves(row))])
    return rows


def same(one: list[list[np.ndarray]], other: list[list[np.ndarray]]) -> bool:
    return len(one) == len(other) and all(
        len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("autoreset", ["next-step", "same-step"])
def test_a_life_is_fixed_by_its_seed(case: tuple[str, str], autoreset: str) -> None:
    lives = []
    for seed in (3, 3, 4):
        sequence = build(case, blocks=400, autoreset=autoreset)
        first = leaves(sequence.reset(seed=seed)[0])
        lives.append([first, *trace(sequence, 250)])
    again = build(case, blocks=400, autoreset=autoreset)
    again.reset(seed=9)
    trace(again, 30)
    lives.append([leaves(again.reset(seed=3)[0]), *trace(again, 250)])
    assert same(lives[0], lives[1]) and same(lives[0], lives[3])
    assert same(lives[0], lives[2]) == (case[0] in WITHOUT_CHANCE)


@pytest.mark.parametrize("case", CASES)
def test_what_is_seen_lies_in_the_declared_spaces(case: tuple[str, str]) -> None:
    sequence = build(case, autoreset="same-step")
    seen, info = sequence.reset(seed=0)
    assert sequence.observation_space.contains(seen) and info == {}
    for _ in range(300):
        seen, reward, terminated, truncated, info = sequence.step(sequence.action_space.sample())
        assert sequence.observation_space.contains(seen)
        assert reward.dtype == np.float64 and terminated.dtype == truncated.dtype == np.bool_
        for row in info.get("final_obs", []):
            assert row is None or sequence.single_observation_space.contains(row)
        assert set(info) <= {"final_obs", "_final_obs"}  # hidden: nothing about the task
    assert isinstance(sequence.metadata["autoreset_mode"], AutoresetMode)


def valid_transitions(case: tuple[str, str], autoreset: str, num_envs: int, blocks: int, count: int) -> list[list]:
    """Each stream's first valid transitions, its actions a function of the stream and how many it has lived."""
    sequence = build(case, num_envs, blocks, autoreset=autoreset)
    table = some_actions(np.random.default_rng(7), sequence, num_envs, count + 1)
    seen, _ = sequence.reset(seed=5)
    found: list[list] = [[] for _ in range(num_envs)]
    waiting = np.zeros(num_envs, bool)
    while min(map(len, found)) < count:
        lived = [min(len(rows), count) for rows in found]
        before = leaves(seen)
        seen, reward, terminated, truncated, info = sequence.step(table[np.arange(num_envs), lived])
        ended = terminated | truncated
        for stream in (~waiting).nonzero()[0]:
            after = leaves(seen)
            final = info["final_obs"][stream] if autoreset == "same-step" and ended[stream] else None
            rows = [leaf[stream].tolist() for leaf in after] if final is None else [x.tolist() for x in leaves(final)]
            outcome = (reward[stream], terminated[stream], truncated[stream])
            found[stream].append(([leaf[stream].tolist() for leaf in before], outcome, rows))
        waiting = ended & (autoreset == "next-step")
    return [rows[:count] for rows in found]


# Where physics drift with the clock over all streams, what a stream lives depends on when the others wait: one stream.
@pytest.mark.parametrize(
    ("case", "num_envs", "blocks"),
    [(case, 3, 10**6) for case in CASES if case[0] != "control-drift"] + [(case, 1, 150) for case in CASES],
)
def test_both_autoreset_modes_give_the_same_valid_transitions(
    case: tuple[str, str], num_envs: int, blocks: int
) -> None:
    lives = [valid_transitions(case, mode, num_envs, blocks, 300) for mode in ("next-step", "same-step")]
    assert lives[0] == lives[1]


def check_plain(value: Any) -> None:
    """Fails on anything a checkpoint of JSON and arrays could not hold."""
    if isinstance(value, dict):
        assert all(type(key) in (str, int) for key in value)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            check_plain(item)
    elif isinstance(value, np.ndarray):
        assert value.dtype != object
    else:
        json.dumps(value)


@pytest.mark.parametrize("case", EXACT)
@pytest.mark.parametrize("autoreset", ["next-step", "same-step"])
@pytest.mark.parametrize("moment", [0, 37, 151])
def test_a_saved_life_goes_on_bit_for_bit(case: tuple[str, str], autoreset: str, moment: int) -> None:
    options: dict[str, Any] = {"blocks": 500, "autoreset": autoreset, "info": "task-id"}
    old = build(case, **options)
    old.reset(seed=6)
    trace(old, moment, seed=1)
    state = old.get_state()
    check_plain(state)
    after = trace(old, 250, seed=2)
    new = build(case, **options)
    new.set_state(state)
    assert same(trace(new, 250, seed=2), after)
    assert (new.clock, new.task_log, new.effective_log) == (old.clock, old.task_log, old.effective_log)
    new.set_state(state)  # a state is not used up, and a running sequence can take one
    assert same(trace(new, 250, seed=2), after)
    assert len({name for _, name in old.task_log}) == 2


@pytest.mark.skipif(not envpool_is_installed(), reason="EnvPool is optional")
def test_envpool_lives_are_recreated_alike() -> None:
    case, options = ("minigrid-recurring", "envpool"), {"blocks": 500}
    old = build(case, **options)
    old.reset(seed=6)
    trace(old, 100)
    state = old.get_state()
    check_plain(state)
    old.recreate(1)
    new = build(case, **options)
    new.set_state(state)
    new.recreate(1)
    assert same([leaves(old.reset()[0])], [leaves(new.reset()[0])])
    assert same(trace(old, 250), trace(new, 250))
    assert (old.clock, old.task_log, old.effective_log) == (new.clock, new.task_log, new.effective_log)


@pytest.mark.parametrize("case", CASES)
def test_switches_do_not_depend_on_the_number_of_streams(case: tuple[str, str]) -> None:
    logs = []
    for num_envs in (1, 16, 64):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*less than two full episodes")
            sequence = envs.make_sequence(case[0], num_envs=num_envs, schedule=GeometricHidden(200), backend=case[1])
        sequence.reset(seed=1)
        while sequence.clock < 1500:
            sequence.step(np.zeros_like(sequence.action_space.sample()))
        logs.append([entry for entry in sequence.task_log if entry[0] < 1500])
        scheduled = {name: [at for at, task in sequence.task_log if task == name] for name in sequence.task_names}
        for at, _, name in sequence.effective_log:
            due = max(step for step in scheduled[name] if step <= at)
            # in-episode: the first vector step that begins at or after the switch; else also the episode's end
            assert sequence.switch == "next-reset" or at < due + num_envs
    assert logs[0] == logs[1] == logs[2] and len(logs[0]) > 4


@pytest.mark.parametrize("gym_id", [name for name, suite in envs.GYM_IDS.items() if suite in RUNNABLE])
def test_gymnasium_finds_every_id(gym_id: str) -> None:
    check_env(gym.make(gym_id).unwrapped, skip_render_check=True)  # warnings are errors
    vector = gym.make_vec(gym_id, num_envs=3)
    assert isinstance(vector, TaskSequence) and vector.num_envs == 3
    vector.reset(seed=0)
    vector.step(vector.action_space.sample())
    vector.close()


@pytest.mark.parametrize("name", RUNNABLE)
def test_presets_are_sound(name: str) -> None:
    suite = envs.SUITES[name]
    for label, size in suite.presets.items():
        assert envs.preset(f"{name}:{label}") == (suite, size)
        assert set(size.tasks) <= set(suite.tasks) and size.doc
        first, *_ = size.schedule.switches(0, len(size.tasks)), None
        assert next(first)[0] == 0
        sequence = envs.make_sequence(f"{name}:{label}")  # warnings are errors: no block is too short
        assert (sequence.num_envs, tuple(sequence.task_names)) == (size.num_envs, size.tasks)
        sequence.close()
    assert envs.preset(name)[1] is suite.presets[suite.default_preset]


@pytest.mark.parametrize("case", CASES)
def test_every_task_runs_alone(case: tuple[str, str]) -> None:
    suite = envs.SUITES[case[0]]
    for task in suite.tasks:
        sequence = suite.task_env(task, num_envs=2, seed=1, backend=case[1])
        sequence.reset()
        for _ in range(20):
            sequence.step(sequence.action_space.sample())
        assert sequence.task_log == [(0, task)] and sequence.stream_tasks.tolist() == [0, 0]
        sequence.close()
