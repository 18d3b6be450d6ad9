"""The needle: once shown, far away, and with episodes in between only for a memory that outlives them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from nl_agents.probes import Needle


def known_after_resets(probe: Needle, span: int) -> float:
    """Accuracy of a perfect memory that every episode clears."""
    batch = probe.batch(np.random.default_rng(0), 400, span)
    right = []
    for stream in range(400):
        known: dict[int, int] = {}
        for row, first, asked, target in zip(*(leaf[:, stream] for leaf in (batch.x, batch.is_first, batch.mask)),
                                             batch.targets[:, stream], strict=True):  # fmt: skip
            if first:
                known.clear()
            key = int(row[: probe.keys].argmax())
            if asked:
                right.append(known.get(key, 0) == target)
            elif row[: probe.keys].any():
                known[key] = int(row[probe.keys : probe.keys + probe.values].argmax())
    return float(np.mean(right))


@pytest.mark.parametrize("span", [1, 50])
def test_episodes_between_leave_a_cleared_memory_with_chance(span: int) -> None:
    assert known_after_resets(Needle(), span) == 1.0
    assert known_after_resets(Needle(across_episodes=True), span) == pytest.approx(1 / 8, abs=0.05)


def test_episodes_have_the_length_that_was_asked_for() -> None:
    probe = Needle(across_episodes=True, episode_length=50)
    batch = probe.batch(np.random.default_rng(0), 20, 5000)
    assert batch.is_first.sum(axis=0).mean() == pytest.approx(2 + 5000 / 50, rel=0.1)
    assert Needle().batch(np.random.default_rng(0), 20, 5000).is_first.sum() == 20


def test_the_distance_is_the_number_of_steps_between() -> None:
    batch = Needle(pairs=2).batch(np.random.default_rng(0), 3, 30)
    shows = batch.x[:, :, 8:16].any(axis=2)
    assert np.flatnonzero(shows[:, 0]).tolist() == [0, 1]
    assert np.flatnonzero(batch.mask[:, 0]).tolist() == [32, 33]
    assert (batch.x[2:32, :, 16:24].sum(axis=2) == 1).all()


def test_a_hundred_thousand_steps_take_the_memory_of_a_segment() -> None:
    probe, asked, steps = Needle(across_episodes=True), 0, 0
    tracemalloc.start()
    for piece in probe.stream(np.random.default_rng(0), 4, 100_000, segment=1000):
        asked, steps = asked + int(piece.mask.sum()), steps + len(piece.x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (steps, asked) == (100_002, 4)
    assert peak < 5e6  # bytes; the whole of x alone would be 40 MB
