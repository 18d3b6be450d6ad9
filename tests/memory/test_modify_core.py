"""The self-modifying core against its slow judge in all its variants, and what is particular to it.

Test numbers t1 .. t20 are those of the project's list for this memory; t4, t10, t11 and t13 are laws of all cores
(``test_laws``), t6, t7 and t12 stand in ``test_modify_layer`` and ``test_modify_rule``.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.probing.cell import Cell, run_cell
from benchmarks.probing.cores import parse_core
from benchmarks.probing.plans import Plan, Settings
from nl_agents.memory.modify_core import ModifyingState, SelfModifyingCore
from nl_agents.memory.reference import memory_reference
from nl_agents.memory.reference_modify import modify_reference
from nl_agents.memory.self_modifying import SelfModifyingMemory, SelfModifyingState
from tests.memory.judging import SIZE, STEPS, STREAMS, WIDTH, equals_its_judge, flags, silent
from tests.memory.modifying import VARIANTS, lived_in, make

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("kind", ["resets", "gaps"])
@pytest.mark.parametrize("name", VARIANTS)
def test_values_states_and_gradients_equal_the_judge(name: str, kind: str) -> None:
    core = make(**VARIANTS[name])
    equals_its_judge(core, modify_reference, lived_in(core), kind, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("chunk", "phase"), [(1, 0), (4, 0), (4, 3), (32, 5)])
def test_with_the_dot_product_it_is_the_memory_of_hope(chunk: int, phase: int) -> None:
    """DGD with Eq. 92 corrects the running memory, whatever the chunk: Hope's write. Fast against fast, and slow."""
    hope = SelfModifyingMemory(WIDTH, heads=2, key_size=3, chunk=chunk, never_heads=1, retention=(3.0, 50.0))
    mine = make(objective="dot", momentum=False, window=0, chunk=chunk, radius=math.inf)
    size, names = 3, [*mine.memory.fixed, *mine.memory.adaptive]
    rows = {"key": (0, 3), "value": (3, 6), "step": (6, 7), "retention": (7, 8), "mem": (8, 11)}
    first, after = mine.memory.memory_0[0].data, torch.zeros(STREAMS, 2, 5, size, size)
    delta, anchor = 0.3 * torch.randn(2, STREAMS, 2, size, hope.rows)
    for i, name in enumerate(names):
        cut = slice(*rows[name])
        height = cut.stop - cut.start
        first[:, i, :height] = (hope.memory_0 + hope.residual)[:, cut] - torch.eye(3)[:height]
        after[:, :, i, :height] = delta[..., cut].mT
    mine.memory.gate_weight.data = torch.tensor([1.0, 0.0, 0.0]).expand(2, 2, 3).clone()  # the first row is Hope's
    mine.memory.gate_bias.data = hope.gate_bias.data
    assert mine.memory.log_tau is not None
    mine.memory.log_tau.data = hope.log_tau.data
    mine.mix.load_state_dict(hope.mix.state_dict())
    mine.out.load_state_dict(hope.out.state_dict())
    mine.norm_read.reset_parameters()
    held = mine.initial_state(STREAMS)._replace(delta=after.flatten(-2), phase=torch.full((STREAMS,), phase))
    if chunk > 1:
        stood = torch.zeros_like(after)
        for i, name in enumerate(names):
            cut = slice(*rows[name])
            stood[:, :, i, : cut.stop - cut.start] = anchor[..., cut].mT
        held = held._replace(anchor=stood.flatten(-2))
    x, (is_first, is_valid) = torch.randn(STEPS, STREAMS, SIZE), flags("gaps")
    h = mine.embed(x * is_valid.unsqueeze(-1))
    told = mine.norm(h)
    y, end = mine(x, held, is_first, is_valid)
    read, theirs = hope(told, SelfModifyingState(delta, anchor if chunk > 1 else delta), is_first, is_valid, phase)
    torch.testing.assert_close(y, mine.norm_out(h + read))
    for i, name in enumerate(names):
        cut = slice(*rows[name])
        got = end.delta.unflatten(-1, (size, size))[:, :, i, : cut.stop - cut.start]
        torch.testing.assert_close(got, theirs.delta[..., cut].mT)
    for b in range(STREAMS):
        whole = (delta[b].mT, (anchor if chunk > 1 else delta)[b].mT)
        slow, _, _ = memory_reference(hope, told[:, b], *whole, is_first[:, b], is_valid[:, b], phase)
        torch.testing.assert_close(y[:, b], mine.norm_out(h[:, b] + slow))


