"""A killed life goes on to the same end, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nl_agents.learning.learner import InnerLearner
from nl_agents.tasks import TaskSequence, python_backend
from nl_agents.training import Agent, checkpoint, resume
from nl_agents.training.actor import Actor
from nl_agents.training.life import Life
from tests.training.small import live

RECORDS = ("episodes.csv", "task_log.csv", "effective_log.csv", "levels.csv", "decisions.jsonl", "progress.csv")
STEPS = 700  # 11 rollouts of 64 env steps; checkpoints end rollouts 3, 5, 8, 10 and the life


def assert_same_life(mine: Agent, theirs: Agent, folder: Path, reference: Path) -> None:
    """Weights, memories and every record are equal to the last bit."""
    for name, value in theirs.policy.state_dict().items():
        assert torch.equal(mine.policy.state_dict()[name], value), name
    assert mine.actor is not None and theirs.actor is not None
    for one, other in zip(mine.actor.state, theirs.actor.state, strict=True):
        assert torch.equal(one, other)
    for record in RECORDS:
        assert (folder / record).read_bytes() == (reference / record).read_bytes(), record


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Agent]:
    """The uninterrupted life."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    return folder, live(folder, steps=STEPS)


class Killed(BaseException):
    """Stands for SIGKILL at a chosen line: nothing may clean up behind it."""


def cut_after(calls: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """``original``, but the call after so many is the process's last."""
    count = iter(range(calls))

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if next(count, None) is None:
            raise Killed
        return original(*arguments, **options)

    return wrapped


def vanish(life: Life, *, save: bool, seconds: float) -> None:
    """What the system does for a killed process: buffers are lost, the lock falls."""
    assert life.folder is not None
    folder_of_life = life.folder
    for record in folder_of_life._records().values():
        record._pending.clear()
        record._pending_size = 0
    folder_of_life.close()


# place: (owner, function, calls that still work, checkpoints found afterwards, whether half a checkpoint lies there)
PLACES: dict[str, tuple[Any, str, int, list[int], bool]] = {
    "while acting": (Actor, "_step", 7 * 16 + 4, [1, 2], False),
    "between two minibatches": (InnerLearner, "_update", 7 * 4 + 2, [1, 2], False),
    "after learning, before its records": (Life, "_record", 9, [1, 2, 3], False),
    "inside a checkpoint": (checkpoint, "write_durably", 3 * 3 + 1, [1, 2, 3], True),
    "before the first checkpoint": (InnerLearner, "_update", 1, [], False),
}


@pytest.mark.parametrize("place", PLACES)
def test_life_cut_anywhere_resumes_to_the_same_end(
    place: str, tmp_path: Path, reference: tuple[Path, Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, calls, found, half = PLACES[place]
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cut_after(calls, getattr(owner, name)))
        patch.setattr(Life, "_close", vanish)
        with pytest.raises(Killed):
            live(folder, steps=STEPS)
    assert checkpoint.CheckpointStore(folder / "checkpoints").indices() == found
    assert half == bool(list((folder / "checkpoints").glob(".rubbish-new-*")))
    assert_same_life(resume(folder), reference[1], folder, reference[0])


@pytest.mark.parametrize("checkpoints", [0, 2])
def test_a_process_killed_without_warning_resumes_to_the_same_end(
    checkpoints: int, tmp_path: Path, reference: tuple[Path, Agent]
) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "tests.training.small", str(folder), "cartpole-flip:demo", str(STEPS)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    store, deadline = checkpoint.CheckpointStore(folder / "checkpoints"), time.monotonic() + 120
    while not ((folder / "episodes.csv").exists() and len(store.indices()) >= checkpoints):
        assert process.poll() is None and time.monotonic() < deadline, "the life ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert_same_life(resume(folder), reference[1], folder, reference[0])


@pytest.mark.parametrize("backend", ["declared", "envpool"])
def test_environment_without_exact_state_is_made_anew_in_both_lives(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EnvPool's road; walked also with Python MiniGrid that is declared unable to keep its state."""
    if backend == "envpool":
        pytest.importorskip("envpool")
    else:
        monkeypatch.setattr(python_backend, "keeps_state", lambda env: False)
    made_anew: list[int] = []
    recreate = TaskSequence.recreate

    def recreated(sequence: TaskSequence, index: int) -> None:
        assert not sequence.exact_state
        made_anew.append(index)
        recreate(sequence, index)

    monkeypatch.setattr(TaskSequence, "recreate", recreated)
    options: dict[str, Any] = {
        "sequence": "minigrid-recurring",
        "backend": "envpool" if backend == "envpool" else "python",
        "steps": STEPS,
    }
    whole = live(tmp_path / "whole", **options)
    assert made_anew == [1, 2, 3, 4, 5]
    with monkeypatch.context() as patch:
        patch.setattr(Life, "_turn", cut_after(8, Life._turn))
        patch.setattr(Life, "_close", vanish)
        with pytest.raises(Killed):
            live(tmp_path / "cut", **options)
    assert made_anew[5:] == [1, 2, 3]
    again = resume(tmp_path / "cut")
    assert made_anew[8:] == [3, 4, 5]
    assert_same_life(again, whole, tmp_path / "cut", tmp_path / "whole")
