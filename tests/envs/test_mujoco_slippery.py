"""The floor's friction really changes, and is read back from the simulator."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from nl_agents import envs
from nl_agents.tasks import Cyclic

SUITE = envs.SUITES["mujoco-slippery"]


def test_without_mujoco_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mujoco" else find(name, *rest)
    )
    with pytest.raises(ModuleNotFoundError, match=r"needs mujoco.*pip install 'nl-agents\[mujoco\]'"):
        envs.make_sequence("mujoco-slippery")


@pytest.mark.skipif(not SUITE.runs_here, reason="MuJoCo is not installed")
def test_friction_is_read_back_from_the_model() -> None:
    life = envs.make_sequence("mujoco-slippery:demo", num_envs=2, seed=1, schedule=Cyclic(every=8_000))
    life.reset()
    backend: Any = life.backend
    seen: dict[str, set[float]] = {}
    for _ in range(6_000):
        life.step(life.action_space.sample())
        for stream in range(2):
            task = backend.inner._running[stream]
            column = backend.inner._envs[stream, task].unwrapped.model.geom_friction[:, 0]
            assert np.unique(column).size == 1
            seen.setdefault(life.task_names[int(life._active[stream])], set()).add(round(float(column[0]), 6))
    assert all(len(values) == 1 for values in seen.values()) and len(seen) == 2
    assert len(set.union(*seen.values())) == 2 and all(0.02 <= value <= 2.0 for value in set.union(*seen.values()))
