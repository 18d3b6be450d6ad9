"""The ring holds the newest chunks, the reservoir a uniform sample of those that left it, and no chunk lies twice."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch

from nl_agents.errors import StateMismatchError
from nl_agents.learning import ReplayBuffer, Rollout
from nl_agents.memory import MemoryCore, make_codec, make_core

STEPS, STREAMS = 2, 3


@functools.cache
def chunk(number: int) -> Rollout:
    """A rollout in which stream b of every block holds the number ``number * STREAMS + b``, its chunk's own."""
    own = torch.arange(STREAMS) + number * STREAMS
    plain = own.float().expand(STEPS, STREAMS).clone()
    wide = plain.unsqueeze(-1)
    flags = plain.long() % 2 == 0
    blocks = {name: plain for name in Rollout._fields}
    blocks |= {name: wide for name in ("rows", "last_action", "parameters")}
    blocks |= {name: flags for name in ("is_first", "is_valid", "trains", "terminated", "truncated")}
    return Rollout(**{**blocks, "actions": plain.long(), "state": own.float().unsqueeze(-1)})


def fill(buffer: ReplayBuffer, rollouts: int, start: int = 0) -> ReplayBuffer:
    for number in range(start, start + rollouts):
        buffer.add(chunk(number), clock=number % 4)
    return buffer


def held(buffer: ReplayBuffer) -> tuple[list[int], list[int]]:
    """Chunk numbers in the ring and in the reservoir."""
    assert buffer.store is not None
    numbers = buffer.store.state[:, 0].long().tolist()
    filled = min(buffer.count, buffer.recent)
    taken = min(buffer.offered, buffer.reservoir)
    return numbers[:filled], numbers[buffer.recent : buffer.recent + taken]


def make(recent: int, reservoir: int, seed: int = 0) -> ReplayBuffer:
    return ReplayBuffer(recent, reservoir, np.random.default_rng(seed))


@pytest.mark.parametrize(("recent", "reservoir"), [(5, 7), (4, 0), (0, 6), (3, 100)])
@pytest.mark.parametrize("rollouts", [1, 2, 4, 20])
def test_ring_is_newest_reservoir_is_older_and_nothing_lies_twice(recent: int, reservoir: int, rollouts: int) -> None:
    buffer = fill(make(recent, reservoir), rollouts)
    lived = rollouts * STREAMS
    ring, older = held(buffer)
    assert sorted(ring) == list(range(max(0, lived - recent), lived))
    assert len(older) == min(reservoir, max(0, lived - recent)) and len(set(older)) == len(older)
    assert not set(ring) & set(older) and all(number < lived - len(ring) for number in older)
    assert buffer.size == len(ring) + len(older)


