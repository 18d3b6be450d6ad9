"""A killed life goes on to the same end, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nl_agents.training import Agent, checkpoint, resume
from nl_agents.training.life import Life
from tests.training.small import live

RECORDS = ("episodes.csv", "task_log.csv", "effective_log.csv", "levels.csv", "decisions.jsonl", "progress.csv")
STEPS = 1200


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


def vanish(life: Life, *, save: bool, seconds: float) -> None:
    """What the system does for a killed process: buffers are lost, the lock falls."""
    assert life.folder is not None
    folder_of_life = life.folder
    for record in folder_of_life._records().values():
        record._pending.clear()
        record._pending_size = 0
    folder_of_life.close()


@pytest.mark.parametrize(
    "place",
    ["collect", "update", "between", "checkpoint", "before-first-checkpoint"],
)
def test_life_cut_anywhere_resumes_to_the_same_end(
    place: str, tmp_path: Path, reference: tuple[Path, Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"count": 0}

    def cut_after(count: int, original: object) -> object:
        def wrapped(*arguments: object, **options: object) -> object:
            calls["count"] += 1
            if calls["count"] > count:
                raise Killed
            return original(*arguments, **options)  # type: ignore[operator]

        return wrapped

    from nl_agents.learning import learner
    from nl_agents.training import actor, checkpoint_format, life

    targets = {
        "collect": (actor.Actor, "_step", 100),
        "update": (learner.InnerLearner, "_update", 30),
        "between": (life.Life, "_record", 9),
        "checkpoint": (checkpoint, "write_durably", 4),
        "before-first-checkpoint": (learner.InnerLearner, "_update", 1),
    }
    owner, name, count = targets[place]
    assert checkpoint_format.write_durably is checkpoint.write_durably
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cut_after(count, getattr(owner, name)))
        patch.setattr(Life, "_close", vanish)
        with pytest.raises(Killed):
            live(tmp_path / "run", steps=STEPS)
    assert_same_life(resume(tmp_path / "run"), reference[1], tmp_path / "run", reference[0])


@pytest.mark.parametrize("wait", [0.3, 0.9])
def test_sigkill_at_a_random_moment(wait: float, tmp_path: Path, reference: tuple[Path, Agent]) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "tests.training.small", str(folder), "cartpole-flip:demo", str(STEPS)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (folder / "episodes.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert_same_life(resume(folder), reference[1], folder, reference[0])


def test_environment_without_exact_state_is_made_anew_in_both_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EnvPool's road, walked with Python MiniGrid that is declared unable to keep its state."""
    from nl_agents.tasks import python_backend

    monkeypatch.setattr(python_backend, "keeps_state", lambda env: False)
    options = {"sequence": "minigrid-recurring", "backend": "python", "steps": 700}
    whole = live(tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        original = Life._turn
        count = {"turns": 0}

        def cut(self: Life, *arguments: float) -> None:
            count["turns"] += 1
            if count["turns"] > 7:
                raise Killed
            original(self, *arguments)

        patch.setattr(Life, "_turn", cut)
        patch.setattr(Life, "_close", vanish)
        with pytest.raises(Killed):
            live(tmp_path / "cut", **options)
    assert_same_life(resume(tmp_path / "cut"), whole, tmp_path / "cut", tmp_path / "whole")
