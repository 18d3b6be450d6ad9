"""Laws over all probes: fixed by the seed, right answers, out of reach without memory, cut anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.probes import (
    PROBES,
    AaStar,
    Autoencode,
    Batch,
    CountRecall,
    Needle,
    Probe,
    Recall,
    RepeatPrevious,
    SelectiveCopy,
    make_probe,
)
from nl_agents.probes.probe import join
from tests.probes import oracle

SPANS = (6, 20)
CASES = [(name, span) for name in PROBES for span in SPANS]


def draw(name: str, span: int, seed: int = 0, streams: int = 5) -> Batch:
    return make_probe(name).batch(np.random.default_rng(seed), streams, span)


def equal(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("name", "span"), CASES)
def test_shapes_and_types(name: str, span: int) -> None:
    probe, batch = make_probe(name), draw(name, span)
    steps = len(batch.x)
    assert batch.x.shape == (steps, 5, probe.features) and batch.x.dtype == np.float32
    assert batch.targets.shape == batch.mask.shape == batch.is_first.shape == (steps, 5)
    assert (batch.targets.dtype, batch.mask.dtype, batch.is_first.dtype) == (np.int64, np.bool_, np.bool_)
    assert set(np.unique(batch.x)) == {0.0, 1.0}
    assert batch.is_first[0].all() and batch.mask.any(axis=0).all()
    assert batch.targets.min() >= 0 and batch.targets.max() < probe.classes
    assert not batch.targets[~batch.mask].any()


@pytest.mark.parametrize(("name", "span"), CASES)
def test_a_seed_fixes_the_batch(name: str, span: int) -> None:
    assert equal(draw(name, span, seed=3), draw(name, span, seed=3))
    assert not equal(draw(name, span, seed=3), draw(name, span, seed=4))


@pytest.mark.parametrize(("name", "span"), CASES)
@pytest.mark.parametrize("segment", [1, 7, 10_000])
def test_a_stream_may_be_cut_anywhere(name: str, span: int, segment: int) -> None:
    probe = make_probe(name)
    pieces = list(probe.stream(np.random.default_rng(3), 5, span, segment))
    assert max(len(piece.x) for piece in pieces) <= segment
    assert equal(join(pieces), draw(name, span, seed=3))


@pytest.mark.parametrize(("name", "span"), CASES)
def test_a_judge_with_memory_knows_every_answer(name: str, span: int) -> None:
    batch = draw(name, span, streams=40)
    targets, mask = oracle.judged(make_probe(name), batch, span)
    np.testing.assert_array_equal(batch.mask, mask)
    np.testing.assert_array_equal(batch.targets, targets)


@pytest.mark.parametrize("name", PROBES)
def test_without_memory_chance_is_all_there_is(name: str) -> None:
    probe = make_probe(name)
    assert oracle.memoryless_accuracy(probe, 20) == pytest.approx(probe.chance, abs=0.03)


@pytest.mark.parametrize(
    "probe",
    [
        Needle(pairs=3),
        Needle(True, pairs=3),
        Recall(keys=7, values=3, noise=1),
        SelectiveCopy(3, 2),
        RepeatPrevious(2),
        CountRecall(3, 2),
        Autoencode(6),
    ],
    ids=lambda probe: type(probe).__name__,
)
def test_other_sizes_are_right_too(probe: Probe) -> None:
    batch = probe.batch(np.random.default_rng(0), 50, 5)
    targets, mask = oracle.judged(probe, batch, 5)
    np.testing.assert_array_equal(batch.mask, mask)
    np.testing.assert_array_equal(batch.targets, targets)


def test_aa_star_begins_at_different_steps_and_stands_still() -> None:
    batch = draw("aa-star", 6, streams=200)
    blanks = (batch.x[:, :, 0] == 1).sum(axis=0)
    assert set(blanks) == set(range(9))
    assert batch.mask.sum(axis=0).tolist() == [6] * 200
    assert (batch.x[batch.mask] == [0, 1]).all()


def test_names_and_options_are_checked() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown probe 'parrity': did you mean 'parity'"):
        make_probe("parrity")
    with pytest.raises(ConfigError, match=r"probe 'parity' has no option bits"):
        make_probe("parity", bits=3)
    with pytest.raises(ValueError, match=r"Parity expected a span of at least 2 bits, got 1"):
        draw("parity", 1)
    with pytest.raises(ValueError, match=r"expected at least 1 stream, got 0"):
        draw("needle", 5, streams=0)
    with pytest.raises(ValueError, match=r"at most 64 pairs, one for each key, got 65; raise keys"):
        draw("recall", 65)
    with pytest.raises(ValueError, match=r"at most 2 pairs, one for each key, got 3; raise keys"):
        Needle(pairs=3, keys=2)
    with pytest.raises(ValueError, match=r"Recall expected values >= 1, got 0"):
        Recall(values=0)
    with pytest.raises(ValueError, match=r"noise >= 0 steps a pair, got -1"):
        Recall(noise=-1)
    with pytest.raises(ValueError, match=r"lead >= 0 blanks, got -1"):
        AaStar(lead=-1)
    with pytest.raises(ValueError, match=r"segments of at least 1 step, got 0"):
        next(make_probe("needle").stream(np.random.default_rng(0), 2, 5, 0))
