"""Laws that every registered memory core obeys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.memory import CORES, MemoryCore, continuum, make_core, self_modifying

STEPS, STREAMS, SIZE, WIDTH, ACTIONS = 17, 4, 5, 8, 3
SMALL: dict[str, Any] = {"heads": 2, "key_size": 4, "scope": "split"}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "hope": ("hope", {"heads": 2, "key_size": 4, "chunk": 4, "level_period": 8}),
    "hope-portable": ("hope", {"heads": 2, "key_size": 4, "chunk": 4, "level_period": 8}),
    "hope-step": ("hope", {"heads": 2, "key_size": 4, "chunk": 1, "level_period": 3}),
    "hope-reflecting": ("hope", {"heads": 2, "key_size": 4, "chunk": 4, "level_period": 8, "step_limit": 2.0}),
    "hope-episode": ("hope", {"heads": 2, "key_size": 4, "chunk": 5, "never_heads": 0, "level_period": 5}),
    "cms": ("cms", {"periods": (2, 6), "size": 3}),
    "cms-nested": ("cms", {"periods": (2, 4, 8), "size": 3, "variant": "nested", "scope": "split"}),
    "cms-independent": ("cms", {"periods": (5, 1), "size": 3, "variant": "independent", "reduction": "sum"}),
    "cms-episode": ("cms", {"periods": (3, 6), "size": 3, "variant": "nested", "scope": "episode", "radius": 0.5}),
    "gated-delta": ("gated-delta", {"heads": 2, "scope": "split"}),
    "gated-delta-reflecting": ("gated-delta", {"heads": 2, "scope": "split", "step_limit": 2.0}),
    "self-modifying": ("self-modifying", {**SMALL, "chunk": 4}),
    "self-modifying-exact-episode": ("self-modifying", {**SMALL, "scope": "episode", "chunk": 1}),
    "self-modifying-plain-episode": (
        "self-modifying",
        {**SMALL, "scope": "episode", "write": "gd", "momentum": False, "decay": False, "window": 0, "chunk": 3},
    ),
    "self-modifying-dot": ("self-modifying", {**SMALL, "objective": "dot", "own_targets": False, "chunk": 32}),
    "self-modifying-two-chunks": ("self-modifying", {**SMALL, "chunk": 4, "projection_chunk": 2, "read": "anchor"}),
    "self-modifying-mlp": ("self-modifying", {**SMALL, "memory": "mlp", "chunk": 4, "adaptive_query": True}),
    "self-modifying-mlp-episode": ("self-modifying", {**SMALL, "memory": "mlp", "scope": "episode", "chunk": 3}),
    "self-modifying-mlp-exact": ("self-modifying", {**SMALL, "memory": "mlp", "chunk": 1, "write": "gd"}),
    "titans": ("titans", {"heads": 2, "scope": "split"}),
    "titans-episode": ("titans", {"heads": 2, "scope": "episode", "momentum": 0.8}),
    "titans-chunk": ("titans", {"heads": 2, "scope": "split", "chunk": 4}),
    "titans-chunk-episode": ("titans", {"heads": 2, "scope": "episode", "chunk": 3}),
    "attention-episode": ("attention", {"heads": 2, "window": 5}),
    "attention-never": ("attention", {"heads": 4, "groups": 2, "window": 3, "scope": "never"}),
    "diagonal": ("diagonal", {"states": 3}),
    "diagonal-episode": ("diagonal", {"states": 2, "scope": "episode"}),
    "lstm-episode": ("lstm", {"scope": "episode"}),
    "lstm-never": ("lstm", {"scope": "never"}),
    "gru-episode": ("gru", {"scope": "episode"}),
    "gru-never": ("gru", {"scope": "never"}),
    "feed-forward": ("feed-forward", {}),
}
CLOCKED = ("hope", "cms")  # their chunks follow a clock that survives resets: fresh at equal phase, tested below
EPISODIC = [name for name in VARIANTS if name.endswith("-episode") and VARIANTS[name][0] not in CLOCKED] + [
    "feed-forward"
]
FORGETFUL = [name for name in EPISODIC if name != "feed-forward"]


def test_every_core_is_under_law() -> None:
    assert {name for name, _ in VARIANTS.values()} == set(CORES)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=VARIANTS)
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MemoryCore:
    name, options = VARIANTS[request.param]
    if request.param == "hope-portable":
        for module in (self_modifying, continuum):
            monkeypatch.setattr(module, "compiled", None)
    if name in ("hope", "cms"):
        options = {**options, "action_size": ACTIONS}
    made = make_core(name, input_size=SIZE, width=WIDTH, **options)
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made


class Life:
    """Random inputs with resets on the first, on consecutive and on the last steps, and with gaps."""

    def __init__(self) -> None:
        self.x = torch.randn(STEPS, STREAMS, SIZE)
        self.is_first = torch.rand(STEPS, STREAMS) < 0.15
        self.is_first[0, 0] = self.is_first[6, 1] = self.is_first[7, 1] = self.is_first[STEPS - 1, 2] = True
        self.is_valid = torch.rand(STEPS, STREAMS) > 0.15
        self.action = torch.randn(STEPS, STREAMS, ACTIONS)

    def run(self, core: MemoryCore, state: Any, start: int = 0, stop: int = STEPS) -> tuple[Tensor, Any]:
        part = slice(start, stop)
        return core(self.x[part], state, self.is_first[part], self.is_valid[part], self.action[part])


def close(mine: Any, theirs: Any, tolerance: float = 1e-9) -> None:
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


def test_sequence_equals_its_steps(core: MemoryCore) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    whole, end = life.run(core, state)
    outputs = []
    with torch.no_grad():
        for t in range(STEPS):
            y, state = life.run(core, state, t, t + 1)
            outputs.append(y)
    close((torch.cat(outputs), *state), (whole, *end))


def test_float32_sequence_equals_its_steps(core: MemoryCore) -> None:
    core.float()
    life, state = Life(), core.initial_state(STREAMS)
    life.x, life.action = life.x.float(), life.action.float()
    whole, _ = life.run(core, state)
    outputs = []
    with torch.no_grad():
        for t in range(STEPS):
            y, state = life.run(core, state, t, t + 1)
            outputs.append(y)
    close((torch.cat(outputs),), (whole,), 1e-5)


def test_acting_gives_the_numbers_of_forward(core: MemoryCore) -> None:
    life, steps = Life(), range(STEPS)
    state = given = core.initial_state(STREAMS)
    phase = 0
    for t in steps:
        part = slice(t, t + 1)
        inputs = (life.is_first[part], life.is_valid[part], life.action[part])
        given = type(given)(*(leaf.clone() for leaf in given))  # it is given away
        with torch.no_grad():
            y, state = core(life.x[part], state, *inputs, phase)
        acted, given = core.act(life.x[part], given, *inputs, phase)
        assert torch.equal(acted, y)
        assert all(torch.equal(a, b) for a, b in zip(given, state, strict=True))
        phase = (phase + 1) % core.clock_period


def test_hope_acts_in_place_of_the_state_it_was_given() -> None:
    core = make_core("hope", input_size=SIZE, width=WIDTH, heads=2, key_size=4, chunk=4)
    state = core.initial_state(STREAMS)
    _, after = core.act(torch.randn(1, STREAMS, SIZE), state, torch.zeros(1, STREAMS, dtype=torch.bool), phase=0)
    assert after.delta.data_ptr() == state.delta.data_ptr()
    assert after.delta.abs().max() > 0


@pytest.mark.parametrize("cut", [1, 4, 8, 11, STEPS - 1])
def test_sequence_may_be_split_anywhere(core: MemoryCore, cut: int) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    whole, end = life.run(core, state)
    first, middle = life.run(core, state, 0, cut)
    second, last = life.run(core, middle, cut)
    close((torch.cat((first, second)), *last), (whole, *end))


def test_streams_do_not_touch_each_other(core: MemoryCore) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    whole, _ = life.run(core, state)
    order = torch.tensor([2, 0, 3])
    life.x, life.is_first, life.is_valid = life.x[:, order], life.is_first[:, order], life.is_valid[:, order]
    life.action = life.action[:, order]
    part, _ = life.run(core, core.initial_state(3))
    close((part,), (whole[:, order],))


def test_outputs_do_not_depend_on_the_future(core: MemoryCore) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    before, _ = life.run(core, state)
    life.x[10:] += 1.0
    life.action[10:] -= 1.0
    after, _ = life.run(core, state)
    assert torch.equal(before[:10], after[:10])


@pytest.mark.parametrize("name", EPISODIC)
def test_reset_is_a_fresh_start_without_leak(name: str) -> None:
    kind, options = VARIANTS[name]
    core = make_core(kind, input_size=SIZE, width=WIDTH, **options)
    life = Life()
    life.is_first[9], life.is_valid[:] = True, True
    life.x.requires_grad_()
    late, _ = life.run(core, life.run(core, core.initial_state(STREAMS), 0, 9)[1], 9)
    fresh, _ = life.run(core, core.initial_state(STREAMS), 9)
    assert torch.equal(late, fresh)
    (gradient,) = torch.autograd.grad(life.run(core, core.initial_state(STREAMS))[0][9:].sum(), life.x)
    assert gradient[:9].abs().sum() == 0 and gradient[9:].abs().sum() > 0


@pytest.mark.parametrize("start", [0, 9])
@pytest.mark.parametrize("name", FORGETFUL)
def test_reset_stops_what_is_not_finite(name: str, start: int) -> None:
    """What was remembered is nan or infinite: from the reset on, values and gradients are those of a newborn memory."""
    kind, options = VARIANTS[name]
    core = make_core(kind, input_size=SIZE, width=WIDTH, **options)
    life, fresh = Life(), core.initial_state(STREAMS)
    life.is_first[start], life.is_valid[:] = True, True
    life.x.requires_grad_()
    ruined = type(fresh)(*(torch.full_like(leaf, torch.nan) if leaf.is_floating_point() else leaf for leaf in fresh))
    ruined[0][::2] = torch.inf
    results = []
    for state in (ruined, fresh):
        y, after = life.run(core, state)
        (gradient,) = torch.autograd.grad(y[start:].sum(), life.x)
        results.append((y[start:], gradient[start:], *after))
    assert all(part.isfinite().all() for part in results[0])
    close(*results)


def test_hope_episode_levels_restart_fresh_at_equal_phase_while_never_levels_go_on() -> None:
    core = make_core("hope", input_size=SIZE, width=WIDTH, heads=2, key_size=4, chunk=4, level_period=8)
    life = Life()
    life.is_first[:], life.is_valid[:] = False, True
    life.is_first[8] = True
    life.x.requires_grad_()
    _, before = life.run(core, core.initial_state(STREAMS), 0, 8)
    _, after = life.run(core, before, 8, 12)
    _, fresh = life.run(core, core.initial_state(STREAMS), 8, 12)
    assert core.memory.clears.tolist() == [True, False]  # type: ignore[union-attr]
    assert torch.equal(after.delta[:, 0], fresh.delta[:, 0])
    assert not torch.allclose(after.delta[:, 1], fresh.delta[:, 1])
    (leak,) = torch.autograd.grad(after.delta[:, 0].sum(), life.x)
    assert leak[:8].abs().sum() == 0 and leak[8:].abs().sum() > 0


def test_cms_episode_levels_restart_fresh_at_equal_phase_while_never_levels_go_on() -> None:
    options = {"variant": "nested", "periods": (2, 4, 8), "size": 3, "scope": "split"}
    core = make_core("cms", input_size=SIZE, width=WIDTH, **options)
    life = Life()
    life.is_first[:], life.is_valid[:] = False, True
    life.is_first[8] = True
    life.x.requires_grad_()
    _, before = life.run(core, core.initial_state(STREAMS), 0, 8)
    _, after = life.run(core, before, 8, 16)
    _, fresh = life.run(core, core.initial_state(STREAMS), 8, 16)
    for one, other in zip(after[:3], fresh[:3], strict=True):  # delta, gradient, start of each level
        assert torch.equal(one[:, 0], other[:, 0])
    for one, other in ((after.level_delta, fresh.level_delta), (after.level_start, fresh.level_start)):
        assert not torch.allclose(one[:, 1], other[:, 1])
    (leak,) = torch.autograd.grad(after.level_delta[:, 0].sum(), life.x)
    assert leak[:8].abs().sum() == 0 and leak[8:].abs().sum() > 0


def test_never_scope_survives_the_episode() -> None:
    for name in ("lstm", "gru", "gated-delta", "self-modifying", "titans", "attention", "diagonal"):
        core = make_core(name, input_size=SIZE, width=WIDTH, scope="never")
        life = Life()
        life.is_first[9] = True
        before, _ = life.run(core, core.initial_state(STREAMS))
        life.is_first[9] = False
        after, _ = life.run(core, core.initial_state(STREAMS))
        assert torch.equal(before, after)


def test_invalid_steps_leave_what_is_remembered(core: MemoryCore) -> None:
    life = Life()
    _, state = life.run(core, core.initial_state(STREAMS))
    nothing = torch.zeros(1, STREAMS, dtype=torch.bool)
    everything = ~nothing
    for flags in (nothing, everything):
        x, action = torch.randn(1, STREAMS, SIZE), torch.randn(1, STREAMS, ACTIONS)
        _, after = core(x, state, flags, nothing, action)
        for name, one, other in zip(state._fields, state, after, strict=True):
            if name not in ("phase", "anchor", "level_delta", "level_gradient", "level_start"):  # clocks, copies go on
                assert torch.equal(one, other), name


def test_train_equals_eval(core: MemoryCore) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    with torch.no_grad():
        assert torch.equal(life.run(core.train(), state)[0], life.run(core.eval(), state)[0])


def test_acting_changes_no_parameter(core: MemoryCore) -> None:
    before = [parameter.clone() for parameter in core.parameters()]
    with torch.no_grad():
        Life().run(core, core.initial_state(STREAMS))
    assert all(torch.equal(one, other) for one, other in zip(before, core.parameters(), strict=True))


def test_pack_and_unpack_are_inverse(core: MemoryCore) -> None:
    life = Life()
    _, state = life.run(core, core.initial_state(STREAMS))
    packed = core.pack(state)
    assert packed.shape == (STREAMS, core.state_size)
    close(core.unpack(packed), state, 0.0)
    assert core.pack(core.initial_state(2)).abs().sum() == 0


def test_gradients_match_finite_differences(core: MemoryCore) -> None:
    life = Life()
    state = core.initial_state(STREAMS)
    names = [name for name, _ in core.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        arguments = (life.x, state, life.is_first, life.is_valid, life.action)
        y, _ = torch.func.functional_call(core, dict(zip(names, values, strict=True)), arguments)
        return (y * torch.linspace(-1, 1, WIDTH)).sum()

    values = tuple(parameter.detach().clone().requires_grad_() for parameter in core.parameters())
    assert torch.autograd.gradcheck(run, values, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_saved_core_goes_on_alike(core: MemoryCore) -> None:
    life = Life()
    _, state = life.run(core, core.initial_state(STREAMS), 0, 7)
    saved = {name: value.clone() for name, value in core.state_dict().items()}
    y, _ = life.run(core, state, 7)
    for parameter in core.parameters():
        parameter.data += 1.0
    core.load_state_dict(saved)
    again, _ = life.run(core, core.unpack(core.pack(state)), 7)
    close((again,), (y,), 1e-12)  # another memory layout may sum in another order


def test_levels_have_known_scopes_and_periods(core: MemoryCore) -> None:
    for row in core.levels():
        assert row.period >= 1 and row.scope in ("episode", "never", "life")


@pytest.mark.gpu
def test_cuda_gives_the_values_states_and_gradients_of_the_cpu(core: MemoryCore) -> None:
    life, results = Life(), []
    _, state = life.run(core, core.initial_state(STREAMS))
    for device in ("cpu", "cuda"):
        core.to(device)
        flags = (life.is_first.to(device), life.is_valid.to(device), life.action.to(device))
        handed = type(state)(*(leaf.detach().to(device) for leaf in state))
        y, after = core(life.x.to(device), handed, *flags)
        grads = torch.autograd.grad((y * y).sum(), list(core.parameters()), allow_unused=True, materialize_grads=True)
        results.append([part.detach().cpu() for part in (y, *after, *grads)])
    close(results[1], results[0], 1e-8)


@pytest.mark.gpu
def test_on_cuda_a_sequence_equals_its_steps(core: MemoryCore) -> None:
    core.to("cuda")
    life, outputs = Life(), []
    for name in ("x", "is_first", "is_valid", "action"):
        setattr(life, name, getattr(life, name).cuda())
    state = core.initial_state(STREAMS)
    whole, end = life.run(core, state)
    with torch.no_grad():
        for t in range(STEPS):
            y, state = life.run(core, state, t, t + 1)
            outputs.append(y)
    close((torch.cat(outputs), *state), (whole, *end), 1e-8)


def test_unknown_names_are_told() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'hope'"):
        make_core("hoppe", input_size=4, width=8)
    with pytest.raises(ConfigError, match="no option hedas"):
        make_core("hope", input_size=4, width=8, hedas=2)
