"""What a sequence is made of: tasks, and suites of them with named presets."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from nl_agents.errors import UnknownNameError
from nl_agents.tasks.backend import Backend
from nl_agents.tasks.schedules import Constant, Schedule
from nl_agents.tasks.sequence import Autoreset, InfoLevel, Switch, TaskSequence
from nl_agents.tasks.shifts import Shift


@dataclass(frozen=True)
class Task:
    """One thing to be good at.

    Args:
        name: how logs and tables call it.
        make: builds one env of it; called as ``make(**params)`` once per stream. None where a native backend runs it.
        params: what sets this task apart, for ``make`` and for the reader.
        shifts: what is changed around the env: observation, action, reward, named attributes.
    """

    name: str
    make: Callable[..., gym.Env[Any, Any]] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    shifts: tuple[Shift, ...] = ()

    def __post_init__(self) -> None:
        if self.make is not None and not callable(self.make):
            raise TypeError(
                f"Task({self.name!r}, make=...) expected a function that builds an env, got {self.make!r}; for an id "
                f'of gymnasium: Task({self.name!r}, gymnasium.make, {{"id": {self.make!r}}})'
            )
        if isinstance(self.shifts, Shift) or not all(isinstance(shift, Shift) for shift in self.shifts):
            raise TypeError(f"Task({self.name!r}, shifts=...) expected a tuple of shifts, got {self.shifts!r}")
        object.__setattr__(self, "shifts", tuple(self.shifts))


@dataclass(frozen=True)
class Preset:
    """One size of a suite.

    Args:
        doc: one line: what it is for.
        steps: env steps over all streams of one life.
        tasks: names of its tasks; the schedule's indices count in this order.
        schedule: when which task is in force.
        num_envs: streams the published tables use.
        episodes: finished episodes over all streams after which the life is over, if before ``steps``; None: never.
    """

    doc: str
    steps: int
    tasks: tuple[str, ...]
    schedule: Schedule
    num_envs: int = 16
    episodes: int | None = None


@dataclass(frozen=True)
class Suite:
    """A ready task sequence with named presets.

    Args:
        name: how commands call it.
        doc: one line: what changes and what it tests.
        tasks: names of all tasks.
        switch: what a switch does to running episodes.
        presets: sizes by name.
        default_preset: the size that the bare name means.
        make_backend: builds the physics from (task names, num_envs, backend choice).
        recommended: options that suit every agent on this suite, dotted name -> value; tuned once, the same for all.
        needs: optional package without which it cannot run, also the name of our extra that brings it.
    """

    name: str
    doc: str
    tasks: tuple[str, ...]
    switch: Switch
    presets: Mapping[str, Preset]
    default_preset: str
    make_backend: Callable[[tuple[str, ...], int, str], Backend]
    recommended: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None

    @property
    def runs_here(self) -> bool:
        """Whether what it needs is installed."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None

    def require(self) -> None:
        """Raises ModuleNotFoundError, saying how to get it, where what it needs is missing."""
        if not self.runs_here:
            raise ModuleNotFoundError(
                f"{self.name} needs {self.needs}, which is not installed: pip install 'nl-agents[{self.needs}]'",
                name=self.needs,
            )

    def preset(self, name: str | None = None) -> Preset:
        """Returns a preset by name, the default without; UnknownNameError lists the near ones."""
        name = name or self.default_preset
        if name not in self.presets:
            raise UnknownNameError(f"preset of {self.name}", name, self.presets)
        return self.presets[name]

    def sequence(
        self,
        preset: str | None = None,
        *,
        num_envs: int | None = None,
        seed: int = 0,
        schedule: Schedule | None = None,
        info: InfoLevel = "hidden",
        backend: str = "auto",
        autoreset: Autoreset = "next-step",
        curriculum_seed: int | None = None,
    ) -> TaskSequence:
        """Builds the life of a preset; see ``nl_agents.envs.make_sequence`` for the arguments."""
        size = self.preset(preset)
        life = TaskSequence(
            self.make_backend(size.tasks, size.num_envs if num_envs is None else num_envs, backend),
            size.tasks,
            size.schedule if schedule is None else schedule,
            seed=seed,
            info=info,
            switch=self.switch,
            autoreset=autoreset,
            curriculum_seed=curriculum_seed,
        )
        life.recommended = dict(self.recommended)
        life.last_episode = size.episodes
        life.rebuild = lambda names, streams: self.make_backend(names, streams, backend)
        return life

    def task_env(
        self,
        name: str,
        num_envs: int = 16,
        seed: int = 0,
        *,
        backend: str = "auto",
        autoreset: Autoreset = "next-step",
    ) -> TaskSequence:
        """Builds the life that holds one task only: for experts and random references.

        Args:
            name: one of ``tasks``.
            num_envs: streams.
            seed: seed of the life.
            backend: as in ``make_sequence``.
            autoreset: as in ``make_sequence``.
        """
        if name not in self.tasks:
            raise UnknownNameError(f"task of {self.name}", name, self.tasks)
        physics = self.make_backend((name,), num_envs, backend)
        life = TaskSequence(physics, (name,), Constant(), seed=seed, switch=self.switch, autoreset=autoreset)
        life.recommended = dict(self.recommended)
        return life
