"""The Continuum Memory System against its slow judge, its cadence, and what each variant promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nl_agents.errors import ConfigError
from nl_agents.memory import make_core
from nl_agents.memory.cms import ContinuumMemory, ContinuumState
from nl_agents.memory.last_valid import newest_valid, shift
from nl_agents.memory.reference_cms import cms_reference

pytestmark = pytest.mark.usefixtures("double")

STEPS, STREAMS, SIZE, WIDTH, ACTIONS = 13, 3, 4, 5, 2
SETTINGS: list[dict[str, Any]] = [
    {"variant": "sequential", "periods": (2, 5)},
    {"variant": "sequential", "periods": (1,), "reduction": "sum", "radius": 0.3},
    {"variant": "sequential", "periods": (4, 3), "scope": "split", "slow_periods": ()},
    {"variant": "sequential", "periods": (), "slow_periods": (2, 3)},
    {"variant": "nested", "periods": (), "slow_periods": (1,)},
    {"variant": "nested", "periods": (1, 2, 4)},
    {"variant": "nested", "periods": (2, 6), "scope": "episode", "reduction": "sum"},
    {"variant": "nested", "periods": (3, 6), "scope": "split", "radius": 0.2},
    {"variant": "independent", "periods": (2, 3)},
    {"variant": "independent", "periods": (16, 4, 1), "scope": "episode", "slow_periods": ()},
]


def make(**options: Any) -> ContinuumMemory:
    options = {"slow_periods": (2,), "size": 3, "retention": 50.0, **options}
    core = ContinuumMemory(SIZE, WIDTH, ACTIONS, **options)
    for parameter in core.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return core


def inputs(steps: int = STEPS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    is_first = torch.rand(steps, STREAMS) < 0.2
    is_first[0, 0] = is_first[5:7, 1] = is_first[-1, 2] = True
    is_valid = torch.rand(steps, STREAMS) > 0.2
    return torch.randn(steps, STREAMS, SIZE), is_first, is_valid, torch.randn(steps, STREAMS, ACTIONS)


def lived_in(core: ContinuumMemory, phase: int) -> ContinuumState:
    fresh = core.initial_state(STREAMS)
    leaves = [0.3 * torch.randn_like(leaf) for leaf in fresh[:-1]]
    return ContinuumState(*leaves, torch.full((STREAMS,), phase % core.clock_period))


def outcome(y: Tensor, state: ContinuumState) -> Tensor:
    torch.manual_seed(7)
    return sum((leaf * torch.randn(leaf.shape)).sum() for leaf in (y, *state[:-1]))  # type: ignore[return-value]


def walk(core: ContinuumMemory, steps: int, state: ContinuumState | None = None) -> list[ContinuumState]:
    """The states of a life of single steps, the first one included."""
    x, is_first, _, action = inputs(steps)
    states = [core.initial_state(STREAMS) if state is None else state]
    with torch.no_grad():
        for t in range(steps):
            part = slice(t, t + 1)
            states.append(core(x[part], states[-1], is_first[part], None, action[part])[1])
    return states


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("phase", [0, 5])
def test_equals_the_slow_judge_in_values_and_gradients(options: dict[str, Any], phase: int) -> None:
    core = make(**options)
    x, is_first, is_valid, action = inputs()
    x.requires_grad_()
    given = lived_in(core, phase)
    state = ContinuumState(*(leaf.requires_grad_() for leaf in given[:-1]), given.phase)
    wanted = [x, *state[:-1], *core.parameters()]
    y, after = core(x, state, is_first, is_valid, action)
    y_slow, after_slow = cms_reference(core, x, state, is_first, is_valid, action)
    for fast, slow in zip((y, *after), (y_slow, *after_slow), strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-9, rtol=1e-9)
    mine = torch.autograd.grad(outcome(y, after), wanted, allow_unused=True, materialize_grads=True)
    theirs = torch.autograd.grad(outcome(y_slow, after_slow), wanted, allow_unused=True, materialize_grads=True)
    for fast, slow in zip(mine, theirs, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("options", [SETTINGS[0], SETTINGS[4], SETTINGS[6], SETTINGS[7]], ids=str)
def test_gradients_through_the_writes_match_finite_differences(options: dict[str, Any]) -> None:
    core = make(**options)
    x, is_first, is_valid, action = inputs()
    state = lived_in(core, 1)
    names = [name for name, _ in core.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        return outcome(*torch.func.functional_call(core, given, (x, state, is_first, is_valid, action)))

    values = tuple(parameter.detach().clone().requires_grad_() for parameter in core.parameters())
    assert torch.autograd.gradcheck(run, values, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("options", [SETTINGS[0], SETTINGS[4], SETTINGS[7]], ids=str)
def test_every_meta_parameter_gets_a_gradient_in_mid_episode(options: dict[str, Any]) -> None:
    core = make(**options)
    x, _, _, action = inputs()
    nothing = torch.zeros(STEPS, STREAMS, dtype=torch.bool)
    core(x, lived_in(core, 0), nothing, None, action)[0].square().sum().backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
@pytest.mark.parametrize("periods", [(1, 2, 4), (2, 4, 12)], ids=str)
def test_a_level_changes_exactly_at_its_boundaries(variant: str, periods: tuple[int, ...]) -> None:
    core = make(variant=variant, periods=periods)
    states = walk(core, 24)
    for level, period in enumerate(periods):
        deltas = [state.level_delta[:, level] for state in states]
        changed = [t for t in range(1, 25) if not torch.equal(deltas[t - 1], deltas[t])]
        assert changed == list(range(period, 25, period))
        for t in changed:
            assert states[t].level_gradient[:, level].abs().sum() == 0, "summed gradients begin anew at a boundary"
    starts = core.initial_state(1).level_start.shape[1]
    assert starts == (len(periods) - 1 if variant == "nested" else 0)
    for level in range(starts):
        kept = [state.level_start[:, level] for state in states]
        assert [t for t in range(1, 25) if not torch.equal(kept[t - 1], kept[t])] == list(
            range(periods[level + 1], 25, periods[level + 1])
        )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_write_is_the_sum_or_the_mean_of_the_chunk(reduction: str) -> None:
    core, waiting = make(periods=(4,), reduction=reduction, radius=1e6), make(periods=(8,), radius=1e6)
    waiting.load_state_dict(core.state_dict())  # the same weights, no boundary within four steps
    x, is_first, is_valid, action = (leaf[:4] for leaf in inputs())
    state = lived_in(core, 0)
    state = state._replace(level_gradient=torch.zeros_like(state.level_gradient))
    summed = waiting(x, state, is_first, is_valid, action)[1].level_gradient
    block: Any = core.fast[0]
    rate = torch.sigmoid(block.rate_logit) / (4 if reduction == "mean" else 1)
    expected = torch.exp(-4 / block.log_tau.exp()) * state.level_delta + rate * summed
    torch.testing.assert_close(core(x, state, is_first, is_valid, action)[1].level_delta, expected)


@pytest.mark.parametrize("radius", [8.0, 3.7, 0.3])
def test_what_lies_within_the_radius_is_not_shortened(radius: float, dtype: torch.dtype) -> None:
    block: Any = make(radius=radius, retention=1e30).fast[0]
    delta = torch.randn(STREAMS, block.weights)
    delta *= 0.9 * radius / delta.norm(dim=1, keepdim=True)
    assert torch.equal(block.write(delta, torch.zeros_like(delta)), delta)
    assert (block.write(3.0 * delta, torch.zeros_like(delta)).norm(dim=1) <= radius * (1.0 + 1e-6)).all()


def test_mean_and_sum_are_one_where_the_period_is_one_and_start_with_the_same_step() -> None:
    states = []
    for reduction in ("sum", "mean"):
        torch.manual_seed(1)
        core = make(periods=(1,), reduction=reduction)
        torch.manual_seed(2)
        states.append(walk(core, 6)[-1])
    assert torch.equal(states[0].level_delta, states[1].level_delta)
    for period in (1, 7):
        both = [ContinuumMemory(SIZE, WIDTH, periods=(period,), reduction=name).fast[0] for name in ("sum", "mean")]
        per_step, of_mean = (torch.sigmoid(block.rate_logit).item() for block in both)  # type: ignore[arg-type]
        assert per_step == pytest.approx(of_mean / period)


def test_t8_without_a_step_size_it_is_the_static_chain() -> None:
    """Eta = 0 leaves the meta-learned perceptrons (Eq. 70 with nothing learnt)."""
    core = make(periods=(2, 3))
    for block in core.fast:
        block.rate_logit.data.fill_(-torch.inf)  # type: ignore[union-attr, operator]
    for state in walk(core, 12):
        assert state.level_delta.abs().sum() == 0


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
def test_a_new_core_leaves_its_host_as_it_was(variant: Any) -> None:
    core = ContinuumMemory(SIZE, WIDTH, ACTIONS, variant=variant, periods=(1, 2))
    x, is_first, _, action = inputs()
    y, state = core(x, core.initial_state(STREAMS), is_first, None, action)
    assert torch.equal(y, core.norm_out(core.embed(x)))
    assert state.level_delta.abs().sum() > 0, "it has learnt, it only does not speak yet"


def nested(share: float) -> ContinuumMemory:
    core = make(variant="nested", periods=(2, 4, 8))
    for block in list(core.fast)[:-1]:
        block.blend_logit.data.fill_(share)  # type: ignore[union-attr, operator]
    return core


def test_t16_nested_levels_are_re_initialised_where_the_slower_level_has_its_boundary(dtype: torch.dtype) -> None:
    """After every boundary of the slower level the faster one stands at its initial state."""
    states = walk(nested(0.5), 24)
    for level, outer in ((0, 4), (1, 8)):
        for t in range(1, 25):
            stands = torch.equal(states[t].level_delta[:, level], states[t].level_start[:, level])
            assert stands == (t % outer < (2, 4)[level]), (level, t)  # until its own next write


def test_nested_without_a_share_restarts_at_the_meta_learned_weights() -> None:
    states = walk(nested(-torch.inf), 16)
    for t in range(17):
        assert states[t].level_start.abs().sum() == 0
        assert (states[t].level_delta[:, 0].abs().sum() == 0) == (t % 4 in (0, 1))


def test_nested_with_the_whole_share_is_sequential() -> None:
    one, other = nested(torch.inf), make(variant="sequential", periods=(2, 4, 8))
    other.load_state_dict({name: value for name, value in one.state_dict().items() if "blend" not in name})
    x, is_first, is_valid, action = inputs()
    y, after = one(x, one.initial_state(STREAMS), is_first, is_valid, action)
    y_chain, after_chain = other(x, other.initial_state(STREAMS), is_first, is_valid, action)
    torch.testing.assert_close(y, y_chain, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(after.level_delta, after_chain.level_delta, atol=1e-12, rtol=1e-12)


def test_the_initial_state_moves_by_its_share_to_where_the_chunk_ended() -> None:
    core = nested(0.0)
    # at t = 4 both the write of level 0 and its restart fall due; without the restart the write alone would stand
    alone = make(variant="sequential", periods=(2, 4, 8))
    alone.load_state_dict({name: value for name, value in core.state_dict().items() if "blend" not in name})
    torch.manual_seed(11)
    ends = walk(alone, 4)
    torch.manual_seed(11)
    states = walk(core, 4)
    torch.testing.assert_close(states[4].level_start[:, 0], 0.5 * ends[4].level_delta[:, 0])


def test_independent_blocks_see_the_same_input_and_are_summed_by_learnt_shares() -> None:
    """Eq. 74: with one share alone at 1, the core is that of this block alone, wherever it stands."""
    core = make(variant="independent", periods=(2, 3), slow_periods=())
    x, is_first, is_valid, action = inputs()
    reads = []
    for shares in ((1.0, 0.0), (0.0, 1.0), (0.3, -2.0)):
        core.mixture.data.copy_(torch.tensor(shares))  # type: ignore[union-attr]
        core.norm_out = torch.nn.Identity()  # type: ignore[assignment]
        y, _ = core(x, core.initial_state(STREAMS), is_first, is_valid, action)
        valid = x.masked_fill(~is_valid.unsqueeze(-1), 0.0)
        reads.append(y - core.embed(valid))
    torch.testing.assert_close(reads[2], 0.3 * reads[0] - 2.0 * reads[1], atol=1e-12, rtol=1e-12)
    swapped = make(variant="independent", periods=(3, 2), slow_periods=())
    names = {"fast.0.": "fast.1.", "fast.1.": "fast.0."}
    weights = {names.get(name[:7], name[:7]) + name[7:]: value for name, value in core.state_dict().items()}
    swapped.norm_out = torch.nn.Identity()  # type: ignore[assignment]
    swapped.load_state_dict(weights)
    swapped.mixture.data.copy_(torch.tensor((-2.0, 0.3)))  # type: ignore[union-attr]
    y_swapped, _ = swapped(x, swapped.initial_state(STREAMS), is_first, is_valid, action)
    torch.testing.assert_close(y_swapped, y, atol=1e-12, rtol=1e-12)


def test_streams_on_different_clocks_run_each_on_its_own() -> None:
    core = make(variant="nested", periods=(2, 4))
    x, is_first, is_valid, action = inputs()
    state = lived_in(core, 0)._replace(phase=torch.tensor([3, 0, 3]))
    y, after = core(x, state, is_first, is_valid, action)
    y_slow, after_slow = cms_reference(core, x, state, is_first, is_valid, action)
    for fast, slow in zip((y, *after), (y_slow, *after_slow), strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-9, rtol=1e-9)


def test_a_gap_is_looked_over() -> None:
    is_valid = torch.tensor([[True], [False], [False], [True]])
    newest = newest_valid(is_valid)
    assert newest.flatten().tolist() == [0, 1, 1, 1, 4]
    now = torch.arange(1.0, 5.0).view(4, 1, 1)
    found, last = shift(now, torch.zeros(1, 1), newest)
    assert found.flatten().tolist() == [0, 1, 1, 1] and last.tolist() == [[4.0]]
    found, last = shift(now, torch.zeros(1, 1), None)
    assert found.flatten().tolist() == [0, 1, 2, 3] and last.tolist() == [[4.0]]


def test_what_an_invalid_step_shows_is_not_looked_at() -> None:
    core = make(periods=(2, 3))
    x, is_first, is_valid, action = inputs()
    y, after = core(x, core.initial_state(STREAMS), is_first, is_valid, action)
    x[~is_valid] = torch.nan
    again, after_again = core(x, core.initial_state(STREAMS), is_first, is_valid, action)
    assert torch.equal(y, again) and torch.equal(after.level_delta, after_again.level_delta)


def test_the_nest_names_every_level_with_its_unit() -> None:
    rows = make(variant="nested", periods=(2, 6), slow_periods=(4,), scope="split").levels()
    assert [(row.name, row.period, row.unit, row.scope) for row in rows] == [
        ("core.fast.0", 2, "env step", "episode"),
        ("core.fast.0.start", 6, "env step", "episode"),
        ("core.fast.1", 6, "env step", "never"),
        ("core.slow.0", 4, "learner update", "life"),
    ]
    assert len(make(variant="independent", periods=(2, 6)).levels()) == 3


@pytest.mark.parametrize("options", [SETTINGS[3], {"variant": "nested", "periods": (4,)}, SETTINGS[4]], ids=str)
def test_a_state_with_empty_parts_is_packed_too(options: dict[str, Any]) -> None:
    """No act-time level, or a nest without a level below: some leaves hold nothing."""
    core = make(**options)
    x, is_first, is_valid, action = inputs()
    state = core(x, core.initial_state(STREAMS), is_first, is_valid, action)[1]
    assert core.pack(state).shape == (STREAMS, core.state_size)
    for one, other in zip(core.unpack(core.pack(state)), state, strict=True):
        assert torch.equal(one, other)


def test_a_stream_keeps_few_floats() -> None:
    for variant in ("sequential", "nested", "independent"):
        assert make_core("cms", input_size=64, width=64, variant=variant).state_size <= 8_192
        assert make_core("cms", input_size=128, width=128, variant=variant, periods=(4, 32, 256)).state_size <= 20_000


HOSTILE = {
    "constant": lambda steps: torch.ones(steps, 1, SIZE),
    "huge": lambda steps: torch.randn(steps, 1, SIZE) * 1e6,
    "alternating": lambda steps: torch.ones(steps, 1, SIZE) * (1 - 2 * (torch.arange(steps) % 2))[:, None, None],
    "zero": lambda steps: torch.zeros(steps, 1, SIZE),
    "random": lambda steps: torch.randn(steps, 1, SIZE),
    "jumping": lambda steps: torch.randn(steps, 1, SIZE).sign() * 10.0 ** torch.randint(-6, 7, (steps, 1, 1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    {"variant": "sequential", "periods": (4, 64)},
    {"variant": "nested", "periods": (8, 64, 512), "reduction": "sum"},
    {"variant": "independent", "periods": (16, 256), "scope": "episode"},
], ids=str)  # fmt: skip
def test_memory_stays_bounded_over_1e5_hostile_steps(options: dict[str, Any]) -> None:
    torch.set_default_dtype(torch.float32)
    core = ContinuumMemory(SIZE, 8, ACTIONS, size=4, slow_periods=(), **options)
    for block in core.fast:  # a step size that overshoots where it can
        block.rate_logit.data.fill_(4.0)  # type: ignore[union-attr, operator]
    steps, piece = 100_000, 2_048
    x = torch.cat([make_x(steps) for make_x in HOSTILE.values()], dim=1)  # one hostile stream each, side by side
    state = core.initial_state(len(HOSTILE))
    with torch.no_grad():
        for start in range(0, steps, piece):
            part = x[start : start + piece]
            flags = torch.rand(part.shape[:2]) < 0.001
            y, state = core(part, state, flags, None, torch.randn(*part.shape[:2], ACTIONS), start % core.clock_period)
            assert y.isfinite().all() and state.level_gradient.isfinite().all()
            for leaf in (state.level_delta, state.level_start):
                assert leaf.norm(dim=2).max() <= 8.0 + 1e-4 if leaf.numel() else True
    assert state.level_delta.abs().max() > 1e-3


@pytest.mark.parametrize(("options", "message"), [
    ({"variant": "chained"}, "variant must be sequential, nested or independent, got 'chained'"),
    ({"scope": "life"}, "scope must be episode, never or split"),
    ({"reduction": "max"}, "reduction must be mean or sum"),
    ({"periods": (), "slow_periods": ()}, "needs a level"),
    ({"variant": "nested", "periods": (4, 6)}, r"6 env steps is no multiple .* of 4 in \(4, 6\); .* \(4, 8\)"),
    ({"variant": "nested", "periods": (8, 4)}, "fastest first: 4 env steps is no multiple"),
    ({"variant": "nested", "periods": (4, 4)}, "4 env steps is no multiple"),
    ({"periods": (0,)}, r"each of periods must be an integer >= 1 \(env steps\), got 0"),
    ({"slow_periods": (0.5,)}, r"each of slow_periods must be an integer >= 1 \(learner updates\)"),
    ({"size": 0}, "size must be an integer >= 1"),
    ({"retention": 0.0}, "retention must be a time constant"),
    ({"radius": 0.0}, "radius must be a norm > 0"),
    ({"blend": 1.0}, "blend must be a share between 0 and 1"),
    ({"expansion": -1.0}, "expansion must be a ratio"),
])  # fmt: skip
def test_bad_options_say_what_was_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
    assert issubclass(ConfigError, ValueError)
