"""Hidden means hidden: from a start no one can tell the task; and the tasks really differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nl_agents import envs

RUNNABLE = [name for name, suite in envs.SUITES.items() if suite.runs_here]

# Pairs of tasks whose starts look alike by design; the others of a suite differ in what is seen, by nature.
PAIRS = [
    ("cartpole-flip", "standard", "flipped"),
    ("needle", "within-10", "across-10"),
    ("control-drift", "cartpole-sine", "cartpole-walk"),
    ("control-drift", "acrobot-sine", "acrobot-abrupt"),
    ("control-drift", "pendulum-ou", "pendulum-linear"),
    ("minigrid-goal-reversal", "left-pays", "right-pays"),
    ("minigrid-memory-switch", "S7-seen-match", "S7-seen-other"),
    ("minigrid-memory-switch", "S7-match", "S7-other"),
]
SHIFTED = [("control-obs-shift", "cartpole-1", "cartpole-2"), ("permute-long", "order-000", "order-001")]


def flat(seen: Any) -> np.ndarray:
    parts = [seen[key] for key in sorted(seen)] if isinstance(seen, dict) else [seen]
    return np.concatenate([np.asarray(part, float).reshape(len(part), -1) for part in parts], axis=1)


def starts(suite: str, task: str, seed: int, rounds: int = 12) -> np.ndarray:
    """Starts of 32 x ``rounds`` episodes, and with them the check that ``info`` is empty."""
    sequence = envs.SUITES[suite].task_env(task, num_envs=32, seed=seed)
    rows = []
    for _ in range(rounds):
        seen, told = sequence.reset()
        assert told == {}
        rows.append(flat(seen))
    return np.concatenate(rows)


def accuracy(one: np.ndarray, other: np.ndarray) -> float:
    """Of a linear classifier (ridge regression on the labels), fitted on one half and asked about the other half."""
    features = np.concatenate([one, other])
    labels = np.repeat([1.0, -1.0], [len(one), len(other)])
    features = np.c_[(features - features.mean(0)) / (features.std(0) + 1e-9), np.ones(len(features))]
    order = np.random.default_rng(0).permutation(len(labels))
    fit, ask = order[::2], order[1::2]
    gram = features[fit].T @ features[fit] + 5.0 * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, features[fit].T @ labels[fit])
    return float(np.mean((features[ask] @ weights > 0) == (labels[ask] > 0)))


@pytest.mark.parametrize(("suite", "first", "second"), PAIRS)
def test_a_start_does_not_tell_the_task(suite: str, first: str, second: str) -> None:
    found = accuracy(starts(suite, first, 1), starts(suite, second, 2))
    assert abs(found - 0.5) < 0.1  # 384 are asked: four standard deviations of guessing


def test_the_classifier_sees_what_differs() -> None:
    found = accuracy(starts("control-obs-shift", "cartpole-1", 1), starts("control-obs-shift", "cartpole-2", 1))
    assert found > 0.95


@pytest.mark.parametrize(("suite", "first", "second"), PAIRS[:-1] + SHIFTED)
def test_the_tasks_differ(suite: str, first: str, second: str) -> None:
    """From the same seed, the same actions lead elsewhere or pay something else; the mazes have a test of their own."""
    lives = []
    for task in (first, second):
        sequence = envs.SUITES[suite].task_env(task, num_envs=16, seed=3)
        random, rows = np.random.default_rng(0), []
        rows.append(flat(sequence.reset()[0]).tolist())
        sequence.action_space.seed(0)
        for _ in range(400):
            if sequence.action_space.dtype is not None and sequence.action_space.dtype.kind == "i":
                actions = random.integers(0, sequence.single_action_space.n, 16)
            else:
                actions = sequence.action_space.sample()
            seen, reward, *_ = sequence.step(actions)
            rows.append([*flat(seen).ravel().tolist(), *reward.tolist()])
        lives.append(rows)
    assert lives[0] != lives[1]


@pytest.mark.parametrize("name", sorted(RUNNABLE))
def test_what_each_level_tells(name: str) -> None:
    for level, keys in (("hidden", set()), ("notified", {"task_changed"}), ("task-id", {"task_changed", "task_id"})):
        sequence = envs.make_sequence(name, num_envs=2, info=level, backend="python" if "recurring" in name else "auto")  # type: ignore[arg-type]
        assert set(sequence.reset()[1]) == keys
        assert set(sequence.step(sequence.action_space.sample())[4]) == keys


@pytest.mark.parametrize("name", sorted(RUNNABLE))
def test_stable_baselines_sees_every_suite(name: str) -> None:
    sequence = envs.make_sequence(name, num_envs=3, backend="python" if "recurring" in name else "auto")
    view = envs.to_sb3(sequence, flatten=True)
    assert view.observation_space.contains(view.reset()[0])
    seen, reward, ended, told = view.step(sequence.action_space.sample())
    assert seen.shape == (3, *view.observation_space.shape) and len(told) == len(reward) == len(ended) == 3
