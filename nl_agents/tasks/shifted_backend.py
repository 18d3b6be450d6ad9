"""Shifts around any backend, applied to whole batches of streams."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nl_agents.seeding import spawn
from nl_agents.tasks.backend import Attributed, Backend, BoolArray, IntArray, KeepsAttributes, Outcome
from nl_agents.tasks.python_backend import PythonBackend
from nl_agents.tasks.shifts import ActionShift, Attribute, Moment, ObservationShift, RewardShift, Rows, Shift
from nl_agents.tasks.shown_space import cast_batch, common_space, space_after
from nl_agents.tasks.task import Task


@dataclass(frozen=True)
class ShiftedTask:
    """A task of the backend inside, and what is changed around it.

    Args:
        name: of the task; what its shifts draw depends on it and on the curriculum only.
        inner: index of the task inside.
        shifts: in the order in which they apply.
    """

    name: str
    inner: int = 0
    shifts: tuple[Shift, ...] = ()


@dataclass
class _Bound:
    """The shifts of one task as one life applies them."""

    observation: list[Rows] = field(default_factory=list)
    action: list[Rows] = field(default_factory=list)
    reward: list[Rows] = field(default_factory=list)
    attributes: dict[str, list[Rows]] = field(default_factory=dict)


class ShiftedBackend:
    """A backend whose tasks are tasks of another one with shifts around them.

    Time moves on with every step that is lived: in a step, actions, attributes and rewards are those of the moment
    before it, and what is seen afterwards is shown as of the moment after it. Everything drawn is a function of
    (curriculum, task name, place in ``shifts``), so a task that returns is the same.

    A drift over ``episodes`` counts them since ``begin_life``: with envs that cannot save their state, since the
    latest checkpoint.

    Args:
        inner: runs the physics; ``Attribute`` needs one whose attributes can be set.
        tasks: what each task changes; what is seen must have one shape for all.
    """

    def __init__(self, inner: Backend, tasks: Sequence[ShiftedTask]) -> None:
        self.inner, self.tasks, self.num_envs = inner, tuple(tasks), inner.num_envs
        self.single_action_space = inner.single_action_space
        self.single_observation_space = common_space(
            [(task.name, space_after(inner.single_observation_space, task.shifts)) for task in self.tasks]
        )
        self._streams = np.arange(self.num_envs)
        self._inner_of = np.array([task.inner for task in self.tasks])
        self._held: tuple[int, IntArray] | None = None  # clock and ages that stand still
        self._keeps = inner if isinstance(inner, KeepsAttributes) else None  # asked once: protocols answer slowly
        self._stands_until = 0
        self._names = tuple(sorted({s.name for task in self.tasks for s in task.shifts if isinstance(s, Attribute)}))
        self._sees = any(isinstance(shift, ObservationShift) for task in self.tasks for shift in task.shifts)
        if self._names:
            if not isinstance(inner, Attributed):
                raise TypeError(f"{type(inner).__name__} has no attributes to set: leave out {', '.join(self._names)}")
            inner.watch_attributes(self._names)
        self.begin_life(0)
        self.take_curriculum(0, 0)  # a shift that does not fit is refused now

    @property
    def exact_state(self) -> bool:
        """That of the backend inside."""
        return self.inner.exact_state

    @property
    def switches_in_episode(self) -> bool:
        """True where the backend inside can, or need not because all tasks run the same one."""
        return self.inner.switches_in_episode or len(set(self._inner_of.tolist())) == 1

    @property
    def episode_limit(self) -> int | None:
        """That of the backend inside."""
        return self.inner.episode_limit

    @property
    def stream_at_work(self) -> int | None:
        """That of the backend inside."""
        return self.inner.stream_at_work

    def begin_life(self, seed: int) -> None:
        """Begins a life inside and counts episodes and steps from 0."""
        self.inner.begin_life(seed)
        self._keys = np.array([spawn(seed, "shifts", stream) for stream in range(self.num_envs)], dtype=np.uint64)
        self._episodes = np.full(self.num_envs, -1, dtype=np.int64)
        self._steps = np.zeros(self.num_envs, dtype=np.int64)
        self._place(np.zeros(self.num_envs, dtype=np.int64))

    def take_curriculum(self, seed: int, clock: int) -> None:
        """Draws what the shifts of this curriculum draw."""
        self._curriculum, self._clock = seed, clock if self._held is None else self._held[0]
        self._bound = [self._bind(task) for task in self.tasks]
        self._in_force: dict[str, npt.NDArray[np.float64]] = {}
        self._own: dict[str, npt.NDArray[np.float64]] = {}  # attributes as the envs have them by themselves

    def standstill(self, clock: int) -> tuple[int, IntArray]:
        """Returns the moment at which a copy's time shall stand still (``hold``), given the clock of the life."""
        return (clock, self._episodes.copy()) if self._held is None else self._held

    def hold(self, clock: int, ages: IntArray) -> None:
        """Lets the time of lives stand still at this moment, from the next life on: for evaluation.

        Args:
            clock: of the life.
            ages: episodes [N] of its streams; stream i here takes the age of stream i mod N there.
        """
        self._held = clock, np.resize(np.maximum(ages, 0), self.num_envs)

    def set_tasks(self, tasks: IntArray) -> None:
        """Changes the shifts of running episodes, and the physics where they differ."""
        if len(set(self._inner_of.tolist())) > 1:
            self.inner.set_tasks(self._inner_of[tasks])  # a fresh array, never written to
        self._place(tasks)

    def reset(self, streams: IntArray, tasks: IntArray) -> None:
        """Begins episodes inside, with the attributes that are in force now."""
        moved = tasks is not self._tasks
        if moved:
            self._place(tasks)
        self._episodes[streams] += 1
        self._steps[streams] = 0
        self._set_attributes()
        self.inner.reset(streams, self._inner_tasks)
        if moved or self._keeps is None:
            self._in_force = {}  # a backend may set its own constants where the task changes

    def step(self, actions: npt.NDArray[Any], waiting: BoolArray | None) -> Outcome:
        """Steps inside, with shifted actions, and shifts the rewards."""
        self._set_attributes()
        moment = self._moment()
        actions = self._shifted("action", actions, moment)
        reward, terminated, truncated = self.inner.step(actions, waiting)
        reward = self._shifted("reward", reward, moment)
        if waiting is None:
            self._steps += 1
        else:
            self._steps += ~waiting
        if self._held is None:
            self._clock += self.num_envs - (0 if waiting is None else int(np.count_nonzero(waiting)))
        return reward, terminated, truncated

    def observations(self) -> Any:
        """Returns the batch inside, shifted."""
        seen = self.inner.observations()
        if not self._sees:
            return seen
        return cast_batch(self._shifted("observation", seen, self._moment()), self.single_observation_space)

    def get_state(self) -> dict[str, Any]:
        """Returns the state inside and the counters; what is drawn follows from the curriculum."""
        arrays = {"tasks": self._tasks, "keys": self._keys, "episodes": self._episodes, "steps": self._steps}
        counters = {"curriculum": self._curriculum, "clock": self._clock}
        return {"inner": self.inner.get_state(), **counters, **{name: array.copy() for name, array in arrays.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up a state of ``get_state``."""
        self.inner.set_state(state["inner"])
        self._keys = np.array(state["keys"], dtype=np.uint64)
        self._episodes, self._steps = np.array(state["episodes"], np.int64), np.array(state["steps"], np.int64)
        self.take_curriculum(int(state["curriculum"]), int(state["clock"]))
        self._place(np.array(state["tasks"], dtype=np.int64))

    def close(self) -> None:
        """Closes the backend inside."""
        self.inner.close()

    def _bind(self, task: ShiftedTask) -> _Bound:
        bound, space = _Bound(), self.inner.single_observation_space
        for place, shift in enumerate(task.shifts):
            seed = spawn(self._curriculum, task.name, place)
            if isinstance(shift, ObservationShift):
                bound.observation.append(shift.bind(space, seed))
                space = shift.space(space)
            elif isinstance(shift, ActionShift):
                bound.action.append(shift.bind(self.single_action_space, seed))
            elif isinstance(shift, RewardShift):
                bound.reward.append(shift.bind(seed))
            elif isinstance(shift, Attribute):
                bound.attributes.setdefault(shift.name, []).append(shift.bind(seed))
            else:
                raise TypeError(f"shift {place} of task {task.name!r} is no shift of observation, action, reward or "
                                f"attribute: {shift!r}")  # fmt: skip
        return bound

    def _place(self, tasks: IntArray) -> None:
        """Takes up which task each stream is in, and which streams each task has; None: all of them."""
        self._tasks, self._inner_tasks = tasks, self._inner_of[tasks]
        self._in_force, self._own = {}, {}
        present = np.unique(tasks).tolist()
        self._groups: list[tuple[int, IntArray | None]] = [
            (task, None if len(present) == 1 else np.flatnonzero(tasks == task)) for task in present
        ]
        self._moving = [s for task in present for s in self.tasks[task].shifts if isinstance(s, Attribute)]

    def _moment(self) -> Moment:
        ages = self._episodes if self._held is None else self._held[1]
        return Moment(self._clock, self._episodes, self._steps, self._keys, ages)

    def _shifted(self, kind: str, batch: Any, moment: Moment) -> Any:
        parts = []
        for task, rows in self._groups:
            part, where = (batch, moment) if rows is None else (_take(batch, rows), moment.of(rows))
            for apply in getattr(self._bound[task], kind):
                part = apply(part, where)
            if rows is None:
                return part
            parts.append((rows, part))
        return _joined(parts, self.num_envs)

    def _set_attributes(self) -> None:
        """Sets what has changed of every named attribute; where a task does not name it, it is the env's own."""
        if not self._names or (self._in_force and self._clock < self._stands_until):
            return
        moment, changed = self._moment(), {}
        wanted = {name: self._wanted(name, moment) for name in self._names}
        self._stands_until = min((shift.stands_until(moment.clock) for shift in self._moving), default=sys.maxsize)
        if self._keeps is not None:
            self._in_force = wanted
            self._keeps.set_all_attributes(wanted)
            return
        for name, values in wanted.items():
            known = self._in_force.get(name)
            if known is None or not np.array_equal(known, values):
                changed[name] = self._in_force[name] = values
        assert isinstance(self.inner, Attributed)
        for name, values in changed.items():
            self.inner.set_attribute(name, self._streams, self._inner_tasks, values)

    def _wanted(self, name: str, moment: Moment) -> npt.NDArray[np.float64]:
        """What an attribute should be on every stream now [B]."""
        if name not in self._own:
            assert isinstance(self.inner, Attributed)
            self._own[name] = self.inner.default_attribute(name, self._streams, self._inner_tasks)
        values = self._own[name]
        for task, rows in self._groups:
            for apply in self._bound[task].attributes.get(name, ()):
                if rows is None:
                    values = apply(values, moment)
                else:
                    values = values.copy()
                    values[rows] = apply(values[rows], moment.of(rows))
        return values


def make_task_backend(tasks: Sequence[Task], num_envs: int) -> Backend:
    """Builds Python envs, and shifts around them where a task has any; equal envs are built once."""
    if not any(task.shifts for task in tasks):
        return PythonBackend(tasks, num_envs)
    plain: list[Task] = []
    shifted = []
    for task in tasks:
        alike = [i for i, other in enumerate(plain) if other.make == task.make and _equal(other.params, task.params)]
        if not alike:
            plain.append(Task(task.name, task.make, task.params))
        shifted.append(ShiftedTask(task.name, alike[0] if alike else len(plain) - 1, task.shifts))
    return ShiftedBackend(PythonBackend(plain, num_envs), shifted)


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether params are the same; what cannot say so in one word (an array) must be the same object."""
    if one.keys() != other.keys():
        return False
    for mine, theirs in ((one[key], other[key]) for key in one):
        try:
            same = mine is theirs or bool(mine == theirs)
        except (TypeError, ValueError):
            same = False
        if not same:
            return False
    return True


def _take(batch: Any, rows: IntArray) -> Any:
    return {key: entry[rows] for key, entry in batch.items()} if isinstance(batch, dict) else batch[rows]


def _joined(parts: list[tuple[IntArray, Any]], count: int) -> Any:
    """Puts parts of rows back where they came from."""
    first = parts[0][1]
    if isinstance(first, dict):
        return {key: _joined([(rows, part[key]) for rows, part in parts], count) for key in first}
    whole = np.empty((count, *first.shape[1:]), np.result_type(*(part for _, part in parts)))
    for rows, part in parts:
        whole[rows] = part
    return whole