def test_every_block_of_a_chunk_travels_together() -> None:
    buffer = fill(make(4, 6), 40)
    assert buffer.store is not None
    numbers = buffer.store.state[:, 0].long()
    assert torch.equal(buffer.born, numbers) and len(set(numbers.tolist())) == 10
    for name, block in buffer.store._asdict().items():
        per_chunk = block.reshape(10, -1)
        expected = numbers % 2 == 0 if block.dtype == torch.bool else numbers.to(block.dtype)
        assert torch.equal(per_chunk, expected.unsqueeze(1).expand_as(per_chunk)), name
    assert buffer.clocks == [number // STREAMS % 4 for number in numbers.tolist()]


def test_the_reservoir_is_a_uniform_sample_of_what_left_the_ring() -> None:
    recent, reservoir, rollouts, lives = 2, 8, 8, 200
    left = rollouts * STREAMS - recent
    counts = np.zeros(left)
    for seed in range(lives):
        counts[held(fill(make(recent, reservoir, seed), rollouts))[1]] += 1
    expected = lives * reservoir / left
    chi_square = ((counts - expected) ** 2 / (expected * (1 - reservoir / left))).sum()
    assert counts.sum() == lives * reservoir
    assert chi_square < left + 4 * np.sqrt(2 * left)


def test_samples_are_drawn_from_all_that_is_held_without_repetition() -> None:
    buffer = fill(make(5, 7), 20)
    ring, older = held(buffer)
    seen: set[int] = set()
    for _ in range(60):
        chunks, _, age = buffer.sample(6)
        numbers = chunks.state[:, 0].long().tolist()
        assert len(set(numbers)) == 6
        assert chunks.rows.shape == (STEPS, 6, 1) and chunks.actions[0].tolist() == numbers
        assert age == pytest.approx(59 - np.mean(numbers))
        seen |= set(numbers)
    assert seen == set(ring) | set(older)
    everything, _, _ = buffer.sample(30)  # more than there are: with repetition
    assert set(everything.state[:, 0].long().tolist()) <= seen


def test_a_common_clock_is_told_and_a_mixed_one_is_not() -> None:
    buffer = make(6, 0)
    buffer.add(chunk(0), clock=3)
    assert buffer.sample(3)[1] == 3
    buffer.add(chunk(1), clock=2)
    assert buffer.sample(6)[1] is None


def test_a_sample_is_a_copy() -> None:
    buffer = fill(make(3, 0), 1)
    buffer.sample(3)[0].rewards.fill_(-1.0)
    assert buffer.store is not None and bool((buffer.store.rewards >= 0).all())


def test_a_saved_buffer_goes_on_alike() -> None:
    one, other = fill(make(4, 6), 9), make(4, 6, seed=77)
    other.load_state_dict(copy.deepcopy(one.state_dict()), torch.device("cpu"))
    fill(one, 9, start=9), fill(other, 9, start=9)
    assert held(one) == held(other) and (one.count, one.offered) == (other.count, other.offered)
    for _ in range(5):
        mine, theirs = one.sample(5), other.sample(5)
        assert all(torch.equal(a, b) for a, b in zip(mine[0], theirs[0], strict=True)) and mine[1:] == theirs[1:]


def test_an_empty_buffer_is_saved_too() -> None:
    other = make(4, 6)
    other.load_state_dict(make(4, 6).state_dict(), torch.device("cpu"))
    assert other.store is None and other.size == 0


@pytest.mark.parametrize(("recent", "reservoir"), [(0, 0), (-1, 5), (5, -1)])
def test_sizes_that_cannot_work_are_refused(recent: int, reservoir: int) -> None:
    with pytest.raises(ValueError, match="must be >= 0 and not both 0"):
        make(recent, reservoir)


# ------------------------------------------------------- compressed start states, refused chunks


def life_chunk(core: MemoryCore, seed: int) -> Rollout:
    """A rollout of ``STREAMS`` streams whose start states are a core's, full of numbers."""
    noise = torch.randn(STREAMS, core.state_size, generator=torch.Generator().manual_seed(seed))
    return chunk(seed)._replace(state=noise)


@pytest.mark.parametrize("name", ["bf16", "int8", "low-rank:2"])
def test_start_states_come_back_as_the_codec_reads_them(name: str) -> None:
    core = make_core("gated-delta", input_size=4, width=32, heads=2)
    codec = make_codec(name, core)
    plain, coded = make(4, 6), ReplayBuffer(4, 6, np.random.default_rng(0), codec)
    for seed in range(9):
        plain.add(life_chunk(core, seed), 0), coded.add(life_chunk(core, seed), 0)
    assert coded.store is not None and plain.store is not None
    assert coded.store.state.dtype == torch.uint8 and coded.store.state.nbytes < 0.6 * plain.store.state.nbytes
    for _ in range(4):
        (exact, *_), (rough, *_) = plain.sample(5), coded.sample(5)
        assert torch.equal(rough.state, codec.decode(codec.encode(exact.state)))
        assert all(torch.equal(a, b) for a, b in zip(exact[:-1], rough[:-1], strict=True))


def test_a_saved_buffer_with_a_codec_goes_on_alike_and_no_other_form_is_taken() -> None:
    core = make_core("gated-delta", input_size=4, width=32, heads=2)
    one, other = (ReplayBuffer(4, 6, np.random.default_rng(0), make_codec("int8", core)) for _ in range(2))
    for seed in range(5):
        one.add(life_chunk(core, seed), 0)
    other.load_state_dict(copy.deepcopy(one.state_dict()), torch.device("cpu"))
    for seed in range(5, 9):
        one.add(life_chunk(core, seed), 0), other.add(life_chunk(core, seed), 0)
    mine, theirs = one.sample(5), other.sample(5)
    assert all(torch.equal(a, b) for a, b in zip(mine[0], theirs[0], strict=True))
    with pytest.raises(StateMismatchError, match=r"as float32, and the saved buffer holds torch.uint8.*state_codec"):
        make(4, 6).load_state_dict(one.state_dict(), torch.device("cpu"))
    with pytest.raises(StateMismatchError, match="replay keeps start states as bf16"):
        bf16 = ReplayBuffer(4, 6, np.random.default_rng(0), make_codec("bf16", core))
        bf16.load_state_dict(one.state_dict(), torch.device("cpu"))


@pytest.mark.parametrize("block", ["state", "values", "rewards", "parameters"])
@pytest.mark.parametrize("with_codec", [False, True])
def test_a_chunk_that_is_not_finite_is_refused_and_counted(block: str, with_codec: bool) -> None:
    core = make_core("gated-delta", input_size=4, width=32, heads=2)
    buffer = ReplayBuffer(4, 6, np.random.default_rng(0), make_codec("int8", core) if with_codec else None)
    bad = life_chunk(core, 0)
    spoilt = getattr(bad, block).clone()
    spoilt[(1, ...) if block == "state" else (0, 1)] = float("nan")
    buffer.add(bad._replace(**{block: spoilt}), 0)
    assert (buffer.refused, buffer.size) == (1, STREAMS - 1)
    chunks, *_ = buffer.sample(8)
    assert all(bool(part.isfinite().all()) for part in chunks)
    buffer.add(bad._replace(state=torch.full_like(bad.state, float("inf"))), 0)
    assert (buffer.refused, buffer.size, buffer.state_dict()["refused"]) == (1 + STREAMS, STREAMS - 1, 1 + STREAMS)


def test_rows_of_the_stores() -> None:
    assert [(row.name, row.unit, row.scope) for row in make(4, 6).levels()] == [
        ("replay.recent", "rollout", "life"),
        ("replay.reservoir", "rollout", "life"),
    ]
    assert [row.name for row in make(0, 6).levels()] == ["replay.reservoir"]
