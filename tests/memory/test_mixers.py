"""Titans, attention, diagonal: against their slow judges, under hostile inputs, and at what they are known to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nl_agents.memory.attention import AttentionCore, AttentionState
from nl_agents.memory.base import MemoryCore
from nl_agents.memory.diagonal import DiagonalCore, scan
from nl_agents.memory.reference_mixers import attention_reference, diagonal_reference, titans_reference
from nl_agents.memory.titans import TitansCore, largest_step
from nl_agents.memory.titans_scan import Inputs, blocks
from tests.memory.judging import SIZE, STREAMS, WIDTH, Judge, equals_its_judge

pytestmark = pytest.mark.usefixtures("double")


def titans(**options: Any) -> TitansCore:
    return TitansCore(SIZE, WIDTH, heads=3, retention=(3.0, 50.0), **options)


MIXERS: dict[str, tuple[Callable[[], MemoryCore], Judge]] = {
    "titans-episode": (lambda: titans(scope="episode"), titans_reference),
    "titans-never": (lambda: titans(), titans_reference),
    "titans-split": (lambda: titans(scope="split", momentum=0.9), titans_reference),
    "titans-plain": (lambda: titans(scope="split", momentum=0.0), titans_reference),
    "titans-chunk-2": (lambda: titans(scope="split", chunk=2), titans_reference),
    "titans-chunk-4": (lambda: titans(scope="split", chunk=4), titans_reference),
    "titans-chunk-64": (lambda: titans(scope="episode", chunk=64), titans_reference),
    "attention-episode": (lambda: AttentionCore(SIZE, WIDTH, heads=2, window=4), attention_reference),
    "attention-one": (lambda: AttentionCore(SIZE, WIDTH, heads=6, groups=3, window=1), attention_reference),
    "attention-wide": (lambda: AttentionCore(SIZE, WIDTH, heads=3, groups=3, window=40), attention_reference),
    "attention-never": (lambda: AttentionCore(SIZE, WIDTH, scope="never", heads=3, window=5), attention_reference),
    "diagonal-split": (lambda: DiagonalCore(SIZE, WIDTH, states=3), diagonal_reference),
    "diagonal-episode": (lambda: DiagonalCore(SIZE, WIDTH, scope="episode", states=1), diagonal_reference),
    "diagonal-never": (lambda: DiagonalCore(SIZE, WIDTH, scope="never", states=2), diagonal_reference),
}


def lived_in(core: MemoryCore) -> Any:
    """A memory as a life leaves it, with a clock and a number of filled slots of its own for each stream."""
    state = core.initial_state(STREAMS)
    with torch.no_grad():
        _, state = core(torch.randn(7, STREAMS, SIZE), state, torch.zeros(7, STREAMS, dtype=torch.bool))
    if isinstance(state, AttentionState):
        length = torch.arange(STREAMS) % (core.window + 1)  # type: ignore[operator]
        empty = torch.arange(state.key.shape[1]) < state.key.shape[1] - length[:, None]
        key, value = (leaf.masked_fill(empty[..., None, None], 0.0) for leaf in state[:2])
        return AttentionState(key, value, length)
    if "phase" in state._fields:
        return state._replace(phase=(state.phase + torch.arange(STREAMS)) % core.clock_period)
    return state


def trained(name: str) -> MemoryCore:
    core = MIXERS[name][0]()
    for parameter in core.parameters():  # biases of zero would hide a forgotten one
        parameter.data += 0.1 * torch.randn_like(parameter)
    return core


@pytest.mark.parametrize("kind", ["plain", "resets", "gaps"])
@pytest.mark.parametrize("name", MIXERS)
def test_values_states_and_gradients_equal_the_judge(name: str, kind: str) -> None:
    core = trained(name)
    equals_its_judge(core, MIXERS[name][1], lived_in(core), kind, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", MIXERS)
def test_blocks_do_not_show(name: str) -> None:
    """A sequence of several blocks, given whole, and cut where no block ends."""
    core, state = trained(name), lived_in(MIXERS[name][0]())
    is_first, is_valid = torch.rand(150, STREAMS) < 0.05, torch.rand(150, STREAMS) < 0.9
    x = torch.randn(150, STREAMS, SIZE)
    whole, end = core(x, state, is_first, is_valid)
    parts = []
    for start, stop in ((0, 1), (1, 45), (45, 83), (83, 150)):
        y, state = core(x[start:stop], state, is_first[start:stop], is_valid[start:stop])
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state, end, rtol=1e-9, atol=1e-9)


def hostile(steps: int) -> Tensor:
    """Four kinds of streams [T, 4, D]: noise, one step endlessly, keys that return with other values, huge numbers."""
    returning = torch.randn(7, SIZE).repeat(steps // 7 + 1, 1)[:steps] + 0.3 * torch.randn(steps, SIZE)
    huge = 1e6 * torch.randn(steps, 1).sign() * torch.ones(SIZE)
    return torch.stack((10.0 * torch.randn(steps, SIZE), torch.ones(steps, SIZE), returning, huge), 1)


@pytest.mark.parametrize(
    "name", ["titans-never", "titans-chunk-4", "titans-split", "attention-never", "diagonal-never"]
)
def test_a_memory_stays_bounded_for_a_hundred_thousand_steps(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    core = trained(name)
    if isinstance(core, TitansCore):
        core.log_tau.data.fill_(20.0)  # next to no forgetting: the rule itself has to hold
        core.mix.bias.data[4 * WIDTH + 3 :] += 10.0  # momentum and step size at their bounds
    elif isinstance(core, DiagonalCore):
        core.log_tau.data.fill_(torch.tensor(1e5).log().item())
    state, silent = core.initial_state(4), torch.zeros(20_000, 4, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(5):
            y, state = core(hostile(20_000), state, silent)
            assert y.isfinite().all()
    largest = max(leaf.abs().max().item() for leaf in state if leaf.numel())
    assert largest < (300.0 if isinstance(core, DiagonalCore) else 10.0)  # diagonal: sqrt(2 tau) = 447 for a unit drive


def test_without_bounded_steps_a_repeated_key_would_diverge() -> None:
    """The bound is no ornament: chunks of 8 whose step sizes sum to ten times as much grow without end."""
    still = torch.zeros(1, 400, dtype=torch.int64)
    key = torch.tensor([1.0, 0.0]).expand(1, 400, 2)
    momentum = torch.full((1, 400), 0.5).log()
    for factor, holds in ((1.0, True), (10.0, False)):
        strength = torch.full((1, 400), factor * largest_step(0.5) / 8)
        told = Inputs(key, key, key, strength, torch.zeros(1, 400), momentum, still == 0, still)
        _, sources = blocks(told, torch.zeros(1, 3, 2, 2), still[:, 0], 8)
        assert bool(sources[0, 0].abs().max() < 3.0) is holds


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.5, 0.9])
def test_the_step_bound_keeps_the_energy_from_growing(momentum: float) -> None:
    """The proof's V over chunks of random and of extreme gates and keys (equations: ``largest_step``)."""
    weight = momentum * (1.0 - momentum) ** -1.5
    for trial in range(300):
        chunk, size, ahead = (1, 2, 8)[trial % 3], 2, 5
        gates = torch.rand(3, chunk + ahead)
        gates = gates.round() if trial % 2 else gates
        eta, theta = momentum * gates[0], largest_step(momentum) / chunk * gates[1]
        kept = 1.0 - gates[2] * (0.0, 0.1, 1.0)[trial % 3]
        keys = torch.nn.functional.normalize(torch.randn(chunk, size) * 0.5 + torch.ones(size), dim=-1)
        future = [torch.ones(())]
        for step in reversed(range(chunk + ahead)):
            future.append(1.0 + eta[step] * future[-1])
        future.reverse()
        memory, stored = torch.randn(2, 500, size)
        energy = (memory + (future[0] - 1.0) * stored).square().sum(1) + weight * stored.square().sum(1)
        anchor = memory
        for t in range(chunk):
            stored = kept[t] * (eta[t] * stored - theta[t] * (anchor @ keys[t]).unsqueeze(1) * keys[t])
            memory = kept[t] * memory + stored
        after = (memory + (future[chunk] - 1.0) * stored).square().sum(1) + weight * stored.square().sum(1)
        assert (after <= energy * (1.0 + 1e-9)).all()


