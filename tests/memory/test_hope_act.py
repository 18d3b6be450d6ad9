"""The Hope core's compiled act step against its forward, and what it may not do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from nl_agents.memory import HopeCore, HopeState
from nl_agents.memory import hope as module

pytest.importorskip("numba")
SIZE, ACTIONS, STEPS = 5, 2, 40


@pytest.fixture(autouse=True, params=[torch.float64, torch.float32], ids=str)
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    torch.manual_seed(0)
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def make(size: int = SIZE, actions: int = ACTIONS, **options: Any) -> HopeCore:
    options = {"heads": 2, "key_size": 8, "chunk": 4, "level_period": 8, "level_size": 6} | options
    core = HopeCore(size, 12, actions, **options)
    for parameter in core.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return core


def lived_in(core: HopeCore, streams: int) -> HopeState:
    *leaves, clock = core.initial_state(streams)
    return HopeState(*(0.3 * torch.randn_like(leaf) for leaf in leaves), clock)


def both(core: HopeCore, streams: int, actions: bool = True, flags: bool = True) -> Iterator[tuple[Any, Any]]:
    """Yields what act and forward make of the same life, step by step."""
    given = lived_in(core, streams)
    state = HopeState(*(leaf.clone() for leaf in given))
    for t in range(STEPS):
        phase, x = t % core.clock_period, torch.randn(1, streams, core.input_size)
        first, valid = torch.rand(1, streams) < 0.2, torch.rand(1, streams) < 0.8
        last = torch.randn(1, streams, core.action_size) if actions and core.action_size else None
        inputs = (first, valid if flags else None, last, phase)
        with torch.no_grad():
            y, state = core(x, state, *inputs)
        acted, given = core.act(x, given, *inputs)
        yield (acted, *given), (y, *state)


CASES: dict[str, dict[str, Any]] = {
    "usual": {},
    "keys-of-5": {"key_size": 5},
    "keys-of-20": {"key_size": 20, "heads": 3, "never_heads": 1},
    "steps": {"chunk": 1, "level_period": 1},
    "one-level": {"slow_periods": ()},
    "three-levels": {"slow_periods": (1, 2, 3)},
    "same-width": {"size": 12},
    "no-actions": {"actions": 0},
}


@pytest.mark.parametrize("streams", [1, 3, 17])
@pytest.mark.parametrize("case", CASES)
def test_a_step_equals_forward(case: str, streams: int, dtype: torch.dtype) -> None:
    core = make(**CASES[case])
    assert module.hope_act.serves(core, torch.zeros(1, streams, core.input_size))
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for acted, expected in both(core, streams):
        for one, other in zip(acted, expected, strict=True):
            torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("scope", ["episode", "never"])
@pytest.mark.parametrize(("actions", "flags"), [(False, True), (True, False)])
def test_scopes_and_what_is_not_told(scope: Any, actions: bool, flags: bool, dtype: torch.dtype) -> None:
    core = make()
    core.fast.scope = scope
    for acted, expected in both(core, 3, actions, flags):
        for one, other in zip(acted, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_it_sees_what_the_learner_did_and_where_weights_went() -> None:
    """In-place steps, replaced tensors, loaded weights, copies and pickles."""
    core, other = make(), make()
    x, flags = torch.randn(1, 3, SIZE), torch.zeros(1, 3, dtype=torch.bool)

    def differs(one: HopeCore) -> float:
        state = one.initial_state(3)
        with torch.no_grad():
            expected, _ = one(x, state, flags, None, None, 0)
        return float((one.act(x, state, flags, None, None, 0)[0] - expected).abs().max())

    assert differs(core) < 1e-5
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.mul_(1.1)
    assert differs(core) < 1e-5
    for parameter in core.parameters():
        parameter.data = parameter.data * 1.1  # a new place
    assert differs(core) < 1e-5
    core.load_state_dict(other.state_dict())
    assert differs(core) < 1e-5
    twin, thawed = copy.deepcopy(core), pickle.loads(pickle.dumps(core))
    with torch.no_grad():
        core.norm_out.bias.add_(1.0)
    assert max(differs(twin), differs(thawed), differs(core)) < 1e-5


@pytest.mark.parametrize("where", ["x", "action", "delta", "level_gradient", "level_key"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_finite_is_left_to_forward(where: str, number: float) -> None:
    core, flags = make(), torch.zeros(1, 3, dtype=torch.bool)
    x, action, given = torch.randn(1, 3, SIZE), torch.randn(1, 3, ACTIONS), lived_in(core, 3)
    {"x": x[0], "action": action[0]}.get(where, getattr(given, where, x))[1] = number
    state = HopeState(*(leaf.clone() for leaf in given))
    with torch.no_grad():
        y, after = core(x, state, flags, None, action, 0)
    acted, acted_after = core.act(x, given, flags, None, action, 0)
    for one, other in zip((acted, *acted_after), (y, *after), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4, equal_nan=True)
    assert acted[0, [0, 2]].isfinite().all()


@pytest.mark.parametrize("where", ["x", "action"])
@pytest.mark.parametrize("number", [1e15, 1e25, 3e38])
def test_huge_numbers_are_taken_as_forward_takes_them(where: str, number: float) -> None:
    core, flags = make(), torch.zeros(1, 3, dtype=torch.bool)
    x, action, given = torch.randn(1, 3, SIZE), torch.randn(1, 3, ACTIONS), core.initial_state(3)
    {"x": x, "action": action}[where][0, 1, 0] = number
    state = HopeState(*(leaf.clone() for leaf in given))
    for phase in range(4):
        with torch.no_grad():
            y, state = core(x, state, flags, None, action, phase)
        acted, given = core.act(x, given, flags, None, action, phase)
        for one, other in zip((acted, *given), (y, *state), strict=True):
            assert one.isfinite().all()
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_no_neighbour_changes_a_stream_bit_for_bit() -> None:
    core = make()
    x, flags = torch.randn(1, 20, SIZE), torch.zeros(1, 20, dtype=torch.bool)
    together, after = core.act(x, core.initial_state(20), flags, None, None, 0)
    alone, own = core.act(x[:, 18:19], core.initial_state(1), flags[:, :1], None, None, 0)
    assert torch.equal(together[:, 18:19], alone)
    assert all(torch.equal(leaf[18:19], mine) for leaf, mine in zip(after, own, strict=True))


def test_it_leaves_alone_what_it_cannot_do() -> None:
    """Several steps, short keys, reflecting steps and half precision go the usual way."""
    serves = module.hope_act.serves
    assert not serves(make(), torch.zeros(2, 3, SIZE))
    assert not serves(make(key_size=4), torch.zeros(1, 3, SIZE))
    assert not serves(make(step_limit=2.0), torch.zeros(1, 3, SIZE))
    assert not serves(make().bfloat16(), torch.zeros(1, 3, SIZE, dtype=torch.bfloat16))
    assert not serves(make(), torch.zeros(1, 3, SIZE, dtype=torch.bfloat16))
