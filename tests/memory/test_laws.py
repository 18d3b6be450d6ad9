"""Laws that every registered memory core obeys, in every variant, float64 (1e-9) and float32 (1e-5).

Numbers T1 .. T20 are those of docs/paper_map.md, which lists where each of them is tested.
"""

from __future__ import annotations

import io
import pickle

import pytest
import torch

from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.memory import CORES, MemoryCore, make_core
from tests.memory.cores import (
    ACTIONS,
    SIZE,
    STEPS,
    STREAMS,
    VARIANTS,
    WIDTH,
    Life,
    at_equal_phase,
    build,
    cleared,
    close,
    outlives,
)


def test_every_core_is_under_law() -> None:
    assert {name for name, _ in VARIANTS.values()} == set(CORES)


def test_t1_a_sequence_equals_its_steps(core: MemoryCore) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    whole, end = life.run(core, state)
    outputs, states = life.walk(core, state)
    close((outputs, *states[-1]), (whole, *end))


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


def test_an_unpacked_state_may_be_given_away(core: MemoryCore) -> None:
    packed = core.pack(Life().run(core, core.initial_state(STREAMS))[1]).detach()[:1]
    before = packed.clone()
    core.act(torch.randn(1, 1, SIZE), core.unpack(packed), torch.zeros(1, 1, dtype=torch.bool), phase=0)
    assert torch.equal(packed, before)


