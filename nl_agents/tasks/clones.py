"""Copies of a life's world that leave the life alone: one task by itself, and the task of the moment for evaluation."""

from __future__ import annotations

from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.tasks.schedules import Constant
from nl_agents.tasks.sequence import TaskSequence
from nl_agents.tasks.shifted_backend import ShiftedBackend


def single_task(sequence: TaskSequence, name: str, *, num_envs: int | None = None, seed: int = 0) -> TaskSequence:
    """Returns a new life that holds one task of ``sequence`` (single-task expert, STE): for experts and references.

    What the life of ``sequence`` drew for the task (an offset, an order, the course of a drift) is the same; episodes
    are others, and drifts begin at clock 0.

    Args:
        sequence: one that ``make_sequence`` or a suite built.
        name: one of its ``task_names``.
        num_envs: streams; None takes those of ``sequence``.
        seed: of the new life's episodes.

    Raises:
        UnknownNameError: no such task.
        ConfigError: the sequence was built around a backend by hand.
    """
    return _clone(sequence, name, num_envs, seed, stands_still=False)


def evaluation_clone(
    sequence: TaskSequence, name: str | None = None, *, num_envs: int | None = None, seed: int = 0
) -> TaskSequence:
    """Returns a new life in which time stands still: one task, with its drifts as they are in ``sequence`` now.

    Stepping it changes nothing in ``sequence``.

    Args:
        sequence: one that ``make_sequence`` or a suite built.
        name: one of its ``task_names``; None takes the task that its schedule has in force.
        num_envs: streams; None takes those of ``sequence``. A drift that counts each stream's episodes stands, on
            stream i, where it stands on stream i mod B of ``sequence``.
        seed: of the new life's episodes; the same seed gives the same episodes.

    Raises:
        UnknownNameError: no such task.
        ConfigError: the sequence was built around a backend by hand.
    """
    return _clone(sequence, name or sequence.task_log[-1][1], num_envs, seed, stands_still=True)


def _clone(sequence: TaskSequence, name: str, num_envs: int | None, seed: int, stands_still: bool) -> TaskSequence:
    if name not in sequence.task_names:
        raise UnknownNameError("task", name, sequence.task_names)
    if sequence.rebuild is None:
        raise ConfigError(
            "this sequence was built around a backend by hand: set its rebuild to a function of (task names, streams) "
            "that builds such a backend anew"
        )
    backend = sequence.rebuild((name,), sequence.num_envs if num_envs is None else num_envs)
    if stands_still and isinstance(backend, ShiftedBackend) and isinstance(sequence.backend, ShiftedBackend):
        backend.hold(*sequence.backend.standstill(sequence.clock))
    clone = TaskSequence(
        backend, (name,), Constant(), seed=seed, switch=sequence.switch, curriculum_seed=sequence.curriculum
    )
    clone.recommended, clone.rebuild = dict(sequence.recommended), sequence.rebuild
    return clone
