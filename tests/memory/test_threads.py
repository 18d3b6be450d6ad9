"""Work that is divided over threads: every part once, errors raised where the caller stands, the same last bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nl_agents.memory import make_core, threads

pytest.importorskip("numba", reason="nothing is divided without compiled forms")


@pytest.fixture(params=["torch's team", "a pool"])
def two_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two torch threads, and each way to get at them."""
    if request.param == "a pool":
        monkeypatch.setattr(threads, "_team", lambda: None)
    elif threads._team() is None:
        pytest.skip("torch came without an OpenMP library of its own")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_every_part_is_run_once(parts: int) -> None:
    seen: list[int] = []
    threads.divided(lambda some: seen.extend(range(*some)), parts, threads.LEAST)
    assert sorted(seen) == list(range(parts))


@pytest.mark.usefixtures("two_threads")
def test_two_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=20.0)
    threads.divided(lambda some: meeting.wait() and None, 2, threads.LEAST)
    assert not meeting.broken


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("place", [0, 1])
def test_what_a_thread_raises_reaches_the_caller(place: int) -> None:
    def run(some: tuple[int, int]) -> None:
        if some[0] == place:
            raise ValueError("no such head")

    with pytest.raises(ValueError, match="no such head"):
        threads.divided(run, 2, threads.LEAST)


def test_little_work_and_one_thread_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    seen: list[tuple[int, int]] = []
    threads.divided(seen.append, 4, threads.LEAST - 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    threads.divided(seen.append, 4, 100 * threads.LEAST)
    assert seen == [(0, 4), (0, 4)]


def _learnt(heads: int) -> list[Tensor]:
    torch.manual_seed(0)
    core = make_core("hope", input_size=8, width=16, heads=heads)
    x = torch.randn(128, 4, 8, requires_grad=True)
    is_first = torch.rand(128, 4) < 0.05
    y, state = core(x, core.initial_state(4), is_first, phase=0)
    (y.square().sum() + sum(leaf.square().sum() for leaf in state[:-1])).backward()
    assert x.grad is not None
    return [
        y.detach(),
        x.grad,
        *(leaf.detach() for leaf in state),
        *(p.grad for p in core.parameters() if p.grad is not None),
    ]


@pytest.mark.parametrize("heads", [3, 4])
def test_the_memory_of_hope_is_the_same_to_the_last_bit(heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the memory is divided here: torch keeps one thread, because its own sums may depend on how many it has."""
    alone = _learnt(heads)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    shared = _learnt(heads)
    monkeypatch.setattr(threads, "_team", lambda: None)
    pooled = _learnt(heads)
    for one, other, third in zip(alone, shared, pooled, strict=True):
        assert torch.equal(one, other) and torch.equal(one, third)
