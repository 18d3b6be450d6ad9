"""The Hope core against its slow judge, and what is particular to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nl_agents.errors import StateMismatchError
from nl_agents.memory import self_modifying
from nl_agents.memory.delta_scan import pieces
from nl_agents.memory.hope import HopeCore, HopeState
from nl_agents.memory.reference import hope_reference

STEPS, STREAMS, SIZE, WIDTH, ACTIONS = 13, 3, 5, 6, 2


@pytest.fixture(autouse=True, params=["compiled", "portable"])
def _both_forms(request: pytest.FixtureRequest, double: None) -> None:
    if request.param == "portable":
        request.getfixturevalue("portable")
    assert request.param == "portable" or self_modifying.compiled is not None, "numba is missing"


def make(
    chunk: int = 4,
    never: int = 1,
    period: int = 8,
    scope: str = "never",
    step_limit: float = 1.0,
    projections: float | None = None,
) -> HopeCore:
    core = HopeCore(
        SIZE, WIDTH, ACTIONS, heads=2, key_size=3, chunk=chunk, never_heads=never, retention=(3.0, 50.0),
        level_period=period, level_size=4, slow_periods=(2, 4), step_limit=step_limit, projection_retention=projections,
    )  # fmt: skip
    core.fast.scope = scope  # type: ignore[assignment]
    for parameter in core.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return core


def inputs(gaps: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    is_first = torch.rand(STEPS, STREAMS) < 0.2
    is_first[0, 0] = is_first[5, 1] = is_first[6, 1] = is_first[STEPS - 1, 2] = True
    is_valid = torch.rand(STEPS, STREAMS) > (0.2 if gaps else -1.0)
    return torch.randn(STEPS, STREAMS, SIZE), is_first, is_valid, torch.randn(STEPS, STREAMS, ACTIONS)


def lived_in(core: HopeCore, phase: int) -> HopeState:
    fresh = core.initial_state(STREAMS)
    leaves = [0.3 * torch.randn_like(leaf) for leaf in fresh[:-1]]
    return HopeState(*leaves, torch.full((STREAMS,), phase))


def outcome(y: Tensor, state: HopeState) -> Tensor:
    torch.manual_seed(7)
    return sum((leaf * torch.randn(leaf.shape)).sum() for leaf in (y, *state[:-1]))  # type: ignore[return-value]


@pytest.mark.parametrize(("chunk", "never", "period", "scope", "phase", "step_limit", "projections"), [
    (4, 1, 8, "never", 0, 1.0, None), (4, 1, 8, "never", 3, 1.0, None), (1, 1, 2, "never", 0, 1.0, None),
    (16, 0, 5, "episode", 7, 1.0, None), (3, 2, 4, "episode", 2, 1.0, None), (4, 1, 8, "never", 3, 2.0, None),
    (1, 1, 2, "never", 0, 2.0, None), (16, 0, 5, "episode", 7, 1.5, None), (3, 2, 4, "episode", 2, 0.5, None),
    (4, 1, 8, "never", 3, 1.0, 5.0), (1, 1, 2, "never", 0, 1.0, 2.0), (3, 1, 4, "episode", 2, 2.0, 7.0),
])  # fmt: skip
def test_equals_the_slow_judge_in_values_and_gradients(
    chunk: int, never: int, period: int, scope: str, phase: int, step_limit: float, projections: float | None
) -> None:
    core = make(chunk, never, period, scope, step_limit, projections)
    x, is_first, is_valid, action = inputs()
    x.requires_grad_()
    state = HopeState(*(leaf.requires_grad_() for leaf in lived_in(core, phase)[:-1]), torch.full((STREAMS,), phase))
    wanted = [x, *state[:-1], *core.parameters()]
    y, after = core(x, state, is_first, is_valid, action)
    y_slow, after_slow = hope_reference(core, x, state, is_first, is_valid, action)
    for fast, slow in zip((y, *after), (y_slow, *after_slow), strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-9, rtol=1e-9)
    mine = torch.autograd.grad(outcome(y, after), wanted, allow_unused=True)
    theirs = torch.autograd.grad(outcome(y_slow, after_slow), wanted, allow_unused=True)
    for leaf, fast, slow in zip(wanted, mine, theirs, strict=True):
        zero = torch.zeros_like(leaf)
        torch.testing.assert_close(zero if fast is None else fast, zero if slow is None else slow, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("step_limit", [0.5, 1.0, 2.0])
def test_scan_gradients_match_finite_differences(step_limit: float) -> None:
    core = make(step_limit=step_limit)
    x, is_first, is_valid, action = inputs()
    state = lived_in(core, 2)
    names = [name for name, _ in core.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        result = torch.func.functional_call(
            core, dict(zip(names, values, strict=True)), (x, state, is_first, is_valid, action)
        )
        return outcome(*result)

    values = tuple(parameter.detach().clone().requires_grad_() for parameter in core.parameters())
    assert torch.autograd.gradcheck(run, values, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_every_meta_parameter_gets_a_gradient_in_mid_episode() -> None:
    core = make()
    x, _, _, action = inputs()
    nothing = torch.zeros(STEPS, STREAMS, dtype=torch.bool)
    core(x, lived_in(core, 0), nothing, None, action)[0].square().sum().backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_act_time_level_changes_only_at_its_period() -> None:
    core = make(period=4)
    x, is_first, _, action = inputs()
    state, changed = core.initial_state(STREAMS), []
    with torch.no_grad():
        for t in range(STEPS):
            before = state.level_delta
            _, state = core(x[t : t + 1], state, is_first[t : t + 1], None, action[t : t + 1])
            changed.append(not torch.equal(before, state.level_delta))
    assert [t for t in range(STEPS) if changed[t]] == [3, 7, 11]


def test_anchor_moves_only_at_chunk_ends_and_resets() -> None:
    core = make(chunk=4)
    x, _, _, action = inputs()
    nothing = torch.zeros(1, STREAMS, dtype=torch.bool)
    state, moved = core.initial_state(STREAMS), []
    with torch.no_grad():
        for t in range(STEPS):
            before = state.anchor
            _, state = core(x[t : t + 1], state, nothing, None, action[t : t + 1])
            moved.append(not torch.equal(before, state.anchor))
    assert [t for t in range(STEPS) if moved[t]] == [3, 7, 11]


def test_streams_on_different_clocks_run_each_on_its_own() -> None:
    core = make()
    x, is_first, is_valid, action = inputs()
    state = lived_in(core, 0)._replace(phase=torch.tensor([3, 0, 3]))
    y, after = core(x, state, is_first, is_valid, action)
    y_slow, after_slow = hope_reference(core, x, state, is_first, is_valid, action)
    torch.testing.assert_close(y, y_slow, atol=1e-9, rtol=1e-9)
    for fast, slow in zip(after, after_slow, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-9, rtol=1e-9)


def test_a_new_core_is_a_residual_path_around_its_cms() -> None:
    """Zero-initialised outputs: act-time and learner-time levels leave their host as it was (ad-hoc stacking, 7.3)."""
    core = HopeCore(SIZE, WIDTH, ACTIONS, heads=2, key_size=3)
    x, is_first, _, action = inputs()
    z = torch.randn(STEPS, STREAMS, WIDTH)
    y, _ = core.fast(z, x, core.fast.initial_state(STREAMS), is_first, None, action, 0)
    assert torch.equal(y, z)
    for level in core.slow:
        assert torch.equal(level(z), z)


@pytest.mark.parametrize("openness", [0.0, 2.0, 20.0])
@pytest.mark.parametrize("kind", ["constant", "alternating", "random"])
def test_a_write_that_reflects_lengthens_a_row_by_no_more_than_its_target(kind: str, openness: float) -> None:
    core = make(chunk=1, step_limit=2.0)
    size, steps = core.memory.key_size, 60
    core.memory.gate_bias.data[:, 0] = openness  # at 20 every step is a whole reflection
    core.memory.memory_0.data[:, size : 2 * size] *= 20.0  # targets close to 1 and -1
    x = torch.randn(steps, STREAMS, SIZE) if kind == "random" else torch.ones(steps, STREAMS, SIZE)
    if kind == "alternating":
        x[::2] = -1.0
    nothing, state = torch.zeros(1, STREAMS, dtype=torch.bool), core.initial_state(STREAMS)
    start = (core.memory.memory_0 + core.memory.residual).detach().mT  # [H, K, R]
    longest = start.square().sum(1)
    before = longest
    with torch.no_grad():
        for t in range(steps):
            _, state = core(x[t : t + 1], state, nothing, None, torch.zeros(1, STREAMS, ACTIONS))
            now = (start + state.delta).square().sum(2)  # [B, H, R]
            assert bool((now <= torch.maximum(longest, before + 1.0) + 1e-9).all())
            before = now


@pytest.mark.slow
@pytest.mark.parametrize("step_limit", [1.0, 2.0])
@pytest.mark.parametrize("kind", ["constant", "huge", "alternating", "zero", "random"])
def test_memory_stays_bounded_over_1e5_adversarial_steps(kind: str, step_limit: float) -> None:
    torch.set_default_dtype(torch.float32)
    core = HopeCore(SIZE, 8, ACTIONS, heads=4, key_size=4, chunk=16, step_limit=step_limit)
    steps = 100_000
    x = {
        "constant": torch.ones(1, 1, SIZE).expand(steps, 1, SIZE),
        "huge": torch.randn(steps, 1, SIZE) * 1e6,
        "alternating": torch.ones(steps, 1, SIZE) * (1 - 2 * (torch.arange(steps) % 2))[:, None, None],
        "zero": torch.zeros(steps, 1, SIZE),
        "random": torch.randn(steps, 1, SIZE),
    }[kind]
    state = core.initial_state(1)
    largest = 0.0
    with torch.no_grad():
        for start in range(0, steps, 1000):
            piece = x[start : start + 1000]
            flags = torch.zeros(piece.shape[:2], dtype=torch.bool)
            y, state = core(piece, state, flags, None, torch.zeros(*piece.shape[:2], ACTIONS))
            assert y.isfinite().all()
            largest = max(largest, float(state.delta.norm(dim=(2, 3)).max()))
            assert float(state.level_delta.norm(dim=(1, 2)).max()) < core.fast.size  # sqrt(P) targets sqrt(K) keys
    # a key of unit length is overwritten, not piled up: each row holds at most ~ sqrt(K) targets of size <= 1 + |M_0|
    rows, size = core.memory.rows, core.memory.key_size
    target = 1.0 + float((core.memory.memory_0.detach() + core.memory.residual).norm(dim=2).max())
    assert largest < 4.0 * target * (rows * size) ** 0.5


@pytest.mark.parametrize(("arguments", "message"), [
    ({"chunk": 0}, "chunk must be an integer >= 1"),
    ({"level_period": 0}, "period must be an integer >= 1"),
    ({"slow_periods": (0,)}, "period must be an integer >= 1"),
    ({"never_heads": 9}, "never_heads must lie in"),
    ({"retention": (0.5, 10.0)}, "retention must be two finite time constants"),
    ({"step_limit": 2.1}, r"step_limit must lie in \(0, 2\].*got 2.1"),
    ({"step_limit": 0.0}, r"step_limit must lie in \(0, 2\].*got 0.0"),
    ({"projection_retention": 0.0}, "projection_retention must be a time constant > 0"),
])  # fmt: skip
def test_bad_options_say_what_was_expected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HopeCore(SIZE, WIDTH, ACTIONS, **arguments)


def test_bad_input_says_what_was_expected() -> None:
    core = make()
    x, is_first, _, _ = inputs()
    state = core.initial_state(STREAMS)
    with pytest.raises(ValueError, match="time first"):
        core(x[..., :2], state, is_first)
    with pytest.raises(TypeError, match="must be bool"):
        core(x, state, is_first.double())
    with pytest.raises(StateMismatchError, match="holds 1 streams"):
        core(x, core.initial_state(1), is_first)
    with pytest.raises(StateMismatchError, match="expects a HopeState"):
        core(x, tuple(state), is_first)
    with pytest.raises(StateMismatchError, match="expects packed states"):
        core.unpack(torch.zeros(2, 3))


@pytest.mark.parametrize(("steps", "period", "phase", "expected"), [
    (5, 4, 0, [(0, 4, True), (4, 5, False)]),
    (5, 4, 3, [(0, 1, True), (1, 5, True)]),
    (2, 8, 1, [(0, 2, False)]),
])  # fmt: skip
def test_pieces_end_at_multiples_of_the_period(steps: int, period: int, phase: int, expected: list[Any]) -> None:
    assert [tuple(piece) for piece in pieces(steps, period, phase)] == expected
