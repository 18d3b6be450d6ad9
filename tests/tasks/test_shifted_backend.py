"""Shifts around envs: what each does, on which streams, on which clock; saving; errors."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from nl_agents import envs
from nl_agents.envs.cartpole_physics import CartPoleBackend, Physics
from nl_agents.envs.minigrid_view import make_minigrid
from nl_agents.errors import ConfigError, StateMismatchError, UnknownNameError
from nl_agents.tasks import (
    ActionGain,
    ActionPermutation,
    ActionSign,
    Attribute,
    Cyclic,
    Distractors,
    GeometricHidden,
    Linear,
    ObservationNoise,
    ObservationOffset,
    ObservationPermutation,
    ObservationWindow,
    RandomOffset,
    RandomWalk,
    RewardScale,
    RewardSign,
    ShiftedBackend,
    ShiftedTask,
    Sine,
    Task,
    TaskSequence,
)
from nl_agents.tasks.shifts import Shift


class Box(gym.Env[Any, Any]):
    """Shows [1, 2, 3, 4] and the last action's effect; episodes of 5 steps; reward = action x strength."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-10.0, 10.0, (4,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.strength, self.count, self.table = 2.0, 3, np.array([1.0, 5.0])
        self.taken = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken = 0
        return np.arange(1, 5, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        gain = float(np.asarray(action)[0]) * self.strength * self.table[1]
        return np.arange(1, 5, dtype=np.float32), gain, self.taken >= 5, False, {}

    def get_state(self) -> dict[str, Any]:
        return {"taken": self.taken}

    def set_state(self, state: dict[str, Any]) -> None:
        self.taken = state["taken"]


def life(*shifts: Shift, num_envs: int = 3, every: int = 10**6, **options: Any) -> TaskSequence:
    """A life that begins shifted and becomes plain after ``every`` steps."""
    tasks = [Task("shifted", Box, shifts=shifts), Task("plain", Box)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*less than two full episodes")
        return envs.make_sequence(tasks, schedule=Cyclic(every), num_envs=num_envs, **options)


def ones(sequence: TaskSequence, value: float = 0.5) -> Any:
    return np.full((sequence.num_envs, 1), value, np.float32)


def first_seen(*shifts: Shift, seed: int = 0) -> np.ndarray:
    sequence = life(*shifts)
    seen, _ = sequence.reset(seed=seed)
    assert sequence.observation_space.contains(seen)
    return seen


def test_observation_shifts() -> None:
    assert first_seen(ObservationOffset(2.0))[0].tolist() == [3, 4, 5, 6]
    assert first_seen(ObservationOffset([0, 1, 0, -1]))[1].tolist() == [1, 3, 3, 3]
    assert first_seen(ObservationPermutation([3, 0, 1, 2]))[0].tolist() == [4, 1, 2, 3]
    assert first_seen(ObservationWindow(1, 2))[0].tolist() == [0, 2, 3, 0]
    assert sorted(first_seen(ObservationPermutation())[0].tolist()) == [1, 2, 3, 4]
    assert first_seen(ObservationOffset(1.0), ObservationWindow(0, 2))[0].tolist() == [2, 3, 0, 0]
    offsets = first_seen(RandomOffset(2.0)) - np.arange(1, 5)
    assert (offsets == offsets[0]).all() and len(set(offsets[0].tolist())) == 4
    assert (first_seen(RandomOffset(2.0), seed=1) != first_seen(RandomOffset(2.0))).all()  # each life draws its own


def test_noise_is_fresh_for_every_stream_and_step() -> None:
    sequence = life(ObservationNoise(0.5), num_envs=64)
    rows = [sequence.reset(seed=0)[0]]
    rows += [sequence.step(ones(sequence))[0] for _ in range(40)]
    noise = np.stack(rows) - np.arange(1, 5)
    assert np.unique(noise).size > 0.99 * noise.size  # float32 has so many numbers only
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 0.5) < 0.02
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.03


def test_distractors_are_appended_to_every_task() -> None:
    tasks = [ShiftedTask("a", 0, (Distractors(3),)), ShiftedTask("b", 0, (Distractors(3), ObservationPermutation()))]
    backend = ShiftedBackend(CartPoleBackend((Physics(),), 2), tasks)
    assert backend.single_observation_space.shape == (7,)
    with pytest.raises(ValueError, match=r"(?s)show the same shape: task 'a' shows .*, task 'b' shows"):
        ShiftedBackend(CartPoleBackend((Physics(),), 2), [tasks[0], ShiftedTask("b")])


def rewards(*shifts: Shift, action: float = 0.5, steps: int = 1) -> list[float]:
    sequence = life(*shifts, num_envs=1, autoreset="same-step")
    sequence.reset(seed=0)
    return [float(sequence.step(ones(sequence, action))[1][0]) for _ in range(steps)]


def test_action_reward_and_attribute_shifts() -> None:
    assert rewards() == [5.0]
    assert rewards(ActionSign()) == [-5.0]
    assert rewards(ActionGain(4.0)) == [10.0]  # cut to the action space
    assert rewards(RewardScale(3.0)) == [15.0]
    assert rewards(RewardSign()) == [-5.0]
    assert rewards(Attribute("strength", 10.0)) == [25.0]
    assert rewards(Attribute("strength", 10.0, relative=True)) == [50.0]
    assert rewards(Attribute("table.1", 1.0)) == [1.0]
    assert rewards(Attribute("strength", 3.0), Attribute("strength", 2.0, relative=True)) == [15.0]  # in their order


def test_drifts_move_on_their_clock() -> None:
    rising = Linear(0, 100, steps=100)
    assert rewards(RewardScale(rising), steps=8) == pytest.approx([5.0 * step for step in range(8)])
    within = rewards(Attribute("strength", rising, time="within-episode"), steps=8)
    assert within == pytest.approx([2.5 * step for step in (0, 1, 2, 3, 4, 0, 1, 2)])
    episodes = rewards(Attribute("strength", rising, time="episodes"), steps=12)
    assert episodes == pytest.approx([2.5 * episode for episode in [0] * 5 + [1] * 5 + [2] * 2])


def test_the_clock_of_a_drift_counts_all_streams() -> None:
    rising = Linear(0, 1000, steps=1000)
    for num_envs in (1, 16):
        sequence = life(ObservationOffset(rising), num_envs=num_envs, autoreset="same-step")
        sequence.reset(seed=0)
        for _ in range(6):
            seen, *_ = sequence.step(ones(sequence))
            assert (seen[:, 0] == 1 + sequence.clock).all()


def test_a_discrete_action_does_what_another_did() -> None:
    shifts = (ActionPermutation([1, 0]),)
    swapped = ShiftedBackend(CartPoleBackend((Physics(),), 4), [ShiftedTask("swapped", 0, shifts)])
    turned = CartPoleBackend((Physics(force=-10.0),), 4)
    everybody, nothing = np.arange(4), np.zeros(4, np.int64)
    for backend in (swapped, turned):
        backend.begin_life(3)
        backend.reset(everybody, nothing)
    for _ in range(5):
        swapped.step(np.array([0, 1, 1, 0]), None)
        turned.step(np.array([0, 1, 1, 0]), None)
        np.testing.assert_array_equal(swapped.observations(), turned.observations())


def test_native_attributes_equal_the_physics_built_with_them() -> None:
    shifts = (Attribute("length", 1.0), Attribute("cart_mass", 2.0), Attribute("force", -10.0))
    tasks = [ShiftedTask("standard"), ShiftedTask("flipped", 0, shifts)]
    built = CartPoleBackend((Physics(), Physics(force=-10.0, length=1.0, cart_mass=2.0)), 4)
    names, backends = ["standard", "flipped"], (built, ShiftedBackend(CartPoleBackend((Physics(),), 4), tasks))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*less than two full episodes")
        lives = [TaskSequence(inside, names, GeometricHidden(300), switch="in-episode") for inside in backends]
    random = np.random.default_rng(0)
    for sequence in lives:
        sequence.reset(seed=2)
    for _ in range(400):
        actions = random.integers(0, 2, 4)
        one, other = (sequence.step(actions) for sequence in lives)
        np.testing.assert_array_equal(one[0], other[0])
    assert lives[0].task_log == lives[1].task_log and len(lives[0].task_log) > 3


def test_a_shift_ends_with_its_task_stream_by_stream() -> None:
    sequence = life(RewardScale(3.0), Attribute("strength", 4.0), ObservationOffset(9.0), num_envs=2, every=7)
    seen, _ = sequence.reset(seed=0)
    for _ in range(30):
        before, seen_before = sequence.backend._tasks.copy(), seen
        seen, reward, *_ = sequence.step(ones(sequence))
        lived = reward != 0
        assert (reward[lived] == np.where(before == 0, 30.0, 5.0)[lived]).all()
        assert (seen_before[:, 0] == np.where(before == 0, 10.0, 1.0)).all()
    assert len({name for _, name in sequence.task_log}) == 2


def mixed(**options: Any) -> TaskSequence:
    sine = Sine(1.0, 0.5, period=50)
    return life(
        RandomOffset(1.0), ObservationNoise(RandomWalk(1.0, 0.1, every=5, low=0.1, high=3)), ObservationPermutation(),
        ActionGain(sine), RewardScale(sine * RandomWalk(1.0, 0.1, every=3)), Attribute("strength", sine, relative=True),
        Attribute("count", Sine(5, 4, period=3, phase=0.1), time="episodes"), every=20, **options,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:attribute .count. of Box is an int")
@pytest.mark.parametrize("moment", [0, 1, 23])
@pytest.mark.parametrize("autoreset", ["next-step", "same-step"])
def test_a_saved_life_goes_on_bit_for_bit(moment: int, autoreset: str) -> None:
    old, new = mixed(autoreset=autoreset), mixed(autoreset=autoreset)
    old.reset(seed=5)
    for _ in range(moment):
        old.step(ones(old))
    new.reset(seed=1)
    new.set_state(old.get_state())
    for _ in range(40):
        for one, other in zip(old.step(ones(old))[:4], new.step(ones(new))[:4], strict=True):
            np.testing.assert_array_equal(one, other)
    assert old.task_log == new.task_log and len(old.task_log) > 2


def test_envs_and_curriculum_have_seeds_of_their_own() -> None:
    def shape(seed: int, curriculum: int | None) -> tuple[list[float], list[tuple[int, str]]]:
        tasks = [Task("a", Box, shifts=(RandomOffset(1.0),)), Task("b", Box)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*less than two full episodes")
            sequence = envs.make_sequence(
                tasks, schedule=GeometricHidden(20), seed=seed, curriculum_seed=curriculum, num_envs=2
            )
        rows = [sequence.reset()[0]] + [sequence.step(ones(sequence))[0] for _ in range(60)]
        return np.concatenate(rows).ravel().tolist(), sequence.task_log

    assert shape(1, 7) == shape(2, 7) != shape(1, 8)
    assert shape(1, None) != shape(2, None)
    state = life(curriculum_seed=3).get_state()
    with pytest.raises(StateMismatchError, match="curriculum_seed 3, this one 4"):
        life(curriculum_seed=4).set_state(state)


def test_only_the_named_task_is_told() -> None:
    sequence = life(ObservationOffset(1.0), info="hidden")
    _, told = sequence.reset(seed=0)
    assert told == {} and sequence.step(ones(sequence))[4] == {}


def test_python_tasks_that_share_an_env_can_switch_within_an_episode() -> None:
    assert life(RewardSign()).backend.switches_in_episode


def test_a_drift_goes_on_where_envs_are_built_anew() -> None:
    tasks = [Task("drifting", lambda: gym.make("Pendulum-v1"), shifts=(ObservationOffset(Linear(0, 1e6, steps=1e6)),))]
    sequence = envs.make_sequence(tasks, schedule=Cyclic(10**6), num_envs=2)
    sequence.reset(seed=0)
    for _ in range(500):
        sequence.step(np.zeros((2, 1), np.float32))
    state, clock = sequence.get_state(), sequence.clock
    assert not sequence.exact_state and clock > 900
    other = envs.make_sequence(tasks, schedule=Cyclic(10**6), num_envs=2)
    other.set_state(state)
    lives = []
    for life_of in (sequence, other):
        life_of.recreate(1)
        seen, _ = life_of.reset()
        assert (np.abs(seen[:, 0] - clock) <= 1.001).all()
        lives.append([seen, *(life_of.step(np.ones((2, 1), np.float32))[0] for _ in range(20))])
    np.testing.assert_array_equal(lives[0], lives[1])


def test_an_entry_of_a_dict_can_be_shifted() -> None:
    def make() -> gym.Env[Any, Any]:
        return make_minigrid("MiniGrid-Empty-Random-6x6-v0")

    tasks = [Task("plain", make), Task("mixed", make, shifts=(ObservationPermutation(key="image"),))]
    life_of = [
        envs.make_sequence([task], schedule=Cyclic(10**6), num_envs=4, curriculum_seed=0)
        for task in (tasks[0], tasks[1])
    ]
    (plain, _), (mixed, _) = (sequence.reset(seed=0) for sequence in life_of)
    assert plain["image"].shape == mixed["image"].shape and mixed["image"].dtype == np.uint8
    assert life_of[1].observation_space.contains(mixed)
    assert mixed["image"].reshape(4, -1).sum() > 0 and not np.array_equal(plain["image"], mixed["image"])
    both = envs.make_sequence(tasks, schedule=Cyclic(10**6), num_envs=4)
    assert both.single_observation_space == life_of[0].single_observation_space


class Goal(Box):
    """A box that is told its goal."""

    def __init__(self, goal: Any) -> None:
        super().__init__()
        self.goal = goal

    @property
    def fixed(self) -> float:
        return 1.0


def test_params_may_be_arrays() -> None:
    tasks = [Task(name, Goal, {"goal": np.array([1, 2])}, (RewardSign(),)) for name in "ab"]
    life = envs.make_sequence(tasks, schedule=Cyclic(10**6), num_envs=2)
    life.reset()
    assert life.step(np.ones((2, 1), np.float32))[1].tolist() == [-10.0, -10.0]


def test_an_attribute_that_is_an_int_warns_where_it_cannot_follow() -> None:
    with pytest.warns(UserWarning, match="attribute 'count' of Box is an int, so what should become 3.4 becomes 3"):
        life(Attribute("count", 3.4)).backend.reset(np.arange(3), np.zeros(3, int))  # type: ignore[attr-defined]


def test_an_attribute_that_can_only_be_read_is_refused_at_once() -> None:
    task = Task("a", Goal, {"goal": 0}, (Attribute("fixed", 2.0),))
    with pytest.raises(ConfigError, match=r"'fixed' of task 'a' \(Goal\) can be read but not set"):
        envs.make_sequence([task], schedule=Cyclic(10**6), num_envs=2)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"one number, or one an entry \(4,\), got \(3,\)"):
        life(ObservationOffset([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="RandomOffset"):
        RandomOffset(-1.0)
    with pytest.raises(ValueError, match="Distractors expected count >= 1"):
        Distractors(0)
    with pytest.raises(
        UnknownNameError, match=r"attribute of task 'shifted' \(Box\) 'strenght': did you mean 'stren.*"
    ):
        life(Attribute("strenght", 1.0))
    with pytest.raises(UnknownNameError, match=r"known names are table\.0, table\.1"):
        life(Attribute("table.7", 1.0))
    with pytest.raises(UnknownNameError, match="cart_mass, force, gravity, length, pole_mass"):
        ShiftedBackend(CartPoleBackend((Physics(),), 2), [ShiftedTask("a", 0, (Attribute("masscart", 1.0),))])
    with pytest.raises(TypeError, match="ActionPermutation expected Discrete actions"):
        life(ActionPermutation())
    with pytest.raises(TypeError, match=r"expected a Box, or a Dict with a Box of that key"):
        life(ObservationOffset(1.0, key="image"))
    with pytest.raises(ValueError, match="0 to 3 each once"):
        life(ObservationPermutation([0, 0, 1, 2]))
    with pytest.raises(ValueError, match="within the 4 entries"):
        life(ObservationWindow(2, 3))
    with pytest.raises(ValueError, match="time must be one of 'life', 'episodes', 'within-episode', got 'year'"):
        RewardScale(1.0, time="year")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a tuple of shifts"):
        life("offset")  # type: ignore[arg-type]