def test_clocks_are_packed_exactly_in_half_precision() -> None:
    core = make_core("titans", input_size=SIZE, width=WIDTH, heads=2, chunk=1000).bfloat16()
    state = core.initial_state(STREAMS)
    state = state._replace(phase=state.phase + 777, memory=torch.randn_like(state.memory))
    packed = core.pack(state)
    assert packed.dtype == torch.float32
    for one, other in zip(core.unpack(packed), state, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_t2_a_sequence_may_be_split_anywhere(core: MemoryCore) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    whole, end = life.run(core, state)
    for cut in (1, 8, 11, 32):
        first, middle = life.run(core, state, 0, cut)
        second, last = life.run(core, middle, cut)
        close((torch.cat((first, second)), *last), (whole, *end))


def test_t3_what_a_reset_clears_is_fresh_bit_for_bit_without_leak(core: MemoryCore) -> None:
    """At equal phase: the step clock survives resets. Levels of scope ``never`` go on, all others begin anew."""
    life, cut = Life(plain=True), 9
    life.is_first[cut] = True
    life.x.requires_grad_()
    _, before = life.run(core, core.initial_state(STREAMS), 0, cut)
    y, after = life.run(core, before, cut)
    fresh_y, fresh = life.run(core, at_equal_phase(core, before), cut)
    masks, own = cleared(core), life.x.sum() * 0.0
    for mask, one, other in zip(masks, after, fresh, strict=True):
        assert torch.equal(one[:, mask], other[:, mask])
        if mask.any():
            own = own + one[:, mask].square().sum()
    if not outlives(core):
        assert torch.equal(y, fresh_y)
        own = own + y.square().sum()
    (leak,) = torch.autograd.grad(own, life.x)
    assert leak[:cut].abs().sum() == 0
    begins_anew = not outlives(core) or any(bool(mask.any()) for mask in masks)
    assert bool(leak[cut:].abs().sum() > 0) is begins_anew


def test_t3_levels_that_outlive_episodes_know_what_was_before(core: MemoryCore) -> None:
    life = Life(plain=True)
    life.is_first[9] = True
    _, before = life.run(core, core.initial_state(STREAMS), 0, 9)
    y, _ = life.run(core, before, 9)
    fresh, _ = life.run(core, at_equal_phase(core, before), 9)
    assert torch.allclose(y, fresh) is not outlives(core)


def test_t4_streams_do_not_touch_each_other(core: MemoryCore) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    life.x.requires_grad_()
    whole, end = life.run(core, state)
    order = torch.tensor([2, 0, 3])
    part, part_end = life.of(order).run(core, core.initial_state(3))
    close((part, *part_end), (whole[:, order], *(leaf[order] for leaf in end)))
    (reach,) = torch.autograd.grad(whole[:, 1].square().sum(), life.x)
    assert [b for b in range(STREAMS) if reach[:, b].abs().sum() > 0] == [1]


def test_t11_outputs_do_not_depend_on_the_future(core: MemoryCore) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    before, _ = life.run(core, state)
    life.x[10:] += 1.0
    life.action[10:] -= 1.0
    after, _ = life.run(core, state)
    assert torch.equal(before[:10], after[:10])


def test_never_scope_survives_the_episode(dtype: torch.dtype) -> None:
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


def test_t13_train_equals_eval(core: MemoryCore) -> None:
    life, state = Life(), core.initial_state(STREAMS)
    with torch.no_grad():
        assert torch.equal(life.run(core.train(), state)[0], life.run(core.eval(), state)[0])


def test_t10_acting_changes_no_parameter(core: MemoryCore) -> None:
    before = {name: value.clone() for name, value in core.state_dict(keep_vars=True).items()}
    life, state = Life(), core.initial_state(STREAMS)
    for t in range(12):
        part = slice(t, t + 1)
        _, state = core.act(life.x[part], state, life.is_first[part], life.is_valid[part], life.action[part])
    assert all(torch.equal(value, before[name]) for name, value in core.state_dict().items())


def test_pack_and_unpack_are_inverse(core: MemoryCore) -> None:
    life = Life()
    _, state = life.run(core, core.initial_state(STREAMS))
    packed = core.pack(state)
    assert packed.shape == (STREAMS, core.state_size)
    close(core.unpack(packed), state, 0.0)
    assert core.pack(core.initial_state(2)).abs().sum() == 0


def test_t18_a_saved_life_goes_on_bit_for_bit(core: MemoryCore, name: str) -> None:
    """By torch.save into a core built anew, and by pickle of core and state together."""
    life, file = Life(), io.BytesIO()
    with torch.no_grad():
        _, state = life.run(core, core.initial_state(STREAMS), 0, 7)
    torch.save((core.state_dict(), tuple(state)), file)
    file.seek(0)
    weights, leaves = torch.load(file)
    twin = build(name)
    twin.load_state_dict(weights)
    y, after = life.run(core, state, 7)
    for other, held in ((twin, type(state)(*leaves)), pickle.loads(pickle.dumps((core, state)))):
        again, after_again = life.run(other, held, 7)
        close((again, *after_again), (y, *after), 0.0)


def test_a_packed_life_goes_on_alike(core: MemoryCore) -> None:
    life = Life()
    _, state = life.run(core, core.initial_state(STREAMS), 0, 7)
    y, after = life.run(core, state, 7)
    again, after_again = life.run(core, core.unpack(core.pack(state)), 7)
    close((again, *after_again), (y, *after))  # another memory layout may sum in another order


def test_levels_have_known_scopes_and_periods(core64: MemoryCore) -> None:
    for row in core64.levels():
        assert row.period >= 1 and row.scope in ("episode", "never", "life")


@pytest.mark.gpu
def test_cuda_gives_the_values_states_and_gradients_of_the_cpu(core64: MemoryCore) -> None:
    life, results = Life(), []
    _, state = life.run(core64, core64.initial_state(STREAMS))
    for device in ("cpu", "cuda"):
        core64.to(device)
        flags = (life.is_first.to(device), life.is_valid.to(device), life.action.to(device))
        handed = type(state)(*(leaf.detach().to(device) for leaf in state))
        y, after = core64(life.x.to(device), handed, *flags)
        grads = torch.autograd.grad((y * y).sum(), list(core64.parameters()), allow_unused=True, materialize_grads=True)
        results.append([part.detach().cpu() for part in (y, *after, *grads)])
    close(results[1], results[0], 1e-8)


@pytest.mark.gpu
def test_on_cuda_a_sequence_equals_its_steps(core64: MemoryCore) -> None:
    core64.to("cuda")
    life = Life()
    for name in ("x", "is_first", "is_valid", "action"):
        setattr(life, name, getattr(life, name).cuda())
    state = core64.initial_state(STREAMS)
    whole, end = life.run(core64, state)
    outputs, states = life.walk(core64, state)
    close((outputs, *states[-1]), (whole, *end), 1e-8)


def test_unknown_names_are_told() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'hope'"):
        make_core("hoppe", input_size=4, width=8)
    with pytest.raises(ConfigError, match="no option hedas"):
        make_core("hope", input_size=4, width=8, hedas=2)