def test_titans_without_momentum_and_forgetting_descends_the_written_loss() -> None:
    """Closed form: a key told again and again holds v (1 - (1 - theta)^n) after n steps, in the exact form."""
    steps, theta = 6, 0.3
    key, value = torch.tensor([[0.6, 0.8]]).expand(1, steps, 2), torch.tensor([[1.0, -2.0]]).expand(1, steps, 2)
    none, still = torch.zeros(1, steps), torch.zeros(1, steps, dtype=torch.int64)
    told = Inputs(key, key, value, torch.full((1, steps), theta), none, none - torch.inf, still == 0, still)
    read, _ = blocks(told, torch.zeros(1, 2, 2, 2), still[:, 0], 1)
    held = 1.0 - (1.0 - theta) ** torch.arange(1, steps + 1)
    torch.testing.assert_close(read[0], held[:, None] * value[0])


def test_titans_forms_with_longer_chunks_are_other_models_at_equal_gates() -> None:
    x, is_first = torch.randn(8, STREAMS, SIZE), torch.zeros(8, STREAMS, dtype=torch.bool)
    exact, chunked = titans(), titans(chunk=4)
    chunked.load_state_dict(exact.state_dict())
    assert not torch.allclose(*(core(x, core.initial_state(STREAMS), is_first)[0] for core in (exact, chunked)))
    assert exact.clock_period == 1 and chunked.clock_period == 4
    assert exact.state_size == 3 * 2 * 4 + 1 and chunked.state_size == 3 * 3 * 4 + 1


