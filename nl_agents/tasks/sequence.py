"""A life as a ``gymnasium.vector.VectorEnv``: tasks follow one another, and the agent may or may not be told."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from nl_agents.errors import EnvironmentCrashedError, StateMismatchError
from nl_agents.seeding import spawn
from nl_agents.tasks.backend import Backend, BoolArray, FloatArray, IntArray
from nl_agents.tasks.schedules import Schedule

InfoLevel = Literal["hidden", "notified", "task-id"]
Switch = Literal["in-episode", "next-reset"]
Autoreset = Literal["next-step", "same-step"]

_NEVER = sys.maxsize
_STATE_FORMAT = 1
_MODES = {"next-step": AutoresetMode.NEXT_STEP, "same-step": AutoresetMode.SAME_STEP}


class TaskSequence(VectorEnv[Any, Any, Any]):
    """B streams that live through one schedule of tasks on one clock.

    The clock counts valid env steps over all streams; the step on which ``next-step`` autoreset begins an episode
    does not count. A switch scheduled at step s takes effect at the first vector step that begins with clock >= s:
    ``in-episode`` it changes the physics of running episodes there, ``next-reset`` each stream takes the new task
    with its next episode. Nothing is ever cut short.

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

    Attributes:
        clock: valid env steps over all streams in this life.
        task_log: ``(scheduled step, task name)`` of every switch that came due, from step 0 on. For evaluation only.
        effective_log: ``(clock, stream, task name)``: from this clock on that stream ran this task.
    """

    clock: int
    task_log: list[tuple[int, str]]
    effective_log: list[tuple[int, int, str]]

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
    ) -> None:
        _check_choice("info", info, get_args(InfoLevel))
        _check_choice("switch", switch, get_args(Switch))
        _check_choice("autoreset", autoreset, get_args(Autoreset))
        if switch == "in-episode" and not backend.switches_in_episode:
            raise ValueError("these envs switch only with an episode: expected switch='next-reset', got 'in-episode'")
        self.backend, self.schedule = backend, schedule
        self.task_names = list(task_names)
        self.info_level: InfoLevel = info
        self.switch: Switch = switch
        self.num_envs = backend.num_envs
        self.single_observation_space = backend.single_observation_space
        self.single_action_space = backend.single_action_space
        self.observation_space = batch_space(backend.single_observation_space, self.num_envs)
        self.action_space = batch_space(backend.single_action_space, self.num_envs)
        self.set_autoreset(autoreset)
        self._all_streams = np.arange(self.num_envs)
        self._warn_if_short()
        self._start_life(seed)
        self._started = False

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
        if not self._started:
            self._guarded(self.backend.begin_life, spawn(self._seed, "env"))
            self._started = True
        self._changed = np.zeros(self.num_envs, dtype=np.bool_)
        self._waiting, self._num_waiting = np.zeros(self.num_envs, dtype=np.bool_), 0
        self._begin_episodes(self._all_streams)
        self._ran = self._active
        return self.backend.observations(), self._told()

    def step(self, actions: Any) -> tuple[Any, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Steps every stream once (``next-step``: begins an episode where the last step ended one).

        Args:
            actions: [B, ...] as the action space says; ignored where an episode begins.

        Returns:
            Observations, reward [B] float64, terminated [B], truncated [B], info. Fresh arrays, safe to keep.

        Raises:
            EnvironmentCrashedError: an env raised; the text names stream, task and clock.
            ValueError: actions of the wrong shape or out of range.
        """
        actions = self._checked_actions(actions)
        self._ran = self._active
        num_waiting = self._num_waiting
        waiting = self._waiting if num_waiting else None
        try:
            reward, terminated, truncated = self.backend.step(actions, waiting)
        except Exception as error:
            raise self._crash(error) from error
        if self.info_level != "hidden":
            self._changed = np.zeros(self.num_envs, dtype=np.bool_)
        self.clock += self.num_envs - num_waiting
        if self.clock >= self._next_step:
            self._follow_schedule()
        ended = terminated | truncated
        final = None
        if self._same_step:
            if ended.any():
                final = self.backend.observations()
                self._begin_episodes(ended.nonzero()[0])
        else:
            if num_waiting:
                self._begin_episodes(self._waiting.nonzero()[0])
            self._waiting, self._num_waiting = ended, int(np.count_nonzero(ended))
        info = self._told()
        if final is not None:
            self._add_final(info, final, ended)
        return self.backend.observations(), reward, terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the backend."""
        self.backend.close()

    # ---------------------------------------------------------------- ground truth and settings

    @property
    def stream_tasks(self) -> IntArray:
        """Task index [B] under which each stream's latest transition ran: ground truth, for evaluation only."""
        return self._ran.copy()

    @property
    def exact_state(self) -> bool:
        """Whether ``get_state`` and ``set_state`` give a bit-exact continuation; if not, use ``recreate``."""
        return self.backend.exact_state

    def set_autoreset(self, autoreset: Autoreset) -> None:
        """Chooses ``next-step`` or ``same-step`` autoreset; possible whenever no stream waits for its next episode."""
        if getattr(self, "_num_waiting", 0):
            raise ValueError("autoreset cannot change while a stream waits for its next episode; call reset() first")
        self._same_step = autoreset == "same-step"
        self.metadata = {"autoreset_mode": _MODES[autoreset]}

    # ---------------------------------------------------------------- saving

    def get_state(self) -> dict[str, Any]:
        """Returns the whole life as nested dicts of plain JSON values and arrays.

        Raises:
            StateMismatchError: the backend cannot give its state exactly.
        """
        if not self.exact_state:
            raise StateMismatchError(
                "this sequence's envs cannot give their state; call recreate(index) and reset() at every checkpoint"
            )
        names = {name: index for index, name in enumerate(self.task_names)}
        return {
            "format": _STATE_FORMAT,
            "tasks": list(self.task_names),
            "num_envs": self.num_envs,
            "seed": self._seed,
            "clock": self.clock,
            "started": self._started,
            "task_log": [[step, name] for step, name in self.task_log],
            "effective_log": np.array([(at, i, names[name]) for at, i, name in self.effective_log], np.int64),
            "active": self._active.copy(),
            "ran": self._ran.copy(),
            "waiting": self._waiting.copy(),
            "backend": self.backend.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up a life that ``get_state`` of an equal sequence gave; the next ``step`` continues it exactly.

        Raises:
            StateMismatchError: a state of other tasks, another number of streams or another format.
        """
        for key, mine in (("format", _STATE_FORMAT), ("tasks", self.task_names), ("num_envs", self.num_envs)):
            if state.get(key) != mine:
                raise StateMismatchError(
                    f"the saved sequence has {key} {state.get(key)!r}, this one {mine!r}; build the sequence as it was"
                )
        self._start_life(int(state["seed"]))
        self.clock = int(state["clock"])
        while self.clock >= self._next_step:
            self._take_switch()
        if [list(entry) for entry in self.task_log] != [list(entry) for entry in state["task_log"]]:
            raise StateMismatchError("the saved task log does not follow from this schedule; give the same schedule")
        entries = np.asarray(state["effective_log"], dtype=np.int64).reshape(-1, 3).tolist()
        self.effective_log = [(at, stream, self.task_names[task]) for at, stream, task in entries]
        self._active = np.array(state["active"], dtype=np.int64)
        self._ran = np.array(state["ran"], dtype=np.int64)
        self._waiting = np.array(state["waiting"], dtype=np.bool_)
        self._num_waiting = int(np.count_nonzero(self._waiting))
        self._started = bool(state["started"])
        self.backend.set_state(state["backend"])

    def recreate(self, index: int) -> None:
        """Builds the envs anew where their state cannot be kept; call ``reset()`` next.

        Clock, schedule and logs stay; the envs' randomness becomes a pure function of the life's seed and ``index``,
        so that an interrupted and an uninterrupted life go on alike when both do this at every checkpoint.

        Args:
            index: number of the checkpoint, int >= 0.
        """
        self._guarded(self.backend.begin_life, spawn(self._seed, "recreate", index))
        self._waiting, self._num_waiting = np.zeros(self.num_envs, dtype=np.bool_), 0
        self._started = True

    # ---------------------------------------------------------------- inside

    def _start_life(self, seed: int) -> None:
        self._seed = seed
        self.clock = 0
        self.task_log, self.effective_log = [], []
        self._upcoming: Iterator[tuple[int, int]] = self.schedule.switches(
            spawn(seed, "schedule"), len(self.task_names)
        )
        self._active = np.full(self.num_envs, -1, dtype=np.int64)
        self._ran = self._active
        self._scheduled = -1
        self._changed = np.zeros(self.num_envs, dtype=np.bool_)
        self._waiting, self._num_waiting = np.zeros(self.num_envs, dtype=np.bool_), 0
        self._started = False
        self._next_step, self._next_task = next(self._upcoming)
        if self._next_step != 0:
            raise ValueError(f"a schedule must begin at step 0, this one begins at {self._next_step}: close the gap")
        self._take_switch()

    def _take_switch(self) -> None:
        """Makes the upcoming switch the scheduled task and looks up the one after."""
        if self._next_task != self._scheduled:
            self._scheduled = self._next_task
            self.task_log.append((self._next_step, self.task_names[self._scheduled]))
        before = self._next_step
        self._next_step, self._next_task = next(self._upcoming, (_NEVER, self._scheduled))
        if self._next_step <= before:
            raise ValueError(
                f"switches must come at rising steps, got {self._next_step} after {before}: no task may have length 0"
            )

    def _follow_schedule(self) -> None:
        while self.clock >= self._next_step:
            self._take_switch()
        if self.switch == "in-episode":
            self._enter_task(self._all_streams)
            self._guarded(self.backend.set_tasks, self._active)

    def _enter_task(self, streams: IntArray) -> None:
        """Puts the scheduled task in force on these streams and logs where that is a change."""
        moving = streams[self._active[streams] != self._scheduled]
        if moving.size:
            newborn = self._active[moving[0]] < 0
            self._active = self._active.copy()  # _ran keeps the old one
            self._active[moving] = self._scheduled
            self._changed[moving] = not newborn
            name = self.task_names[self._scheduled]
            self.effective_log.extend((self.clock, stream, name) for stream in moving.tolist())

    def _begin_episodes(self, streams: IntArray) -> None:
        self._enter_task(streams)
        self._guarded(self.backend.reset, streams, self._active)

    def _told(self) -> dict[str, Any]:
        if self.info_level == "hidden":
            return {}
        told: dict[str, Any] = {"task_changed": self._changed.copy()}
        if self.info_level == "task-id":
            told["task_id"] = self._active.copy()
        return told

    def _add_final(self, info: dict[str, Any], final: Any, ended: BoolArray) -> None:
        rows = np.full(self.num_envs, None, dtype=object)
        for stream, row in enumerate(iterate(self.observation_space, final)):
            if ended[stream]:
                rows[stream] = row
        info["final_obs"], info["_final_obs"] = rows, ended.copy()

    def _checked_actions(self, actions: Any) -> npt.NDArray[Any]:
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(
                f"expected actions of shape {self.action_space.shape}, one row a stream, got {actions.shape}"
            )
        space = self.single_action_space
        if isinstance(space, gym.spaces.Discrete):
            if actions.dtype.kind not in "iu":
                raise ValueError(f"expected integer actions for {space}, got dtype {actions.dtype}")
            low = int(space.start)
            if ((actions < low) | (actions >= low + int(space.n))).any():
                raise ValueError(f"expected actions of {space}, got {actions.min()} to {actions.max()}")
        return actions

    def _guarded(self, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            raise self._crash(error) from error

    def _crash(self, error: Exception) -> EnvironmentCrashedError:
        stream = self.backend.stream_at_work
        where = "all streams" if stream is None else f"stream {stream}"
        task = self._scheduled if stream is None else int(self._active[stream])
        return EnvironmentCrashedError(
            f"the environment of task {self.task_names[task]!r} raised {type(error).__name__} on {where} at clock "
            f"{self.clock}: {error}; repair the environment, then resume from the last checkpoint"
        )

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
