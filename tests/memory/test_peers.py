"""The peer cores against their slow judges: values, states and gradients, with resets, gaps and handed-in states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nl_agents.errors import StateMismatchError
from nl_agents.memory.base import MemoryCore
from nl_agents.memory.feed_forward import FeedForwardCore
from nl_agents.memory.gated_delta import GatedDeltaCore
from nl_agents.memory.recurrent import FusedRecurrentCore, GruCore, LstmCore
from nl_agents.memory.reference_peers import (
    feed_forward_reference,
    gated_delta_reference,
    gru_reference,
    lstm_reference,
)
from tests.memory.judging import SIZE, STEPS, STREAMS, WIDTH, Judge, equals_its_judge

pytestmark = pytest.mark.usefixtures("double")


def packed(core: FusedRecurrentCore) -> FusedRecurrentCore:
    core.few_cuts = 1000
    return core


def stretched(core: FusedRecurrentCore) -> FusedRecurrentCore:
    core.few_cuts = 0
    return core


PEERS: dict[str, tuple[Callable[[], MemoryCore], Judge]] = {
    "lstm-episode": (lambda: LstmCore(SIZE, WIDTH, scope="episode"), lstm_reference),
    "lstm-packed": (lambda: packed(LstmCore(SIZE, WIDTH)), lstm_reference),
    "gru-packed": (lambda: packed(GruCore(SIZE, WIDTH, scope="never")), gru_reference),
    "lstm-stretched": (lambda: stretched(LstmCore(SIZE, WIDTH)), lstm_reference),
    "gru-stretched": (lambda: stretched(GruCore(SIZE, WIDTH)), gru_reference),
    "lstm-never": (lambda: LstmCore(SIZE, WIDTH, scope="never"), lstm_reference),
    "gru-episode": (lambda: GruCore(SIZE, WIDTH, scope="episode"), gru_reference),
    "gru-never": (lambda: GruCore(SIZE, WIDTH, scope="never"), gru_reference),
    **{
        f"gated-delta-{scope}-{chunk}": (
            lambda scope=scope, chunk=chunk: GatedDeltaCore(  # type: ignore[misc]
                SIZE, WIDTH, scope=scope, heads=3, chunk=chunk, retention=(3.0, 50.0)
            ),
            gated_delta_reference,
        )
        for scope, chunk in (("episode", 4), ("never", 4), ("split", 1), ("split", 3), ("split", 64))
    },
    "gated-delta-reflecting": (
        lambda: GatedDeltaCore(SIZE, WIDTH, scope="split", heads=3, chunk=4, retention=(3.0, 50.0), step_limit=2.0),
        gated_delta_reference,
    ),
}


def random_state(core: MemoryCore) -> Any:
    fresh = core.initial_state(STREAMS)
    return type(fresh)(*(0.5 * torch.randn_like(leaf) for leaf in fresh))


@pytest.mark.parametrize("kind", ["plain", "resets", "gaps"])
@pytest.mark.parametrize("name", PEERS)
def test_values_states_and_gradients_equal_the_judge(name: str, kind: str) -> None:
    make, judge = PEERS[name]
    core = make()
    for parameter in core.parameters():  # biases of zero would hide a forgotten one
        parameter.data += 0.1 * torch.randn_like(parameter)
    equals_its_judge(core, judge, random_state(core), kind, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("few_cuts", [0, 1000], ids=["stretches", "packed"])
@pytest.mark.parametrize("make", [LstmCore, GruCore])
def test_long_blocks_with_many_resets_in_float32(make: type[FusedRecurrentCore], few_cuts: int) -> None:
    torch.set_default_dtype(torch.float32)
    core = make(5, 8)
    core.few_cuts = few_cuts
    is_first, is_valid = torch.rand(40, 7) < 0.3, torch.rand(40, 7) < 0.8
    x, state = torch.randn(40, 7, 5), core.initial_state(7)
    y, last = core(x, state, is_first, is_valid)
    for t in range(40):
        one, state = core(x[t : t + 1], state, is_first[t : t + 1], is_valid[t : t + 1])
        torch.testing.assert_close(one[0], y[t])
    torch.testing.assert_close(last, state)


def test_scopes_decide_what_a_reset_clears() -> None:
    is_first = torch.ones(1, STREAMS, dtype=torch.bool)
    x = torch.randn(1, STREAMS, SIZE)
    for core, cleared in (
        (LstmCore(SIZE, WIDTH, scope="episode"), True),
        (GruCore(SIZE, WIDTH, scope="never"), False),
        (GatedDeltaCore(SIZE, WIDTH, heads=3, scope="episode"), True),
        (GatedDeltaCore(SIZE, WIDTH, heads=3, scope="never"), False),
    ):
        after = core(x, random_state(core), is_first)[1]
        fresh = core(x, core.initial_state(STREAMS), is_first)[1]
        assert torch.allclose(after[0], fresh[0]) is cleared
        assert [row.scope for row in core.levels()] == ["episode" if cleared else "never"]
    split = GatedDeltaCore(SIZE, WIDTH, heads=3, scope="split")
    assert [(row.scope, row.stores) for row in split.levels()] == [
        ("episode", "1 heads, 4 floats a stream"),
        ("never", "2 heads, 8 floats a stream"),
    ]
    after, fresh = (
        split(x, start, is_first)[1].memory for start in (random_state(split), split.initial_state(STREAMS))
    )
    assert torch.equal(after[:, 0], fresh[:, 0]) and not torch.allclose(after[:, 1:], fresh[:, 1:])


def test_the_gated_delta_memory_recalls_what_it_was_told() -> None:
    """Closed form: with alpha = 1 and beta = 1, orthonormal keys recall their values exactly."""
    from nl_agents.memory.gated_delta import Inputs, chunks

    keys = torch.linalg.qr(torch.randn(5, 5))[0].expand(2, 5, 5)
    values = torch.randn(2, 5, 5)
    told = Inputs(keys, keys, values, torch.ones(2, 5), torch.zeros(2, 5), torch.zeros(2, 5, dtype=torch.int64))
    read, memory = chunks(told, torch.zeros(2, 5, 5), chunk=2)
    torch.testing.assert_close(read, values)
    torch.testing.assert_close(keys @ memory.mT, values)
    overwritten = told._replace(value=-values)
    torch.testing.assert_close(chunks(overwritten, memory, chunk=5)[0], -values)


def test_the_gated_delta_memory_stays_bounded() -> None:
    core = GatedDeltaCore(SIZE, WIDTH, scope="never", heads=3)
    state, silent = core.initial_state(STREAMS), torch.zeros(500, STREAMS, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(20):
            y, state = core(10 * torch.randn(500, STREAMS, SIZE), state, silent)
    assert y.isfinite().all() and state.memory.abs().max() < 100.0


def test_values_of_alternating_sign_add_up_to_the_bound_of_retention_and_not_beyond() -> None:
    from nl_agents.memory.gated_delta import Inputs, chunks

    steps, alpha, limit = 2000, 0.99, 2.0
    key = torch.nn.functional.normalize(torch.ones(1, 1, 3), dim=-1).expand(1, steps, 3)
    value = torch.ones(steps, 3).mul_((1.0 - 2.0 * (torch.arange(steps) % 2))[:, None])[None]
    log_alpha, segment = torch.full((1, steps), alpha).log(), torch.zeros(1, steps, dtype=torch.int64)
    told = Inputs(key, key, value, torch.full((1, steps), limit), log_alpha, segment)
    _, memory = chunks(told, torch.zeros(1, 3, 3), chunk=32)
    bound = limit / (1.0 - alpha)
    assert bool((memory.norm(dim=-1) > 0.99 * bound).all() and (memory.norm(dim=-1) < 1.000001 * bound).all())


def test_feed_forward_equals_its_judge_and_has_no_state() -> None:
    core = FeedForwardCore(SIZE, WIDTH, depth=2, expansion=1.5)
    x, is_first = torch.randn(STEPS, STREAMS, SIZE), torch.zeros(STEPS, STREAMS, dtype=torch.bool)
    y, after = core(x, core.initial_state(STREAMS), is_first)
    torch.testing.assert_close(y, feed_forward_reference(core, x))
    assert core.state_size == 0 and core.levels() == []
    assert core.unpack(core.pack(after)).empty.shape == (STREAMS, 0)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="scope must be 'episode' or 'never', got 'life'"):
        LstmCore(SIZE, WIDTH, scope="life")
    with pytest.raises(ValueError, match="scope must be 'episode', 'never' or 'split', got 'life'"):
        GatedDeltaCore(SIZE, WIDTH, scope="life")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="width must be a multiple of heads >= 1, got width 6 and heads 4"):
        GatedDeltaCore(SIZE, WIDTH, heads=4)
    with pytest.raises(ValueError, match=r"chunk must be an integer >= 1 \(env steps\), got 0"):
        GatedDeltaCore(SIZE, WIDTH, heads=3, chunk=0)
    with pytest.raises(ValueError, match=r"time constants 1 < low <= high in env steps, got \(5.0, 2.0\)"):
        GatedDeltaCore(SIZE, WIDTH, heads=3, retention=(5.0, 2.0))
    with pytest.raises(ValueError, match=r"step_limit must lie in \(0, 2\].*got 2.5"):
        GatedDeltaCore(SIZE, WIDTH, heads=3, step_limit=2.5)
    with pytest.raises(ValueError, match=r"depth must be an integer >= 0 \(blocks\), got -1"):
        FeedForwardCore(SIZE, WIDTH, depth=-1)
    lstm, gru = LstmCore(SIZE, WIDTH), GruCore(SIZE, WIDTH)
    with pytest.raises(StateMismatchError, match="LstmCore expects a LstmState, got GruState"):
        lstm(torch.zeros(1, 2, SIZE), gru.initial_state(2), torch.zeros(1, 2, dtype=torch.bool))