def test_attention_sees_its_window_and_no_further() -> None:
    core = AttentionCore(SIZE, WIDTH, heads=2, window=3)
    x, is_first = torch.randn(10, 1, SIZE, requires_grad=True), torch.zeros(10, 1, dtype=torch.bool)
    is_valid = torch.ones(10, 1, dtype=torch.bool)
    is_valid[7] = False  # takes no place
    (reach,) = torch.autograd.grad(core(x, core.initial_state(1), is_first, is_valid)[0][9].square().sum(), x)
    assert [t for t in range(10) if reach[t].abs().sum() > 0] == [5, 6, 8, 9]


def test_attention_bias_counts_written_steps() -> None:
    core = AttentionCore(SIZE, WIDTH, heads=2, window=3)
    core.mix.weight.data[:WIDTH] = core.mix.bias.data[:WIDTH] = 0.0  # queries of zero: the bias alone decides
    core.bias.data = torch.tensor([-1e4, -1e4, 0.0, -1e4]).expand(2, 4).clone()  # the step before the last one
    x = torch.randn(6, 1, SIZE, requires_grad=True)
    is_first, is_valid = torch.zeros(2, 6, 1, dtype=torch.bool)
    is_valid = ~is_valid
    is_valid[4] = False
    gate = core.mix(core.norm(core.embed(x[5, 0])))[WIDTH : 2 * WIDTH].detach()
    (reach,) = torch.autograd.grad(core(x, core.initial_state(1), is_first, is_valid)[0][5].square().sum(), x)
    assert gate.abs().max() > 0 and [t for t in range(6) if reach[t].abs().sum() > 1e-12] == [2, 5]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 33, 1000])
