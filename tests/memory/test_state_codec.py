"""Laws of every codec on the state of every core: counters exact, fresh stays fresh, errors within the stated bound."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from nl_agents.errors import ConfigError, NonFiniteError, StateMismatchError, UnknownNameError
from nl_agents.memory import CODECS, MemoryCore, make_codec, make_core
from nl_agents.memory.base import CLOCK
from nl_agents.memory.chosen_levels import leave_out
from nl_agents.memory.cms import ContinuumMemory
from nl_agents.memory.fast_block import FastBlock
from nl_agents.memory.hope import HopeCore
from nl_agents.memory.state_layout import state_layout
from tests.memory.cores import ACTIONS, SIZE, VARIANTS, WIDTH

NAMES = ("float32", "bf16", "int8", "int8:5", "low-rank:1")
STREAMS = 3


def build(variant: str) -> MemoryCore:
    name, options = VARIANTS[variant]
    more = {"action_size": ACTIONS} if name == "hope" else {}
    return make_core(name, input_size=SIZE, width=WIDTH, **options, **more)


def has_matrices(core: MemoryCore) -> bool:
    try:
        make_codec("low-rank:1", core)
    except ConfigError:
        return False
    return True


def lived(core: MemoryCore, steps: int = 40) -> Tensor:
    """Packed states after some life."""
    torch.manual_seed(1)
    x, is_first = torch.randn(steps, STREAMS, SIZE), torch.rand(steps, STREAMS) < 0.05
    with torch.no_grad():
        state = core(x, core.initial_state(STREAMS), is_first)[1]
    return core.pack(state)


def codecs(variant: str) -> list[tuple[MemoryCore, str]]:
    core = build(variant)
    return [(core, name) for name in NAMES if not name.startswith("low-rank") or has_matrices(core)]


def test_every_codec_is_under_law() -> None:
    assert {name.partition(":")[0] for name in NAMES} == set(CODECS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_number_of_a_state_has_one_owner(variant: str) -> None:
    core = build(variant)
    rows, owners = core.state_levels(), core.owners()
    assert type(owners) is core.state_type
    for owner, leaf in zip(owners, core.initial_state(1), strict=True):
        assert owner.shape == leaf.shape[1:]
        assert bool(((owner >= 0) & (owner < len(rows))).all() if leaf.is_floating_point() else (owner == CLOCK).all())
    owned = {int(index) for owner in owners for index in owner.unique()}
    assert owned - {CLOCK} == set(range(len(rows)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_say_how_much_a_level_owns(variant: str) -> None:
    core = build(variant)
    owners = [owner for name, owner in core.owners()._asdict().items() if name not in core.shared]
    for index, row in enumerate(core.state_levels()):
        told = re.search(r"(\d+) floats a stream", row.stores)
        assert told is not None and int(told[1]) == sum(int((owner == index).sum()) for owner in owners), row


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_read_back_lies_within_the_bound(variant: str) -> None:
    for core, name in codecs(variant):
        codec, packed = make_codec(name, core), lived(core)
        code = codec.encode(packed)
        assert code.dtype == torch.uint8 and code.shape == (STREAMS, codec.bytes_per_stream)
        again = codec.decode(code)
        assert again.shape == packed.shape and again.dtype == torch.float32
        error, bound = (again - packed).abs(), codec.error_bound(packed)
        assert bool((error <= bound).all()), f"{name}: {float((error - bound).max())} beyond the bound"
        for before, after, owner in zip(core.unpack(packed), core.unpack(again), core.owners(), strict=True):
            assert torch.equal(before[:, owner == CLOCK], after[:, owner == CLOCK])
        if name == "float32":
            assert torch.equal(again, packed) and codec.bytes_per_stream == 4 * core.state_size
        for stream in range(STREAMS):  # streams do not touch each other
            assert torch.equal(codec.encode(packed[stream : stream + 1])[0], code[stream])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fresh_state_is_read_back_fresh(variant: str) -> None:
    for core, name in codecs(variant):
        codec = make_codec(name, core)
        fresh = core.pack(core.initial_state(STREAMS))
        assert torch.equal(codec.decode(codec.encode(fresh)), fresh)


@pytest.mark.parametrize("name", NAMES)
def test_extreme_numbers_stay_finite_and_within_the_bound(name: str) -> None:
    core = build("gated-delta")
    codec = make_codec(name, core)
    packed = torch.zeros(STREAMS, core.state_size)
    packed[0, :3] = torch.tensor([3.4e38, -3.4e38, 1.0]) if "rank" not in name else torch.tensor([1e36, -1e36, 1.0])
    packed[1, 4], packed[2, 5] = 1e-44, 1e-30
    again = codec.decode(codec.encode(packed))
    assert bool(again.isfinite().all()) and bool(((again - packed).abs() <= codec.error_bound(packed)).all())
    if "rank" in name:
        packed[0, 0] = 2e36
        with pytest.raises(NonFiniteError, match=r"numbers beyond 1e\+36 \(in memory\)"):
            codec.encode(packed)


def test_sizes_are_as_planned() -> None:
    core = make_core("hope", input_size=8, width=32)
    size = {name: make_codec(name, core).bytes_per_stream for name in ("float32", "bf16", "int8:32", "low-rank:2")}
    learnt = core.state_size - 1  # and the step clock
    assert core.state_size == 6945
    assert size["float32"] == 4 * learnt + 4 and size["bf16"] == 2 * learnt + 4
    blocks = 2 * 100 + 2 * 8 + 2 * 1  # delta and anchor, level delta and gradient, key and signal
    assert size["int8:32"] == learnt + 4 * blocks + 4
    assert size["low-rank:2"] == 4 * (2 * 4 * 2 * (16 + 50) + 2 * 2 * (16 + 16) + 2 * 16 + 1)


def test_a_matrix_of_low_rank_is_kept_whole() -> None:
    core = make_core("gated-delta", input_size=8, width=32, heads=2)
    memory = core.initial_state(STREAMS)
    left, right = torch.randn(STREAMS, 2, 16, 3), torch.randn(STREAMS, 2, 3, 16)
    packed = core.pack(type(memory)(left @ right))
    codec = make_codec("low-rank:3", core)
    assert torch.allclose(codec.decode(codec.encode(packed)), packed, atol=1e-4)
    rough = make_codec("low-rank:1", core)
    error = (rough.decode(rough.encode(packed)) - packed).view(-1, 16, 16)
    sizes = torch.linalg.svdvals(packed.view(-1, 16, 16))
    assert torch.allclose(error.norm(dim=(1, 2)), sizes[:, 1:].norm(dim=1), rtol=1e-3)  # Eckart-Young


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_state_that_is_not_finite_is_refused(name: str, bad: float) -> None:
    core = build("hope-8")
    packed = lived(core)
    packed[1, 3] = bad
    with pytest.raises(NonFiniteError, match=r"memory of stream 1 is not finite \(in delta\) and was not stored"):
        make_codec(name, core).encode(packed)


def test_wrong_names_ranks_and_sizes_are_told() -> None:
    core, lstm = build("hope-8"), build("lstm-never")
    with pytest.raises(UnknownNameError, match="unknown state codec 'low-rnk': did you mean 'low-rank'"):
        make_codec("low-rnk:3", core)
    with pytest.raises(
        ConfigError, match="rank 9 is too large for the state of a HopeCore: its matrices are 4 x 14, 16 x 16"
    ):
        make_codec("low-rank:9", core)
    with pytest.raises(ConfigError, match="no smaller; give low-rank:7 or less"):
        make_codec("low-rank:8", core)
    with pytest.raises(ConfigError, match="state of a LstmCore has none; give bf16 or int8"):
        make_codec("low-rank:2", lstm)
    for name in ("int8:0", "int8:x", "low-rank:-1", "low-rank:"):
        with pytest.raises(ConfigError, match="with an integer N >= 1"):
            make_codec(name, core)
    with pytest.raises(ConfigError, match="expected bf16 without a parameter"):
        make_codec("bf16:3", core)
    codec = make_codec("int8", core)
    with pytest.raises(StateMismatchError, match="expects packed states"):
        codec.encode(torch.zeros(2, core.state_size + 1))
    with pytest.raises(StateMismatchError, match="decode with the codec that encoded"):
        codec.decode(torch.zeros(2, codec.bytes_per_stream))


@pytest.mark.parametrize("variant", ["hope-8", "gated-delta", "titans-chunk", "diagonal", "lstm-never"])
def test_a_level_left_out_is_read_back_newborn_and_the_others_whole(variant: str) -> None:
    core = build(variant)
    packed, whole = lived(core), make_codec("float32", core).bytes_per_stream
    for index, row in enumerate(core.state_levels()):
        codec = make_codec("float32", core, without=[row.name])
        again = core.unpack(codec.decode(codec.encode(packed)))
        gone = 0
        for before, after, owner in zip(core.unpack(packed), again, core.owners(), strict=True):
            gone += int((owner == index).sum())
            assert not bool(after[:, owner == index].any())
            assert torch.equal(after[:, owner != index], before[:, owner != index])
        assert gone > 0 and codec.bytes_per_stream == whole - 4 * gone


def test_levels_left_out_pass_their_input_on() -> None:
    torch.manual_seed(0)
    core = build("hope-8")
    for parameter in core.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    leave_out(core, ["core.fast", "core.slow.0", "core.memory.never"])
    x = torch.randn(5, STREAMS, WIDTH)
    fast, slow = core.get_submodule("fast"), core.get_submodule("slow.0")
    none = torch.zeros(5, STREAMS, dtype=torch.bool)
    inputs = torch.randn(5, STREAMS, SIZE)
    y, _ = fast(x, inputs, fast.initial_state(STREAMS), none, None, None, 0)
    assert torch.equal(y, x) and torch.equal(slow(x), x)
    assert not torch.equal(core.get_submodule("slow.1")(x), x)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_memory_written_once_has_rank_one(variant: str) -> None:
    core = build(variant)
    torch.manual_seed(0)
    for parameter in core.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    core.double()
    if not has_matrices(core):
        return
    x, state = torch.randn(2, STREAMS, SIZE).double(), core.initial_state(STREAMS)
    firsts, valid = torch.zeros(2, STREAMS, dtype=torch.bool), torch.ones(2, STREAMS, dtype=torch.bool)
    with torch.no_grad():
        state = core(x[:1], state, firsts[:1])[1]  # act-time levels learn from the second step on
        if isinstance(core, HopeCore | ContinuumMemory):
            state = core(x[1:], core.initial_state(STREAMS)._replace(**last_step(state)), firsts[:1], valid[:1])[1]
    packed = core.pack(state)
    written = 0
    for piece in state_layout(core).pieces:
        if piece.matrix is not None:
            sizes = torch.linalg.svdvals(packed[:, piece.columns].view(-1, *piece.matrix))
            assert bool((sizes[:, 1:] <= 1e-9 * sizes[:, :1] + 1e-14).all()), piece.name
            written += int((sizes[:, 0] > 1e-9).sum())
    assert written > 0


def last_step(state: Any) -> dict[str, Tensor]:
    """What a state says of the last step, and nothing that it has written."""
    names = ("level_key", "level_signal", "level_input", "signal", "phase")
    return {name: leaf for name, leaf in state._asdict().items() if name in names}


LEVELS = [
    (variant, row.name) for variant, (kind, _) in VARIANTS.items() if kind in ("hope", "cms")
    for row in build(variant).levels()
]  # fmt: skip


@pytest.mark.parametrize(("variant", "level"), LEVELS)
def test_a_cms_level_left_out_has_no_say(variant: str, level: str) -> None:
    """Whatever its weights; heads and initial weights are state alone, which is not stored."""
    torch.manual_seed(0)
    core = build(variant)
    for parameter in core.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    state = core.unpack(lived(core))
    leave_out(core, [level])
    if "memory" in level or "start" in level:
        return
    x, none = torch.randn(5, STREAMS, SIZE), torch.zeros(5, STREAMS, dtype=torch.bool)
    expected, _ = core(x, state, none)
    for parameter in core.get_submodule(level.removeprefix("core.")).parameters():
        parameter.data += torch.randn_like(parameter) * (parameter != 0)
    y, _ = core(x, state, none)
    assert torch.equal(y, expected)


def test_a_level_that_nothing_goes_round_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    core = build("cms")
    monkeypatch.delattr(FastBlock, "mute")
    with pytest.raises(ConfigError, match=r"level 'core\.fast\.0' cannot be left out: nothing goes round it"):
        leave_out(core, ["core.fast.0"])


def test_what_all_levels_look_at_is_kept_for_those_that_stay() -> None:
    core = build("cms")
    packed = lived(core)
    for without, kept in ((["core.fast.0"], True), (["core.fast.0", "core.fast.1"], False)):
        codec = make_codec("float32", core, without)
        again = core.unpack(codec.decode(codec.encode(packed)))
        assert torch.equal(again.signal, core.unpack(packed).signal) is kept


def test_unknown_levels_are_told() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown level 'core.fst': did you mean 'core.fast'"):
        leave_out(build("hope-8"), ["core.fst"])
    with pytest.raises(UnknownNameError, match=r"unknown level 'core.fst': did you mean 'core.fast'"):
        make_codec("float32", build("hope-8"), without=["core.fst"])


def test_a_string_is_one_level() -> None:
    core = build("hope-8")
    one, other = (make_codec("int8", core, without) for without in ("core.fast", ["core.fast"]))
    assert one.bytes_per_stream == other.bytes_per_stream < make_codec("int8", core).bytes_per_stream
    torch.nn.init.ones_(core.get_submodule("fast").out.weight)
    leave_out(core, "core.fast")
    assert not core.get_submodule("fast").out.weight.any()


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_on_cuda_what_is_read_back_lies_within_the_bound(name: str) -> None:
    core = build("hope-8")
    codec, packed = make_codec(name, core), lived(core).cuda()
    again = codec.decode(codec.encode(packed))
    assert again.is_cuda and bool(((again - packed).abs() <= codec.error_bound(packed)).all())