@pytest.mark.parametrize("name", VARIANTS)
def test_t1_t2_a_sequence_equals_its_steps_and_its_parts(name: str) -> None:
    """T is no multiple of a chunk; streams with clocks of their own; resets on first, last and consecutive steps."""
    core, (is_first, is_valid) = make(**VARIANTS[name]), flags("gaps")
    x, start = torch.randn(STEPS, STREAMS, SIZE), lived_in(core)
    whole, end = core(x, start, is_first, is_valid)
    for cuts in (range(STEPS + 1), (0, 1, 6, STEPS), (0, 7, STEPS)):
        state, parts = start, []
        for a, b in itertools.pairwise(cuts):
            y, state = core(x[a:b], state, is_first[a:b], is_valid[a:b])
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(state, end, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_t3_a_reset_is_a_fresh_start_at_equal_phase_without_leak(name: str) -> None:
    core, is_first = make(**{**VARIANTS[name], "scope": "episode"}), silent(STEPS)
    is_first[5] = True
    x = torch.randn(STEPS, STREAMS, SIZE, requires_grad=True)
    y, end = core(x, lived_in(core, same_clock=True), is_first)
    newborn = core.initial_state(STREAMS)
    newborn = newborn._replace(phase=newborn.phase + 5 % core.clock_period)
    fresh, fresh_end = core(x[5:], newborn, is_first[5:])
    torch.testing.assert_close(y[5:], fresh, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(end, fresh_end, rtol=1e-10, atol=1e-10)
    (leak,) = torch.autograd.grad(y[5:].square().sum() + end.delta.square().sum(), x)
    assert leak[:5].abs().sum() == 0 and leak[5:].abs().sum() > 0


@pytest.mark.parametrize("name", ["chunk", "mlp", "exact", "no-decay"])
def test_t8_without_steps_it_is_a_static_map(name: str) -> None:
    core = make(**VARIANTS[name])
    core.memory.gate_bias.data[:, 0] = -1e4
    x = torch.randn(STEPS, STREAMS, SIZE)
    y, after = core(x, core.initial_state(STREAMS), silent(STEPS))
    assert not after.delta.any() and not after.momentum.any()
    late, _ = core(x[6:], core.initial_state(STREAMS)._replace(past=_past(core, x[:6])), silent(STEPS - 6), phase=0)
    torch.testing.assert_close(y[6:], late)


def _past(core: SelfModifyingCore, x: Tensor) -> Tensor:
    return core(x, core.initial_state(STREAMS), silent(len(x)))[1].past  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("hebb", "confined")])
