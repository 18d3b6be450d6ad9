"""The books of a life against an account kept by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from nl_agents.training.books import Books
from nl_agents.types import Episode


def flags(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.bool_)


def rewards(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def two_streams(**known: Any) -> Any:
    env = SimpleNamespace(num_envs=2, **known)
    env.unwrapped = env
    return env


def test_an_episode_has_return_length_and_begin_on_the_common_clock() -> None:
    books = Books(two_streams())
    books.add(rewards(1, 2), flags(1, 1), flags(0, 0))
    books.add(rewards(1, 2), flags(1, 1), flags(0, 1))
    books.add(rewards(1, 9), flags(1, 1), flags(1, 0))
    assert books.take() == [Episode(4, 1, "task", 4.0, 2, 0), Episode(6, 0, "task", 3.0, 3, 0)]
    assert (books.steps, books.episodes) == (6, 2)
    books.add(rewards(0, 1), flags(1, 1), flags(0, 1))
    assert books.take() == [Episode(8, 1, "task", 10.0, 2, 4)]


def test_dummy_steps_count_for_nothing() -> None:
    books = Books(two_streams())
    books.add(rewards(1, 0), flags(1, 0), flags(0, 0))
    books.add(rewards(1, 1), flags(1, 1), flags(0, 1))
    assert books.steps == 3
    assert books.take() == [Episode(3, 1, "task", 1.0, 1, 1)]


def test_an_episode_carries_the_task_it_ended_under() -> None:
    env = two_streams(task_names=["a", "b"], stream_tasks=np.array([0, 0]))
    books = Books(env)
    books.add(rewards(1, 1), flags(1, 1), flags(1, 0))
    env.stream_tasks = np.array([0, 1])
    books.add(rewards(1, 1), flags(1, 1), flags(0, 1))
    assert [(episode.stream, episode.task) for episode in books.take()] == [(0, "a"), (1, "b")]


def test_cut_episodes_appear_in_no_record() -> None:
    books = Books(two_streams())
    books.add(rewards(5, 5), flags(1, 1), flags(0, 0))
    books.cut()
    books.add(rewards(1, 1), flags(1, 1), flags(1, 1))
    assert [tuple(episode)[3:] for episode in books.take()] == [(1.0, 1, 2)] * 2


def test_restored_books_go_on_alike() -> None:
    first, second = Books(two_streams()), Books(two_streams())
    first.add(rewards(1, 2), flags(1, 1), flags(0, 0))
    second.load_state_dict(first.state_dict())
    for books in (first, second):
        books.add(rewards(1, 2), flags(1, 1), flags(1, 1))
    assert first.take() == second.take() and first.steps == second.steps
