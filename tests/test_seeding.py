"""One seed gives many streams: equal on every machine, unrelated to each other."""

from __future__ import annotations

import numpy as np
import pytest

from nl_agents.seeding import generator, hash_uniform, spawn


def test_the_same_path_gives_the_same_seed_on_every_machine() -> None:
    # Computed once and written down: a change here changes every published life.
    assert spawn(0, "env", 3) == 269283875926489227
    assert spawn(7) == 4474668370826950401


def test_seeds_fit_a_signed_64_bit_integer() -> None:
    seeds = [spawn(seed, "stream", index) for seed in range(20) for index in range(50)]
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert max(seeds) > 2**62, "63 bits are used, not 32"


def test_other_names_other_orders_and_other_seeds_differ() -> None:
    paths = [(), ("env",), ("env", 0), ("env", 1), ("agent",), ("env", "agent"), ("agent", "env"), (0, "env")]
    seeds = [spawn(seed, *path) for seed in (0, 1) for path in paths]
    assert len(set(seeds)) == len(seeds)


def test_neighbouring_streams_are_not_correlated() -> None:
    draws = np.stack([generator(0, "replay", index).standard_normal(4000) for index in range(6)])
    correlation = np.corrcoef(draws) - np.eye(6)
    assert np.abs(correlation).max() < 0.06  # 4000 draws: standard error 0.016


def test_a_generator_continues_only_its_own_stream() -> None:
    first, other = generator(3, "schedule"), generator(3, "replay")
    expected = generator(3, "schedule").random(4)
    other.random(100)
    np.testing.assert_array_equal(first.random(4), expected)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"seed must be an integer >= 0, got -1; drop the sign"):
        spawn(-1, "env")


def test_hashed_numbers_are_uniform_and_belong_to_their_key_and_draw() -> None:
    keys = np.array([spawn(0, "stream", index) for index in range(50)], np.uint64)
    draws = np.arange(400, dtype=np.uint64)
    found = hash_uniform(keys[:, None], draws)
    np.testing.assert_array_equal(found[7, 3:9], hash_uniform(keys[7], draws[3:9]))
    assert found.min() >= 0.0 and found.max() < 1.0 and len(np.unique(found)) == found.size
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert np.abs(counts - 2000).max() < 200
    assert abs(np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]) < 0.03
