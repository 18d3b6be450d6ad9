"""minigrid-recurring: the right tasks for the right time, on either backend."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from nl_agents import envs
from nl_agents.envs import minigrid_backend, minigrid_recurring
from nl_agents.tasks import Blocks
from nl_agents.tasks.envpool_backend import EnvPoolBackend, envpool_is_installed
from nl_agents.tasks.python_backend import PythonBackend

DOOR, LAVA = 4, 9  # MiniGrid's object codes


def test_presets_are_the_published_ones() -> None:
    quick, long = (envs.preset(f"minigrid-recurring:{name}")[1] for name in ("quick", "long"))
    names = ["Empty-Random-6x6", "DoorKey-5x5", "LavaGapS5"]
    assert quick.steps == 600_000 and list(quick.tasks) == names
    assert list(quick.schedule.switches(0, 3)) == [(n * 100_000, n % 3) for n in range(6)]
    assert long.steps == 1_350_000 and list(long.tasks) == [*names, "SimpleCrossingS9N1"]
    starts = list(long.schedule.switches(0, 4))
    assert len(starts) == 12 and starts[3:5] == [(300_000, 3), (450_000, 0)]
    assert not any(at == size.steps for size, found in ((quick, starts),) for at, _ in found)


@pytest.mark.parametrize("name", minigrid_recurring.TASKS)
def test_episode_limits_are_minigrid_s_own(name: str) -> None:
    import minigrid  # noqa: F401 (registers the ids)

    assert gym.make(f"MiniGrid-{name}-v0").unwrapped.max_steps == minigrid_recurring.TASKS[name]
    if envpool_is_installed():
        import envpool

        pool = envpool.make_gymnasium(f"MiniGrid-{name}-v0", num_envs=1)
        assert pool.config["max_episode_steps"] == minigrid_recurring.TASKS[name]
        pool.close()


@pytest.mark.parametrize("backend", ["python", *(["envpool"] if envpool_is_installed() else [])])
def test_tasks_really_differ(backend: str) -> None:
    shown: dict[str, set[int]] = {}
    for name in minigrid_recurring.QUICK:
        sequence = envs.SUITES["minigrid-recurring"].task_env(name, num_envs=4, backend=backend)
        seen, _ = sequence.reset(seed=0)
        objects = set(np.unique(seen["image"][..., 0]).tolist())
        for _ in range(100):
            seen, *_ = sequence.step(np.random.default_rng(0).integers(0, 3, 4))
            objects |= set(np.unique(seen["image"][..., 0]).tolist())
        shown[name] = objects
    assert DOOR in shown["DoorKey-5x5"] and LAVA not in shown["DoorKey-5x5"]
    assert LAVA in shown["LavaGapS5"] and DOOR not in shown["LavaGapS5"]
    assert not {DOOR, LAVA} & shown["Empty-Random-6x6"]


def test_backends_are_chosen_by_name() -> None:
    tasks = minigrid_recurring.QUICK
    assert isinstance(minigrid_recurring.make_backend(tasks, 2, "python"), PythonBackend)
    chosen = minigrid_recurring.make_backend(tasks, 2, "auto")
    assert isinstance(chosen, EnvPoolBackend if envpool_is_installed() else PythonBackend)
    with pytest.raises(ValueError, match="'auto', 'envpool' or 'python', got 'gpu'"):
        envs.make_sequence("minigrid-recurring", backend="gpu")


def test_without_envpool_python_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minigrid_backend, "envpool_is_installed", lambda: False)
    assert isinstance(minigrid_recurring.make_backend(("LavaGapS5",), 2, "auto"), PythonBackend)
    with pytest.raises(ModuleNotFoundError, match="pip install envpool"):
        minigrid_recurring.make_backend(("LavaGapS5",), 2, "envpool")


def test_python_and_envpool_call_the_same_moments_a_switch() -> None:
    backends = ["python", *(["envpool"] if envpool_is_installed() else [])]
    logs = []
    for backend in backends:
        sequence = envs.make_sequence(
            "minigrid-recurring", num_envs=1, schedule=Blocks([(0, 600), (1, 600), (2, 600)]), backend=backend
        )
        sequence.reset()
        while sequence.clock < 2000:
            sequence.step([6])  # nothing: every episode lasts its task's limit
        logs.append((sequence.task_log, sequence.effective_log))
    assert all(log == logs[0] for log in logs)
    effective = [(at, name) for at, _, name in logs[0][1]]
    # Empty lasts 144, DoorKey 250, LavaGap 100 steps; a switch waits for the end of the running episode
    assert effective == [
        (0, "Empty-Random-6x6"), (720, "DoorKey-5x5"), (1220, "LavaGapS5"), (1820, "Empty-Random-6x6"),
    ]  # fmt: skip
