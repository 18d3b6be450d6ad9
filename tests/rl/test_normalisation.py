"""Running moments: exact against the whole sample, in any cut, masked, and following drift without collapse."""

from __future__ import annotations

import math

import pytest
import torch

from nl_agents.rl.normalisation import initial_moments, normalise, update_moments, variance


def test_any_cut_gives_the_moments_of_the_whole() -> None:
    data = torch.randn(90, 4, generator=torch.Generator().manual_seed(0)) * 50 + 1e4
    for sizes in ([90], [1, 89], [30, 30, 30], [7, 0, 83]):
        state = initial_moments((4,))
        for part in data.split(sizes):
            state = update_moments(state, part)
        exact = data.double()
        torch.testing.assert_close(state.mean, exact.mean(0))
        torch.testing.assert_close(variance(state), exact.var(0, correction=0))
        assert state.weight.item() == 90


def test_time_and_stream_axes_and_image_features() -> None:
    data = torch.randint(0, 255, (5, 3, 2, 2), dtype=torch.uint8)
    state = update_moments(initial_moments((2, 2)), data)
    flat = data.reshape(15, 2, 2).double()
    torch.testing.assert_close(state.mean, flat.mean(0))
    torch.testing.assert_close(variance(state), flat.var(0, correction=0))
    assert normalise(data, state).dtype == torch.float32


def test_masked_samples_are_not_seen() -> None:
    data = torch.randn(6, 3, 2)
    mask = torch.rand(6, 3) < 0.6
    dirty = data.masked_fill(~mask[..., None], math.nan)
    state = update_moments(initial_moments((2,)), dirty, mask)
    expected = update_moments(initial_moments((2,)), data[mask])
    torch.testing.assert_close(state.mean, expected.mean)
    torch.testing.assert_close(state.m2, expected.m2)
    assert state.weight.item() == mask.sum().item()


def test_an_empty_batch_changes_nothing() -> None:
    state = update_moments(initial_moments((2,)), torch.randn(5, 2))
    after = update_moments(state, torch.full((4, 2), math.nan), torch.zeros(4, dtype=torch.bool), horizon=10.0)
    for old, new in zip(state, after, strict=True):
        assert torch.equal(old, new)
    fresh = update_moments(initial_moments((2,)), torch.zeros(0, 2))
    assert torch.equal(fresh.mean, torch.zeros(2, dtype=torch.float64))


def test_update_returns_a_new_state_and_leaves_the_old_one() -> None:
    state = update_moments(initial_moments((2,)), torch.randn(5, 2))
    kept = tuple(tensor.clone() for tensor in state)
    update_moments(state, torch.randn(50, 2))
    assert all(torch.equal(old, new) for old, new in zip(kept, state, strict=True))


def test_a_fresh_state_normalises_to_the_identity() -> None:
    x = torch.tensor([0.5, -2.0])
    torch.testing.assert_close(normalise(x, initial_moments((2,)), epsilon=0.0), x)


def test_normalised_data_has_unit_scale_and_is_clipped() -> None:
    data = torch.randn(1000, 3, generator=torch.Generator().manual_seed(1)) * 7 - 3
    state = update_moments(initial_moments((3,)), data)
    out = normalise(data, state)
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert normalise(torch.full((3,), 1e6), state, clip=5.0).tolist() == [5.0, 5.0, 5.0]


def test_a_constant_feature_stays_finite() -> None:
    state = update_moments(initial_moments((1,)), torch.full((100, 1), 3.0))
    assert normalise(torch.tensor([3.0]), state).item() == 0.0
    assert normalise(torch.tensor([3.1]), state).isfinite().all()


def test_forgetting_equals_the_weighted_sample() -> None:
    batches = torch.randn(6, 20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    state = initial_moments((2,))
    for batch in batches:
        state = update_moments(state, batch, horizon=50.0)
    weights = torch.tensor([math.exp(-20 * (5 - i) / 50) for i in range(6)], dtype=torch.float64).repeat_interleave(20)
    flat = batches.reshape(-1, 2)
    mean = (weights[:, None] * flat).sum(0) / weights.sum()
    spread = (weights[:, None] * (flat - mean).square()).sum(0) / weights.sum()
    torch.testing.assert_close(state.weight, weights.sum())
    torch.testing.assert_close(state.mean, mean)
    torch.testing.assert_close(variance(state), spread)


def test_forgetting_follows_a_shift_and_never_forgetting_does_not() -> None:
    generator = torch.Generator().manual_seed(3)
    old = torch.randn(500, 100, 1, generator=generator)
    new = torch.randn(40, 100, 1, generator=generator) * 0.1 + 5.0
    forgetful, stubborn = initial_moments((1,)), initial_moments((1,))
    for batch in old:
        forgetful, stubborn = update_moments(forgetful, batch, horizon=500.0), update_moments(stubborn, batch)
    halfway = forgetful
    for i, batch in enumerate(new):
        forgetful, stubborn = update_moments(forgetful, batch, horizon=500.0), update_moments(stubborn, batch)
        halfway = forgetful if i == 3 else halfway
    assert forgetful.mean.item() == pytest.approx(5.0, abs=0.05)
    assert stubborn.mean.item() < 0.5
    assert variance(halfway).item() > 4.0, "on the way the scale widens, so nothing saturates or collapses"
    assert variance(forgetful).item() < 0.05


def test_bad_arguments_are_refused() -> None:
    state = initial_moments((3,))
    with pytest.raises(ValueError, match=r"horizon must be > 0 samples, got 0\.0"):
        update_moments(state, torch.zeros(2, 3), horizon=0.0)
    with pytest.raises(ValueError, match=r"must end in the features \(3,\), got \(2, 4\)"):
        update_moments(state, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"mask must have the leading shape \(2,\), got \(3,\)"):
        update_moments(state, torch.zeros(2, 3), torch.ones(3, dtype=torch.bool))