def test_t9_every_meta_parameter_gets_a_gradient_in_mid_episode(name: str) -> None:
    """Each memory of each layer on its own. Finite differences: the law over all cores, and the judge above."""
    core = make(**VARIANTS[name])
    y, _ = core(torch.randn(STEPS, STREAMS, SIZE), lived_in(core), silent(STEPS))
    y.square().sum().backward()
    for label, parameter in core.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, label
    for part in core.memory.memory_0:
        assert part.grad is not None and (part.grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", ["two-chunks", "mlp-exact"])
def test_t9_meta_gradients_match_finite_differences_in_mid_episode(name: str) -> None:
    core, (is_first, is_valid) = make(**VARIANTS[name]), flags("gaps")
    x, state = torch.randn(STEPS, STREAMS, SIZE), lived_in(core)
    names = [label for label, _ in core.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        y, after = torch.func.functional_call(core, given, (x, state, is_first, is_valid))
        return (y * is_valid.unsqueeze(-1)).pow(3).sum() + after.delta.sum()

    values = tuple(parameter.detach().clone().requires_grad_() for parameter in core.parameters())
    assert torch.autograd.gradcheck(run, values, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("name", ["chunk", "mlp", "exact"])
def test_t18_a_saved_life_goes_on_alike(name: str, tmp_path: Any) -> None:
    core, x = make(**VARIANTS[name]), torch.randn(STEPS, STREAMS, SIZE)
    _, state = core(x[:5], core.initial_state(STREAMS), silent(5))
    torch.save((core.state_dict(), tuple(state)), tmp_path / "life.pt")
    weights, leaves = torch.load(tmp_path / "life.pt")
    twin = make(**VARIANTS[name])
    twin.load_state_dict(weights)
    for mine, theirs in zip(
        core(x[5:], state, silent(6)), twin(x[5:], ModifyingState(*leaves), silent(6)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", VARIANTS)
def test_t19_what_is_not_finite_reads_out_nan_and_is_not_written(name: str) -> None:
    core, (is_first, is_valid) = make(**VARIANTS[name]), flags("resets")
    is_valid[4, 0] = is_valid[5, 1] = False
    x, state = torch.randn(STEPS, STREAMS, SIZE), lived_in(core)
    refused = is_first.clone()
    refused[5, 0] |= is_first[4, 0]  # a spoilt step that begins an episode clears all the same
    clean, after_clean = core(x, state, refused, is_valid)
    x[4, 0, 1], x[5, 1, 0] = torch.nan, torch.inf
    y, after = core(x, state, is_first)
    assert y[~is_valid].isnan().all()
    torch.testing.assert_close((y[is_valid], *after), (clean[is_valid], *after_clean))
    y[is_valid].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in core.parameters())


@pytest.mark.parametrize("field", ["delta", "momentum", "anchor", "past"])
def test_t19_a_ruined_memory_shows_until_the_reset_and_ruins_no_gradient(field: str) -> None:
    core, is_first = make(scope="episode", chunk=4), silent(STEPS)
    is_first[6, :2] = True
    state = core.initial_state(STREAMS)
    leaf = getattr(state, field).clone()
    leaf[:, 0, 0, 0] = torch.nan
    y, after = core(torch.randn(STEPS, STREAMS, SIZE), state._replace(**{field: leaf}), is_first)
    assert y[:6].isnan().all() and y[:, 2].isnan().all() and y[6:, :2].isfinite().all()
    assert all(part[:2].isfinite().all() for part in after) and after.delta[2].isnan().any()
    y[6:, :2].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in core.parameters())


def test_anchors_move_each_at_its_own_chunk() -> None:
    core = make(chunk=4, projection_chunk=2, momentum=False)
    state, moved = core.initial_state(STREAMS), []
    for _ in range(8):
        before = state.anchor
        _, state = core(torch.randn(1, STREAMS, SIZE), state, silent(1))
        moved.append((state.anchor != before).flatten(-1).any(-1).any(0).any(0).tolist())
    assert core.memory.adaptive == ["key", "value", "step", "retention", "mem"]
    assert [t for t in range(8) if moved[t][0]] == [1, 3, 5, 7] and [t for t in range(8) if moved[t][4]] == [3, 7]
    assert core.clock_period == 4 and make(chunk=2, projection_chunk=3).clock_period == 6


def test_chunks_are_another_model_at_equal_gates() -> None:
    x, outputs = torch.randn(STEPS, STREAMS, SIZE), []
    exact = make(chunk=1, step_limit=0.3)
    for chunk in (1, 4):
        core = make(chunk=chunk, step_limit=0.3)
        core.load_state_dict(exact.state_dict())
        outputs.append(core(x, core.initial_state(STREAMS), silent(STEPS))[0])
    assert torch.allclose(outputs[0][0], outputs[1][0]) and not torch.allclose(*outputs)


def test_state_sizes_and_levels() -> None:
    assert make(chunk=1, momentum=False, window=0).state_size == 2 * 5 * 9 + 1
    assert make(chunk=2, memory="mlp", expansion=2.0).state_size == 2 * (3 * 5 * 36 + 3 * 6) + 1
    assert make(decay=False, adaptive_value=False, chunk=1, momentum=False, window=1).state_size == 2 * 3 * 9 + 1
    assert [(row.name, row.stores, row.objective) for row in make(chunk=1, write="gd").levels()] == [
        ("core.self-modifying.episode", "1 heads, 108 floats a stream", "L2 to self-generated values (gd, momentum)"),
        ("core.self-modifying.never", "1 heads, 108 floats a stream", "L2 to self-generated values (gd, momentum)"),
    ]


@pytest.mark.parametrize(("options", "message"), [
    ({"memory": "tree"}, "memory must be 'linear' or 'mlp', got 'tree'"),
    ({"write": "adam"}, "write must be 'dgd' or 'gd', got 'adam'"),
    ({"objective": "l1"}, "objective must be 'l2' or 'dot', got 'l1'"),
    ({"read": "late"}, "read must be 'running' or 'anchor', got 'late'"),
    ({"largest_momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
    ({"chunk": 0}, r"chunk must be an integer >= 1 \(env steps\), got 0"),
    ({"projection_chunk": 1.5}, r"projection_chunk must be an integer >= 1 \(env steps\), got 1.5"),
    ({"step_limit": 2.0}, r"step_limit must lie in \(0, 1\] or be None, got 2.0"),
    ({"radius": 0.0}, "radius must be > 0, got 0.0"),
    ({"scope": "life"}, "scope must be 'episode', 'never' or 'split', got 'life'"),
    ({"heads": 0}, "heads must be an integer >= 1, got 0"),
    ({"window": -1}, "window must be an integer >= 0, got -1"),
    ({"memory": "mlp", "expansion": 0.0}, "expansion must give at least one hidden unit, got 0.0 of 3"),
    ({"retention": (5.0, 2.0)}, r"time constants 1 < low <= high in env steps, got \(5.0, 2.0\)"),
])  # fmt: skip
def test_bad_options_say_what_was_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.slow
def test_t20_the_exact_form_tracks_parity_beyond_the_length_of_its_training() -> None:
    """Keys and values that depend on what was written make an automaton of a linear memory; fixed ones do not."""
    torch.set_default_dtype(torch.float32)
    settings = Settings(width=32, updates=400, streams=16, eval_streams=64)
    cell = Cell("parity", parse_core("self-modifying:chunk=1"), 0, 3e-3)
    within, beyond = run_cell(cell, Plan(2, 24, (24, 48)), settings)["results"]
    assert within["right"] > 0.95 * within["asked"] and beyond["right"] > 0.8 * beyond["asked"]
