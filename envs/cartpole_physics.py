"""CartPole for B streams at once, each with physics of its own: a backend of a task sequence.

The equations are those of gymnasium's ``CartPole-v1`` (Barto, Sutton & Anderson 1983, with the friction-free form of
Florian 2007), in the same order of operations, so that with equal constants every number is the same bit for bit;
tests hold it against gymnasium's own env. Written anew because gymnasium's vector version shares one generator and
one set of constants over all streams, and resets by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from nl_agents.errors import UnknownNameError
from nl_agents.seeding import hash_uniform, spawn
from nl_agents.tasks.backend import BoolArray, FloatArray, IntArray, Outcome
from nl_agents.tasks.shown_space import finite

TIME_STEP = 0.02  # seconds
POSITION_LIMIT = 2.4  # metres
ANGLE_LIMIT = 12 * 2 * np.pi / 360  # radians
START_RANGE = 0.05  # a new episode begins uniformly in +-START_RANGE, each of the four numbers
EPISODE_LIMIT = 500  # env steps, then truncated


@dataclass(frozen=True)
class Physics:
    """The constants of one task; the defaults are CartPole-v1.

    Attributes:
        force: newtons with which action 1 pushes to the right; negative swaps the two actions.
        length: metres from the hinge to the middle of the pole.
        cart_mass: kilograms.
        pole_mass: kilograms.
        gravity: metres per second squared.
    """

    force: float = 10.0
    length: float = 0.5
    cart_mass: float = 1.0
    pole_mass: float = 0.1
    gravity: float = 9.8


class CartPoleBackend:
    """B cart-poles in one set of arrays.

    A start state is a hash of (stream's key, number of its episode), so it depends neither on the other streams nor
    on when the episode begins, and two integers a stream are the whole state of the randomness.

    Args:
        physics: the constants of each task.
        num_envs: streams B.
        episode_limit: env steps after which an episode is truncated.
    """

    exact_state = True
    switches_in_episode = True
    stream_at_work: int | None = None

    def __init__(self, physics: tuple[Physics, ...], num_envs: int, episode_limit: int = EPISODE_LIMIT) -> None:
        self.num_envs, self._limit = num_envs, episode_limit
        self.episode_limit: int | None = episode_limit
        high = np.array([POSITION_LIMIT * 2, np.inf, ANGLE_LIMIT * 2, np.inf], dtype=np.float32)
        self.single_observation_space = finite(spaces.Box(-high, high, dtype=np.float32))
        self.single_action_space = spaces.Discrete(2)
        self._table = {name: np.array([asdict(task)[name] for task in physics]) for name in asdict(physics[0])}
        self._state = np.zeros((4, num_envs))  # position, velocity, angle, angular velocity
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._limits = np.array([[POSITION_LIMIT], [ANGLE_LIMIT]])
        self.begin_life(0)
        self.set_tasks(np.zeros(num_envs, dtype=np.int64))

    def begin_life(self, seed: int) -> None:
        """Gives every stream a key of its own and counts its episodes from 0."""
        self._keys = np.array([spawn(seed, "cartpole", stream) for stream in range(self.num_envs)], dtype=np.uint64)
        self._episodes = np.zeros(self.num_envs, dtype=np.uint64)

    def set_tasks(self, tasks: IntArray) -> None:
        """Changes the constants; position and speed of cart and pole go on from where they are."""
        self._tasks = tasks
        self._derive({name: column[tasks] for name, column in self._table.items()})

    def _derive(self, constants: dict[str, FloatArray]) -> None:
        self._constants = constants
        self._force, self._length, self._gravity = constants["force"], constants["length"], constants["gravity"]
        self._pole_mass = constants["pole_mass"]
        self._mass = constants["pole_mass"] + constants["cart_mass"]
        self._moment = constants["pole_mass"] * constants["length"]

    def reset(self, streams: IntArray, tasks: IntArray) -> None:
        """Begins an episode: four numbers uniform in +-0.05."""
        if tasks is not self._tasks and (self._tasks[streams] != tasks[streams]).any():
            merged = self._tasks.copy()
            merged[streams] = tasks[streams]
            self.set_tasks(merged)
        draw = self._episodes[streams] * np.uint64(4) + np.arange(1, 5, dtype=np.uint64)[:, None]
        uniform = hash_uniform(self._keys[streams], draw)
        self._state[:, streams] = uniform * (2 * START_RANGE) - START_RANGE
        self._episodes[streams] += np.uint64(1)
        self._steps[streams] = 0

    def step(self, actions: npt.NDArray[Any], waiting: BoolArray | None) -> Outcome:
        """One Euler step of 0.02 s; reward 1 for every step, the one that falls included."""
        velocity, angle, spin = self._state[1], self._state[2], self._state[3]
        cos, sin = np.cos(angle), np.sin(angle)
        push = (actions * 2 - 1) * self._force
        common = (push + self._moment * np.square(spin) * sin) / self._mass
        spin_rate = (self._gravity * sin - cos * common) / (
            self._length * (4.0 / 3.0 - self._pole_mass * np.square(cos) / self._mass)
        )
        rates = np.empty_like(self._state)
        rates[0], rates[1] = velocity, common - self._moment * spin_rate * cos / self._mass
        rates[2], rates[3] = spin, spin_rate
        rates *= TIME_STEP
        self._state += rates
        self._steps += 1
        outside = np.abs(self._state[0::2]) > self._limits
        terminated: BoolArray = outside[0] | outside[1]
        truncated: BoolArray = self._steps >= self._limit
        reward = np.ones(self.num_envs)
        if waiting is not None:
            reward[waiting], terminated[waiting], truncated[waiting] = 0.0, False, False
        return reward, terminated, truncated

    def observations(self) -> npt.NDArray[np.float32]:
        """Returns [B, 4] float32: position, velocity, angle, angular velocity."""
        return self._state.T.astype(np.float32, order="C")

    def get_state(self) -> dict[str, Any]:
        """Returns copies of all arrays."""
        return {
            "state": self._state.copy(),
            "steps": self._steps.copy(),
            "keys": self._keys.copy(),
            "episodes": self._episodes.copy(),
            "tasks": self._tasks.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up copies of all arrays."""
        self._state = np.array(state["state"], dtype=np.float64)
        self._steps = np.array(state["steps"], dtype=np.int64)
        self._keys = np.array(state["keys"], dtype=np.uint64)
        self._episodes = np.array(state["episodes"], dtype=np.uint64)
        self.set_tasks(np.array(state["tasks"], dtype=np.int64))

    def watch_attributes(self, names: tuple[str, ...]) -> None:
        """Accepts the names of ``Physics``."""
        for name in names:
            if name not in self._table:
                raise UnknownNameError("attribute of CartPole's physics", name, self._table)

    def default_attribute(self, name: str, streams: IntArray, tasks: IntArray) -> FloatArray:
        """Returns [N] the constant of each task."""
        return self._table[name][tasks]

    def set_attribute(self, name: str, streams: IntArray, tasks: IntArray, values: FloatArray) -> None:
        """Sets a constant on some streams until their task changes; total mass and mass moment follow."""
        changed = self._constants[name].copy()
        changed[streams] = values
        self._derive(self._constants | {name: changed})

    def set_all_attributes(self, values: Mapping[str, FloatArray]) -> None:
        """Sets constants of all streams; total mass and mass moment follow."""
        self._derive(self._constants | {name: np.array(column) for name, column in values.items()})

    def close(self) -> None:
        """Holds nothing outside Python."""
