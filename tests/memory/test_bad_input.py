"""Bad input to any core: the error has its type, and says what was expected, what came, and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch

from nl_agents.errors import ConfigError, NlAgentsError, StateMismatchError
from nl_agents.memory import CORES, MemoryCore, make_core
from tests.memory.cores import ACTIONS, SIZE, STEPS, STREAMS, VARIANTS, WIDTH, Life, build

pytestmark = pytest.mark.usefixtures("double")
OF_EACH = {kind: name for name, (kind, _) in reversed(VARIANTS.items())}
OTHER = {kind: "gru-episode" if kind == "lstm" else "lstm-episode" for kind in CORES}


class Given:
    """A right call, to be made wrong in one thing."""

    def __init__(self, kind: str) -> None:
        life = Life()
        self.kind, self.core = kind, build(OF_EACH[kind])
        self.x, self.is_first, self.is_valid, self.action = life.x, life.is_first, life.is_valid, life.action
        self.state: Any = self.core.initial_state(STREAMS)

    def call(self, act: bool) -> None:
        run = self.core.act if act else self.core
        run(self.x, self.state, self.is_first, self.is_valid, self.action)


Change = Callable[[Given], None]


def changed(**values: Callable[[Given], Any]) -> Change:
    def change(given: Given) -> None:
        for name, value in values.items():
            setattr(given, name, value(given))

    return change


def narrow(core: MemoryCore) -> Any:
    """A state of the same type, but of a core with other sizes."""
    kind = next(name for name in CORES if isinstance(core, type(build(OF_EACH[name]))))
    sizes: dict[str, dict[str, Any]] = {
        "hope": {"heads": 3},
        "cms": {"periods": (2, 4, 8), "size": 7},
        "self-modifying": {"key_size": 3},
        "attention": {"window": 9, "heads": 2},
        "diagonal": {"states": 9},
    }
    return make_core(kind, input_size=SIZE, width=2 * WIDTH, **sizes.get(kind, {})).initial_state(STREAMS)


WRONG: dict[str, tuple[Change, type[Exception], str]] = {
    "width": (
        changed(x=lambda g: g.x[..., :2]),
        ValueError,
        rf"x must be \[T, B, {SIZE}\] \(time first, T >= 1, B >= 1\), got \({STEPS}, {STREAMS}, 2\); build the core",
    ),
    "one step without its axis": (changed(x=lambda g: g.x[0]), ValueError, rf"time first.*got \({STREAMS}, {SIZE}\)"),
    "no step": (
        changed(x=lambda g: g.x[:0], is_first=lambda g: g.is_first[:0], is_valid=lambda g: g.is_valid[:0]),
        ValueError,
        rf"T >= 1, B >= 1\), got \(0, {STREAMS}, {SIZE}\)",
    ),
    "no stream": (
        changed(
            x=lambda g: g.x[:, :0],
            is_first=lambda g: g.is_first[:, :0],
            is_valid=lambda g: g.is_valid[:, :0],
            action=lambda g: g.action[:, :0],
            state=lambda g: g.core.initial_state(0),
        ),
        ValueError,
        rf"B >= 1\), got \({STEPS}, 0, {SIZE}\)",
    ),
    "features of another precision": (
        changed(x=lambda g: g.x.float()),
        TypeError,
        r"x must be torch.float64 as the core is, got torch.float32; write x.to\(torch.float64\), or move the core",
    ),
    "features as integers": (
        changed(x=lambda g: g.x.long()),
        TypeError,
        r"x must be torch.float64 as the core is, got torch.int64; write x.to\(torch.float64\)",
    ),
    "features of numpy": (changed(x=lambda g: g.x.numpy()), TypeError, r"x must be a tensor, got ndarray; take torch"),
    "no first-step flags": (
        changed(is_first=lambda g: None),
        TypeError,
        "is_first must be a tensor, got NoneType; .* flags of False",
    ),
    "first-step flags of numpy": (
        changed(is_first=lambda g: g.is_first.numpy()),
        TypeError,
        "is_first must be a tensor, got ndarray",
    ),
    "validity flags of numpy": (
        changed(is_valid=lambda g: g.is_valid.numpy()),
        TypeError,
        "is_valid must be a tensor, got ndarray",
    ),
    "actions of numpy": (
        changed(action=lambda g: g.action.numpy()),
        TypeError,
        "last_action must be a tensor, got ndarray",
    ),
    "state of another precision": (
        changed(
            state=lambda g: type(g.state)(*(leaf.float() if leaf.is_floating_point() else leaf for leaf in g.state))
        ),
        StateMismatchError,
        r"expects \w+ of torch.float64, got torch.float32; start from core.initial_state\(batch_size\), or cast",
    ),
    "stream first": (
        changed(x=lambda g: g.x.transpose(0, 1)),
        ValueError,
        rf"is_first must be \[T, B\] = \({STREAMS}, {STEPS}\), got \({STEPS}, {STREAMS}\); .* time first as in x",
    ),
    "all stream first": (
        changed(
            x=lambda g: g.x.transpose(0, 1),
            is_first=lambda g: g.is_first.T,
            is_valid=lambda g: g.is_valid.T,
            action=lambda g: g.action.transpose(0, 1),
        ),
        StateMismatchError,
        rf"the state holds {STREAMS} streams and x has {STEPS}; x is \[T, B, D\], time first",
    ),
    "first-step flags of another type": (
        changed(is_first=lambda g: g.is_first.float()),
        TypeError,
        r"is_first must be bool, got torch.float32; write is_first.bool\(\)",
    ),
    "validity flags of another type": (
        changed(is_valid=lambda g: g.is_valid.to(torch.uint8)),
        TypeError,
        r"is_valid must be bool, got torch.uint8; write is_valid.bool\(\)",
    ),
    "validity flags of other shape": (
        changed(is_valid=lambda g: g.is_valid[:1]),
        ValueError,
        rf"is_valid must be \[T, B\] = \({STEPS}, {STREAMS}\), got \(1, {STREAMS}\); one flag a step and stream",
    ),
    "state of another core": (
        changed(state=lambda g: build(OTHER[g.kind]).initial_state(STREAMS)),
        StateMismatchError,
        r"expects a \w+State?, got \w+State; start from core.initial_state\(batch_size\)",
    ),
    "state of no core": (
        changed(state=lambda g: tuple(g.state)),
        StateMismatchError,
        r"expects a \w+, got tuple; start from core.initial_state\(batch_size\)",
    ),
    "state of another batch": (
        changed(state=lambda g: g.core.initial_state(1)),
        StateMismatchError,
        rf"the state holds 1 streams and x has {STREAMS}; x is \[T, B, D\], time first",
    ),
    "state of other options": (
        changed(state=lambda g: narrow(g.core)),
        StateMismatchError,
        r"expects \w+ of shape \[B, [\d, ]+\], got \(4, [\d, ]+\); .* start from core.initial_state\(batch_size\)",
    ),
    "actions of another size": (
        changed(action=lambda g: g.action[..., :1]),
        ValueError,
        rf"last_action must be \[T, B, {ACTIONS}\] .*, got \({STEPS}, {STREAMS}, 1\); discrete actions are fed one-hot",
    ),
    "actions as numbers": (
        changed(action=lambda g: g.action[..., 0].long()),
        ValueError,
        rf"last_action must be .*, got \({STEPS}, {STREAMS}\); discrete actions are fed one-hot",
    ),
}


def cases() -> list[Any]:
    found = []
    for kind in CORES:
        for wrong in WRONG:
            is_moot = (wrong.startswith("actions") and kind not in ("hope", "cms")) or (
                wrong == "state of other options" and kind in ("feed-forward", "mlp")
            )
            if not is_moot:
                found.append(pytest.param(kind, wrong, id=f"{kind}-{wrong.replace(' ', '_')}"))
    return found


@pytest.mark.parametrize("act", [False, True], ids=["forward", "act"])
@pytest.mark.parametrize(("kind", "wrong"), cases())
def test_a_wrong_call_is_told(kind: str, wrong: str, act: bool) -> None:
    change, error, message = WRONG[wrong]
    given = Given(kind)
    change(given)
    with pytest.raises(error, match=message):
        given.call(act)
    assert not issubclass(error, StateMismatchError) or issubclass(error, NlAgentsError)


@pytest.mark.parametrize("kind", CORES)
def test_a_packed_state_of_another_size_is_told(kind: str) -> None:
    core = build(OF_EACH[kind])
    wanted, given = core.state_size, core.state_size + 1
    with pytest.raises(
        StateMismatchError, match=rf"packed states \[B, {wanted}\], got \(2, {given}\); it was packed by"
    ):
        core.unpack(torch.zeros(2, given))


@pytest.mark.parametrize("kind", CORES)
@pytest.mark.parametrize(("name", "value"), [("input_size", 0), ("width", 0), ("input_size", 2.5)])
def test_sizes_below_one_are_told(kind: str, name: str, value: Any) -> None:
    options = {"input_size": SIZE, "width": WIDTH, **VARIANTS[OF_EACH[kind]][1], name: value}
    with pytest.raises((ValueError, TypeError), match=rf"{name} must be an integer >= 1, got {value}"):
        make_core(kind, **options)


@pytest.mark.parametrize(("kind", "options", "error", "message"), [
    ("hope", {"chunk": 0}, ValueError, r"chunk must be an integer >= 1 \(env steps\), got 0"),
    ("hope", {"chunk": 2.5}, ValueError, r"chunk must be an integer >= 1 \(env steps\), got 2.5"),
    ("hope", {"chunk": 4097, "level_period": 4096}, ValueError, r"16,777,216 env steps in common .*, got 16,781,312"),
    ("hope", {"heads": 0}, ValueError, "heads must be an integer >= 1, got 0"),
    ("hope", {"key_size": 0}, ValueError, "key_size must be an integer >= 1, got 0"),
    ("hope", {"level_size": 0}, ValueError, "level_size must be an integer >= 1, got 0"),
    ("hope", {"never_heads": 1.5}, ValueError, "never_heads must be an integer >= 0, got 1.5"),
    ("hope", {"slow_periods": (1.5,)}, ValueError, r"period must be an integer >= 1 \(learner updates\), got 1.5"),
    *(("hope", {"expansion": ratio}, ValueError, "expansion must give at least one hidden unit, got .* of 8")
      for ratio in (0.0, 0.1, -0.5, math.nan)),
    ("hope", {"level_period": 0}, ValueError, r"level_period must be an integer >= 1 \(env steps\), got 0"),
    ("hope", {"slow_periods": (0,)}, ValueError, r"period must be an integer >= 1 \(learner updates\), got 0"),
    ("cms", {"periods": (0,)}, ValueError, r"each of periods must be an integer >= 1 \(env steps\), got 0"),
    ("cms", {"slow_periods": (-1,)}, ValueError, r"each of slow_periods must be an integer >= 1 .*updates\), got -1"),
    ("cms", {"variant": "nested", "periods": (4, 6)}, ConfigError, r"6 env steps is no multiple .* take .* \(4, 8\)"),
    ("self-modifying", {"chunk": 0}, ValueError, r"chunk must be an integer >= 1 \(env steps\), got 0"),
    ("self-modifying", {"projection_chunk": 0}, ValueError, r"projection_chunk must be an integer >= 1 .*, got 0"),
    ("gated-delta", {"chunk": 0}, ValueError, r"chunk must be an integer >= 1 \(env steps\), got 0"),
    ("titans", {"chunk": 0}, ValueError, r"chunk must be an integer >= 1 \(env steps\), got 0"),
    ("attention", {"window": 0}, ValueError, r"window must be an integer >= 1 \(env steps\), got 0"),
    ("diagonal", {"states": 0}, ValueError, r"states must be an integer >= 1 \(numbers a channel\), got 0"),
    ("lstm", {"scope": "split"}, ValueError, "scope must be 'episode' or 'never', got 'split'"),
    ("gru", {"scope": "split"}, ValueError, "scope must be 'episode' or 'never', got 'split'"),
    ("feed-forward", {"depth": -1}, ValueError, r"depth must be an integer >= 0 \(blocks\), got -1"),
    ("cms", {"retention": math.inf}, ValueError, "retention must be a time constant >= 1 in env steps, got inf"),
    ("cms", {"radius": math.inf}, ValueError, "radius must be a norm > 0, got inf"),
    *((kind, {"retention": pair}, ValueError, r"retention must be two finite time constants 1 < low <= high in env")
      for kind in ("hope", "self-modifying", "gated-delta", "titans", "diagonal")
      for pair in ((10.0, math.inf), (math.nan, 10.0), (1.0, 10.0), (10.0,))),
    ("mlp", {"depth": 0}, ValueError, r"depth must be an integer >= 1 \(hidden layers\), got 0"),
    ("mlp", {"activation": "sin"}, ConfigError, "activation must be one of relu, .* or crelu, got 'sin'"),
])  # fmt: skip
def test_options_that_cannot_be_are_told(
    kind: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_core(kind, input_size=SIZE, width=WIDTH, **options)


@pytest.mark.parametrize("name", VARIANTS)
def test_integers_of_numpy_are_integers(name: str) -> None:
    """What libraries hand over as a size: SB3's ``features_dim``."""
    kind, options = VARIANTS[name]

    def numpys(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(numpys, value))
        return np.int64(value) if isinstance(value, int) and not isinstance(value, bool) else value

    given = {option: numpys(value) for option, value in options.items()}
    core = make_core(kind, input_size=cast(Any, np.int64(SIZE)), width=cast(Any, np.int32(WIDTH)), **given)
    life = Life()
    y, _ = core(life.x, core.initial_state(STREAMS), life.is_first)
    assert y.shape == (STEPS, STREAMS, WIDTH)
    assert {type(core.input_size), type(core.width), type(core.clock_period), type(core.state_size)} == {int}
    assert all(type(row.period) is int for row in core.levels())


@pytest.mark.parametrize("name", VARIANTS)
def test_actions_are_taken_in_any_precision_where_they_are_taken_at_all(name: str) -> None:
    core, life = build(name), Life()
    life.action = (life.action > 0).double()
    expected, _ = core(life.x, core.initial_state(STREAMS), life.is_first, None, life.action)
    y, _ = core(life.x, core.initial_state(STREAMS), life.is_first, None, life.action.long())
    assert torch.equal(y, expected)
    kind, options = VARIANTS[name]
    deaf = make_core(kind, input_size=SIZE, width=WIDTH, **options)
    for action in (life.action.long(), torch.full_like(life.action, torch.nan)):
        told, _ = deaf(life.x, deaf.initial_state(STREAMS), life.is_first, None, action)
        silent, _ = deaf(life.x, deaf.initial_state(STREAMS), life.is_first)
        assert torch.equal(told, silent)
        step = slice(0, 1)
        acted, _ = deaf.act(life.x[step], deaf.initial_state(STREAMS), life.is_first[step], None, action[step], 0)
        torch.testing.assert_close(acted, silent[step])