def test_the_scan_is_the_recurrence_and_exact_at_zeros(steps: int) -> None:
    a, b = torch.rand(steps, 5), torch.randn(steps, 5)
    a[torch.rand(steps, 5) < 0.1] = 0.0
    h, expected = scan(a, b), []
    running = torch.zeros(5)
    for t in range(steps):
        running = a[t] * running + b[t]
        expected.append(running)
    torch.testing.assert_close(h, torch.stack(expected))
    assert torch.equal(h[a == 0.0], b[a == 0.0])


def test_the_scan_keeps_its_digits_where_products_vanish() -> None:
    """Float32, 20,000 steps: products of decays underflow a thousand times over."""
    a, b = torch.rand(20_000, 4), torch.randn(20_000, 4)
    expected, running = [], torch.zeros(4)
    for factor, drive in zip(a, b, strict=True):
        running = factor * running + drive
        expected.append(running)
    torch.testing.assert_close(scan(a.float(), b.float()).double(), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_scopes_and_levels() -> None:
    assert [(row.name, row.scope) for row in titans(scope="split").levels()] == [
        ("core.titans.episode", "episode"),
        ("core.titans.never", "never"),
    ]
    assert [row.stores for row in titans(scope="split", chunk=2).levels()] == [
        "1 heads, 12 floats a stream",
        "2 heads, 24 floats a stream",
    ]
    (row,) = AttentionCore(SIZE, WIDTH, heads=2, window=4).levels()
    assert (row.scope, row.stores) == ("episode", "keys and values of 4 steps, 24 floats a stream")
    split = DiagonalCore(SIZE, WIDTH, states=2)
    assert [(row.scope, row.stores) for row in split.levels()] == [
        ("episode", "3 channels, 6 floats a stream"),
        ("never", "3 channels, 6 floats a stream"),
    ]
    for core in (titans(scope="split"), split):
        is_first, x = torch.ones(1, STREAMS, dtype=torch.bool), torch.randn(1, STREAMS, SIZE)
        after, fresh = (core(x, start, is_first)[1][0] for start in (lived_in(core), core.initial_state(STREAMS)))
        cleared = int(core.clears.sum())
        assert torch.equal(after[:, :cleared], fresh[:, :cleared])
        assert not torch.allclose(after[:, cleared:], fresh[:, cleared:])


def test_bad_arguments_are_refused() -> None:
    for core in (TitansCore, DiagonalCore):
        with pytest.raises(ValueError, match="scope must be 'episode', 'never' or 'split', got 'life'"):
            core(SIZE, WIDTH, scope="life")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"time constants 1 < low <= high in env steps, got \(5.0, 2.0\)"):
            core(SIZE, 8, retention=(5.0, 2.0))
    for peer in (TitansCore, AttentionCore):
        with pytest.raises(ValueError, match="width must be a multiple of heads >= 1, got width 6 and heads 4"):
            peer(SIZE, WIDTH, heads=4)
    with pytest.raises(ValueError, match=r"chunk must be an integer >= 1 \(env steps\), got 0"):
        TitansCore(SIZE, WIDTH, heads=3, chunk=0)
    for momentum in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"momentum must lie in \[0, 1\), got {momentum}"):
            TitansCore(SIZE, WIDTH, heads=3, momentum=momentum)
    with pytest.raises(ValueError, match="scope must be 'episode' or 'never', got 'split'"):
        AttentionCore(SIZE, WIDTH, scope="split")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="heads must be a multiple of groups >= 1, got heads 3 and groups 2"):
        AttentionCore(SIZE, WIDTH, heads=3, groups=2)
    with pytest.raises(ValueError, match=r"window must be an integer >= 1 \(env steps\), got 0"):
        AttentionCore(SIZE, WIDTH, heads=3, window=0)
    with pytest.raises(ValueError, match=r"states must be an integer >= 1 \(numbers a channel\), got 0"):
        DiagonalCore(SIZE, WIDTH, states=0)
