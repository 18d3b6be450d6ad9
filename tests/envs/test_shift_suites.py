"""The suites made of shifts: what changes, what does not, and that a start gives nothing away that it should not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nl_agents import envs
from nl_agents.envs import control_drift, permute_long
from nl_agents.tasks import TaskSequence


def starts(sequence: TaskSequence, episodes: int = 1) -> np.ndarray:
    seen, told = sequence.reset(seed=3)
    assert told == {}
    return np.asarray(seen)


@pytest.mark.parametrize("env", ["cartpole", "acrobot"])
def test_levels_differ_by_a_constant(env: str) -> None:
    suite = envs.SUITES["control-obs-shift"]
    plain = starts(suite.task_env(f"{env}-0", num_envs=8))
    for level in (1, 9):
        offset = starts(suite.task_env(f"{env}-{level}", num_envs=8)) - plain
        np.testing.assert_allclose(offset, np.tile(offset[0], (8, 1)), atol=1e-5)
        assert np.abs(offset[0]).max() > 0.3
    drawn = [starts(suite.task_env("cartpole-1", num_envs=1, seed=0)) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)  # reset(seed=3): the life's curriculum


def test_offsets_have_the_spread_of_the_source() -> None:
    sequence = envs.make_sequence("control-obs-shift", num_envs=1)
    found = []
    for seed in range(40):
        sequence.reset(seed=seed)
        zero = np.zeros((1, 4), np.float32)
        found += [bound.observation[0](zero, sequence.backend._moment()) for bound in sequence.backend._bound]
    offsets = np.stack(found).reshape(40, 10, 4)
    assert (offsets[:, 0] == 0).all() and abs(offsets[:, 1:].std() - 2.0) < 0.1


def test_the_exact_preset_counts_episodes() -> None:
    sequence = envs.make_sequence("control-obs-shift:exact", seed=0)
    assert sequence.num_envs == 1 and sequence.backend.episode_limit == 400
    sequence.reset()
    ended = 0
    while ended < 400:
        _, _, terminated, truncated, _ = sequence.step(np.array([1]))
        assert len(sequence.task_log) == 1 + (ended + int((terminated | truncated)[0]) >= 400)
        ended += int((terminated | truncated)[0])
    assert [name for _, name in sequence.task_log] == ["cartpole400-0", "cartpole400-1"]


def test_every_order_is_new_and_holds_the_same_numbers() -> None:
    suite = envs.SUITES["permute-long"]
    one, other = (starts(suite.task_env(task, num_envs=8)) for task in ("order-000", "order-001"))
    assert one.shape == (8, 20) and not np.array_equal(one, other)
    backend = suite.make_backend(permute_long.TASKS, 2, "auto")
    backend.begin_life(0)
    backend.reset(np.arange(2), np.zeros(2, np.int64))
    orders = {
        tuple(bound.observation[1](np.arange(20.0)[None], backend._moment())[0].astype(int)) for bound in backend._bound
    }
    assert len(orders) == 100 and all(sorted(order) == list(range(20)) for order in orders)


@pytest.mark.parametrize("env", ["cartpole", "pendulum", "acrobot"])
@pytest.mark.parametrize("kind", ["steady", "sine", "ou", "linear", "walk", "abrupt"])
def test_constants_drift_within_their_range(env: str, kind: str) -> None:
    suite, names = envs.SUITES["control-drift"], control_drift.DRIFTING[env]
    backend = suite.make_backend((f"{env}-{kind}",), 2, "auto")
    backend.begin_life(0)
    backend.take_curriculum(5, 0)
    backend.reset(np.arange(2), np.zeros(2, np.int64))
    ways = []
    for clock in range(0, 500_000, 1_250):
        backend._clock = clock
        backend._set_attributes()
        ways.append([float(column_of(backend.inner, name)[0]) for name in names])
    own = [float(backend.inner.default_attribute(name, np.arange(1), np.zeros(1, int))[0]) for name in names]
    multiples = np.array(ways) / np.array(own)
    assert (multiples >= 0.5 - 1e-9).all() and (multiples <= 1.5 + 1e-9).all()
    moves, jumps = np.ptp(multiples, axis=0), np.abs(np.diff(multiples, axis=0)).max()
    assert (moves == 0).all() if kind == "steady" else (moves > 0.2).all()
    assert jumps > 0.3 if kind == "abrupt" else jumps < 0.3
    if kind in ("ou", "walk", "abrupt"):
        assert abs(np.corrcoef(multiples[:, 0], multiples[:, 1])[0, 1]) < 0.9  # each goes its own way


def column_of(physics: Any, name: str) -> np.ndarray:
    return np.asarray((physics._constants if hasattr(physics, "_constants") else physics.constant)[name])


def test_pendulum_and_acrobot_live_under_drift() -> None:
    for preset in ("pendulum", "acrobot"):
        sequence = envs.make_sequence(f"control-drift:{preset}", num_envs=4, seed=1)
        sequence.action_space.seed(0)
        sequence.reset()
        rows = [sequence.step(sequence.action_space.sample())[:2] for _ in range(30)]
        state = sequence.get_state()
        actions = [sequence.action_space.sample() for _ in range(250)]
        after = [sequence.step(action)[0] for action in actions]
        sequence.set_state(state)
        np.testing.assert_array_equal(after, [sequence.step(action)[0] for action in actions])
        assert np.isfinite([seen for seen, _ in rows]).all()


@pytest.mark.parametrize("name", ["control-obs-shift", "permute-long", "control-drift"])
def test_there_is_one_backend(name: str) -> None:
    with pytest.raises(ValueError, match="native backend only, got backend='envpool'; use 'auto'"):
        envs.make_sequence(name, backend="envpool")
