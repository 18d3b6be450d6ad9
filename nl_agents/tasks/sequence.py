"""A life as a ``gymnasium.vector.VectorEnv``: tasks follow one another, and the agent may or may not be told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from nl_agents.errors import EnvironmentCrashedError, StateMismatchError
from nl_agents.seeding import spawn
from nl_agents.tasks.backend import Backend, BoolArray, Curricular, FloatArray, IntArray, Outcome
from nl_agents.tasks.clock import TaskClock
from nl_agents.tasks.schedules import Schedule

InfoLevel = Literal["hidden", "notified", "task-id"]
Switch = Literal["in-episode", "next-reset"]
Autoreset = Literal["next-step", "same-step"]
Step = tuple[Any, FloatArray, BoolArray, BoolArray, dict[str, Any]]

_STATE_FORMAT = 1
_MODES = {"next-step": AutoresetMode.NEXT_STEP, "same-step": AutoresetMode.SAME_STEP}


class TaskSequence(VectorEnv[Any, Any, Any]):
    """B streams that live through one schedule of tasks on one clock.

    The clock counts valid env steps over all streams; the step on which ``next-step`` autoreset begins an episode
    does not count. A switch scheduled at step s takes effect at the first vector step that begins with clock >= s:
    ``in-episode`` it changes the physics of running episodes there, ``next-reset`` each stream takes the new task
    with its next episode. Nothing is ever cut short. A block that begins and ends within one vector step is in
    ``task_log`` but no stream lives it.

    What ``info`` holds describes the observation returned beside it. ``hidden``: nothing. ``notified``:
    ``task_changed`` [B] bool, the task in force from this observation on is another than before. ``task-id``: that
    and ``task_id`` [B] int. What the tasks' own envs put in their ``info`` is dropped at every level.

    Args:
        backend: runs the physics.
        task_names: one name per task index.
        schedule: when which task is in force.
        seed: seed of the life that the first ``reset()`` starts, int >= 0.
        info: what the agent is told: ``hidden``, ``notified`` or ``task-id``.
        switch: what a switch does to running episodes: ``in-episode`` or ``next-reset``.
        autoreset: gymnasium's mode: ``next-step`` or ``same-step``.
        curriculum_seed: seed of the schedule and of what shifts draw, for every life of this sequence; None takes the
            life's, so that each has its own.

    Attributes:
        effective_log: ``(clock, stream, task name)``: from this clock on that stream ran this task. Ground truth.
    """

    effective_log: list[tuple[int, int, str]]
    _clock: TaskClock
    _active: IntArray  # task each stream is in; never written to in place, so that _ran keeps what was
    _ran: IntArray  # task under which each stream's latest transition ran
    _changed: BoolArray
    _waiting: BoolArray  # streams whose next episode begins on the next step
    _num_waiting: int
    _seed: int
    _started: bool  # whether the backend has begun this life
    _must_recreate: bool  # whether a state without running episodes was taken up

    def __init__(
        self,
        backend: Backend,
        task_names: Sequence[str],
        schedule: Schedule,
        *,
        seed: int = 0,
        info: InfoLevel = "hidden",
        switch: Switch = "next-reset",
        autoreset: Autoreset = "next-step",
        curriculum_seed: int | None = None,
    ) -> None:
        self.backend, self.schedule = backend, schedule  # first: a refused sequence is closed when it is collected
        _check_choice("info", info, get_args(InfoLevel))
        _check_choice("switch", switch, get_args(Switch))
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be one of nl_agents.tasks, such as Cyclic(every=25_000), got {schedule!r}")
        if switch == "in-episode" and not backend.switches_in_episode:
            raise ValueError("these envs switch only with an episode: expected switch='next-reset', got 'in-episode'")
        self.task_names = list(task_names)
        self.info_level: InfoLevel = info
        self.switch: Switch = switch
        self.num_envs = backend.num_envs
        self.single_observation_space = backend.single_observation_space
        self.single_action_space = backend.single_action_space
        self.observation_space = batch_space(backend.single_observation_space, self.num_envs)
        self.action_space = batch_space(backend.single_action_space, self.num_envs)
        self.recommended: dict[str, Any] = {}
        self.last_episode: int | None = None  # finished episodes that end the life
        self.rebuild: Callable[[tuple[str, ...], int], Backend] | None = None  # such a backend anew, for clones
        self.curriculum_seed = curriculum_seed
        self._all_streams = np.arange(self.num_envs)
        self._nobody = np.zeros(self.num_envs, dtype=np.bool_)
        self._start_life(seed)
        self.set_autoreset(autoreset)
        self._warn_if_short()

    # ---------------------------------------------------------------- the gymnasium interface

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode on every stream.

        Args:
            seed: an int starts a new life: clock 0, schedule and randomness from this seed. None keeps clock and
                schedule (and starts the life of the constructor's seed where none has begun).
            options: none are known; must be empty.

        Returns:
            The first observations and what the info level tells.
        """
        if options:
            raise ValueError(f"TaskSequence.reset() knows no options, got {sorted(options)}; call reset() without")
        if seed is not None:
            self._start_life(int(seed))
        if self._must_recreate:
            raise StateMismatchError("this state holds no running episodes: call recreate(index) before reset()")
        if not self._started:
            self._begin_backend(spawn(self._seed, "env"))
            self._started = True
        self._waiting, self._num_waiting = self._nobody, 0
        self._changed = self._nobody
        self._begin_episodes(self._all_streams)
        self._ran = self._active
        return self._guarded(self.backend.observations), self._told()

    def step(self, actions: Any) -> Step:
        """Steps every stream once (``next-step``: begins an episode where the last step ended one).

        Args:
            actions: [B, ...] as the action space says; ignored where an episode begins.

        Returns:
            Observations, reward [B] float64, terminated [B], truncated [B], info. Fresh arrays, safe to keep.

        Raises:
            EnvironmentCrashedError: an env raised; the text names stream, task and clock.
            ResetNeeded: no episode is running.
            ValueError: actions of the wrong shape or out of range.
        """
        actions = self._checked_actions(actions)
        if not self._started or self._must_recreate:
            raise ResetNeeded("no episode is running: call reset() before step()")
        self._ran, self._changed = self._active, self._nobody
        num_waiting, waiting = self._num_waiting, self._waiting
        step: Outcome = self._guarded(self.backend.step, actions, waiting if num_waiting else None)
        ended = step[1] | step[2]
        num_ended = int(np.count_nonzero(ended))
        if self._clock.advance(self.num_envs - num_waiting, num_ended) and self.switch == "in-episode":
            self._enter_task(self._all_streams)
            self._guarded(self.backend.set_tasks, self._active)
        if self._same_step:
            final = self._guarded(self.backend.observations) if num_ended else None
            if num_ended:
                self._begin_episodes(ended.nonzero()[0])
            return self._guarded(self.backend.observations), *step, self._told(final, ended)
        if num_waiting:
            self._begin_episodes(waiting.nonzero()[0])
        self._waiting, self._num_waiting = ended, num_ended
        return self._guarded(self.backend.observations), *step, self._told()

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the backend."""
        self.backend.close()

    # ---------------------------------------------------------------- ground truth and settings

    @property
    def is_over(self) -> bool:
        """Whether the life has had all its episodes; it may be stepped on all the same."""
        return self.last_episode is not None and self._clock.episodes >= self.last_episode

    @property
    def curriculum(self) -> int:
        """The seed from which schedule and shifts of this life were drawn."""
        return self._curriculum

    @property
    def clock(self) -> int:
        """Valid env steps over all streams in this life."""
        return self._clock.now

    @property
    def task_log(self) -> list[tuple[int, str]]:
        """``(scheduled step, task name)`` of every switch that came due, from step 0 on. Ground truth."""
        return self._clock.log

    @property
    def stream_tasks(self) -> IntArray:
        """Task index [B] under which each stream's latest transition ran (after ``reset``: of the next). Ground truth.

        It is what an episode that ended on the last step belongs to, also where the next one has begun already.
        """
        return np.array(self._ran)

    @property
    def exact_state(self) -> bool:
        """Whether ``get_state`` and ``set_state`` give a bit-exact continuation; if not, use ``recreate``."""
        return self.backend.exact_state

    def set_autoreset(self, autoreset: Autoreset) -> None:
        """Chooses ``next-step`` or ``same-step`` autoreset; possible whenever no stream waits for its next episode."""
        _check_choice("autoreset", autoreset, get_args(Autoreset))
        if self._num_waiting:
            raise ValueError("autoreset cannot change while a stream waits for its next episode; call reset() first")
        self._same_step = autoreset == "same-step"
        self.metadata = {"autoreset_mode": _MODES[autoreset]}

    # ---------------------------------------------------------------- saving

    def get_state(self) -> dict[str, Any]:
        """Returns the whole life as nested dicts of plain JSON values and arrays.

        Where ``exact_state`` is False it holds clock, schedule and logs but not the running episodes: whoever saves
        calls ``recreate(index)`` and ``reset()`` next, and so does whoever takes the state up.
        """
        index = {name: task for task, name in enumerate(self.task_names)}
        extra = {"episodes": self._clock.episodes} if self._clock.by_episode else {}
        if self.curriculum_seed is not None:
            extra["curriculum_seed"] = self.curriculum_seed
        return extra | {
            "format": _STATE_FORMAT,
            "tasks": list(self.task_names),
            "num_envs": self.num_envs,
            "seed": self._seed,
            "clock": self.clock,
            "started": self._started,
            "task_log": [list(entry) for entry in self.task_log],
            "effective_log": np.array([(at, stream, index[name]) for at, stream, name in self.effective_log], np.int64),
            "active": self._active.copy(),
            "ran": self._ran.copy(),
            "waiting": self._waiting.copy(),
            "backend": self.backend.get_state() if self.exact_state else None,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up a life that ``get_state`` of an equal sequence gave; the next ``step`` continues it exactly.

        Where ``exact_state`` is False, ``recreate(index)`` and ``reset()`` must come before that step.

        Raises:
            StateMismatchError: a state of other tasks, another number of streams, schedule or format.
        """
        known = {"format": _STATE_FORMAT, "tasks": self.task_names, "num_envs": self.num_envs}
        for key, mine in (known | {"curriculum_seed": self.curriculum_seed}).items():
            if state.get(key) != mine:
                raise StateMismatchError(
                    f"the saved sequence has {key} {state.get(key)!r}, this one {mine!r}; build the sequence as it was"
                )
        self._start_life(int(state["seed"]))
        log = [(int(step), str(name)) for step, name in state["task_log"]]
        self._clock.rewind_to(int(state["clock"]), log, int(state.get("episodes", 0)))
        entries = np.asarray(state["effective_log"], dtype=np.int64).reshape(-1, 3).tolist()
        self.effective_log = [(at, stream, self.task_names[task]) for at, stream, task in entries]
        self._active = np.array(state["active"], dtype=np.int64)
        self._ran = np.array(state["ran"], dtype=np.int64)
        self._waiting = np.array(state["waiting"], dtype=np.bool_)
        self._num_waiting = int(np.count_nonzero(self._waiting))
        self._started = bool(state["started"])
        self._must_recreate = state["backend"] is None
        if not self._must_recreate:
            self.backend.set_state(state["backend"])

    def recreate(self, index: int) -> None:
        """Builds the envs anew where their state cannot be kept; call ``reset()`` next.

        Clock, schedule and logs stay; the envs' randomness becomes a pure function of the life's seed and ``index``,
        so that an interrupted and an uninterrupted life go on alike when both do this at every checkpoint.

        Args:
            index: number of the checkpoint, int >= 0.
        """
        self._begin_backend(spawn(self._seed, "recreate", index))
        self._waiting, self._num_waiting = self._nobody, 0
        self._started, self._must_recreate = True, False

    # ---------------------------------------------------------------- inside

    def _start_life(self, seed: int) -> None:
        self._seed, self._started, self._must_recreate = seed, False, False
        self._curriculum = seed if self.curriculum_seed is None else self.curriculum_seed
        self._clock = TaskClock(self.schedule, spawn(self._curriculum, "schedule"), self.task_names)
        self.effective_log = []
        self._active = self._ran = np.full(self.num_envs, -1, dtype=np.int64)
        self._settled_on = -1  # the task that every stream is known to be in
        self._changed = self._nobody
        self._waiting, self._num_waiting = self._nobody, 0

    def _begin_backend(self, seed: int) -> None:
        self._guarded(self.backend.begin_life, seed)
        if isinstance(self.backend, Curricular):
            self._guarded(self.backend.take_curriculum, spawn(self._curriculum, "shifts"), self.clock)

    def _enter_task(self, streams: IntArray) -> None:
        """Puts the scheduled task in force on these streams and logs where that is a change."""
        task = self._clock.scheduled
        if task == self._settled_on:
            return
        moving = streams[self._active[streams] != task]
        if moving.size:
            newborn = bool(self._active[moving[0]] < 0)
            self._active, self._changed = self._active.copy(), self._changed.copy()
            self._active[moving], self._changed[moving] = task, not newborn
            name = self.task_names[task]
            self.effective_log.extend((self.clock, stream, name) for stream in moving.tolist())
        self._settled_on = task if (self._active == task).all() else -1

    def _begin_episodes(self, streams: IntArray) -> None:
        self._enter_task(streams)
        self._guarded(self.backend.reset, streams, self._active)

    def _told(self, final: Any = None, ended: BoolArray | None = None) -> dict[str, Any]:
        """Builds ``info``: what the level tells, and under same-step the last observation of ended episodes."""
        told: dict[str, Any] = {}
        if self.info_level != "hidden":
            told["task_changed"] = self._changed.copy()
        if self.info_level == "task-id":
            told["task_id"] = self._active.copy()
        if final is not None and ended is not None:
            rows = np.full(self.num_envs, None, dtype=object)
            for stream, row in enumerate(iterate(self.observation_space, final)):
                rows[stream] = row if ended[stream] else None
            told["final_obs"], told["_final_obs"] = rows, ended.copy()
        return told

    def _checked_actions(self, actions: Any) -> npt.NDArray[Any]:
        checked: npt.NDArray[Any] = np.asarray(actions)
        if checked.shape != self.action_space.shape:
            raise ValueError(
                f"expected actions of shape {self.action_space.shape}, one row a stream, got {checked.shape}"
            )
        space = self.single_action_space
        if isinstance(space, gym.spaces.Discrete):
            if checked.dtype.kind not in "iu":
                raise ValueError(f"expected integer actions for {space}, got dtype {checked.dtype}")
            shifted = checked - space.start if space.start else checked
            if shifted.astype(np.int64, order="C", copy=False).view(np.uint64).max() >= space.n:  # negative: huge
                raise ValueError(f"expected actions of {space}, got {checked.min()} to {checked.max()}")
        return checked

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Calls the backend; what it raises becomes an error that says where in the life it happened."""
        try:
            return call(*arguments)
        except Exception as error:
            stream = self.backend.stream_at_work
            where = "all streams" if stream is None else f"stream {stream}"
            task = self._clock.scheduled if stream is None else int(self._active[stream])
            raise EnvironmentCrashedError(
                f"the environment of task {self.task_names[task]!r} raised {type(error).__name__} on {where} at clock "
                f"{self.clock}: {error}; repair the environment, then resume from the last checkpoint"
            ) from error

    def _warn_if_short(self) -> None:
        limit, block = self.backend.episode_limit, self.schedule.shortest_block()
        if limit is not None and block / self.num_envs < 2 * limit:
            warnings.warn(
                f"a task lasts about {block:.0f} env steps over {self.num_envs} streams, {block / self.num_envs:.0f} "
                f"each: less than two full episodes of {limit}; use fewer streams or longer tasks",
                stacklevel=3,
            )


def _check_choice(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, known))}, got {given!r}")
