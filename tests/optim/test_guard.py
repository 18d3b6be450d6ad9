"""The guard: its bounds hold for every input, and its gate follows the evidence."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nl_agents.optim import guard

RHO = TAU = KAPPA = 0.5
LEAST_COSINE = RHO / math.hypot(RHO, TAU)
LONGEST = math.hypot(1 + KAPPA, TAU)


def random_pair(seed: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors whose lengths span 16 decades; some proposals nearly (anti)parallel to the anchor."""
    generator = torch.Generator().manual_seed(seed)
    scales = 10 ** (torch.rand(2, generator=generator, dtype=torch.float64) * 16 - 8)
    a, q = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    if seed % 3 == 0:
        q = (1 - 2 * (seed % 2)) * a + 10 ** -(float(torch.rand((), generator=generator)) * 12) * q
    return (a * scales[0]).to(dtype), (q * scales[1]).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gate", [0.0, 0.05, 0.7, 1.0])
def test_angle_and_length_are_bounded_over_sixteen_decades(gate: float, dtype: torch.dtype) -> None:
    slack = 1e-5 if dtype == torch.float32 else 1e-9
    for seed in range(250):
        anchor, proposal = random_pair(seed, dtype)
        step = guard.guarded_step(anchor, proposal, gate)
        a, u = anchor.double(), step.double()
        assert torch.isfinite(u).all()
        cosine, length = float(a @ u / a.norm() / u.norm()), float(u.norm() / a.norm())
        assert cosine >= LEAST_COSINE - 10 * slack, seed
        assert RHO - 10 * slack <= length <= LONGEST + 10 * slack, seed


def test_the_bounds_are_attained() -> None:
    anchor = torch.tensor([1.0, 0.0], dtype=torch.float64)
    away = guard.guarded_step(anchor, torch.tensor([-100.0, 1e4], dtype=torch.float64), 1.0)
    torch.testing.assert_close(away, torch.tensor([0.5, 0.5], dtype=torch.float64), rtol=1e-6, atol=1e-6)
    along = guard.guarded_step(anchor, torch.tensor([100.0, 1e4], dtype=torch.float64), 1.0)
    torch.testing.assert_close(along, torch.tensor([1.5, 0.5], dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_a_modest_proposal_passes_unchanged() -> None:
    anchor, proposal = torch.tensor([1.0, 0.0]), torch.tensor([0.9, 0.3])
    torch.testing.assert_close(guard.guarded_step(anchor, proposal, 0.5), torch.tensor([0.95, 0.15]))
    assert torch.equal(guard.guarded_step(anchor, proposal, 0.0), anchor)


@pytest.mark.parametrize(
    ("anchor", "proposal"), [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [math.inf, 0.0]), ([1.0, 2.0], [math.nan, 1.0])]
)
def test_without_anchor_or_with_a_broken_proposal_the_step_is_the_anchor(
    anchor: list[float], proposal: list[float]
) -> None:
    given_anchor = torch.tensor(anchor)
    assert torch.equal(guard.guarded_step(given_anchor, torch.tensor(proposal), 1.0), given_anchor)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-8, 8), st.floats(-8, 8), st.floats(-1, 1), st.floats(0, 1), st.floats(0.05, 0.95), st.floats(0.05, 2.0)
)
def test_grafted_form_equals_the_general_one(
    log_a: float, log_q: float, cosine: float, gate: float, rho: float, tau: float
) -> None:
    a, q = (torch.tensor([10.0**log], dtype=torch.float64) for log in (log_a, log_q))
    share = torch.tensor([gate], dtype=torch.float64)
    alpha, beta, factor, seen = guard.bound_grafted(a**2, cosine * a * q, q**2, share, rho=rho, tau=tau)
    torch.testing.assert_close(factor, guard.graft(a**2, q**2))
    torch.testing.assert_close(seen, torch.full_like(seen, cosine), rtol=1e-9, atol=1e-9)
    general = guard.bound(a**2, factor * cosine * a * q, a**2, share, rho=rho, tau=tau)
    torch.testing.assert_close(torch.stack([alpha, beta]), torch.stack(general), rtol=1e-6, atol=1e-6)
    along, across = float(alpha + beta * cosine), float(beta) * math.sqrt(max(0.0, 1 - cosine**2))
    assert along / math.hypot(along, across) >= rho / math.hypot(rho, tau) - 1e-9
    assert rho - 1e-9 <= math.hypot(along, across) <= math.hypot(1, tau) + 1e-9


def test_grafted_form_of_nothing_is_the_anchor() -> None:
    one, zero = torch.ones(1), torch.zeros(1)
    alpha, beta, factor, cosine = guard.bound_grafted(one, zero, zero, one)
    assert (float(alpha), float(beta), float(factor), float(cosine)) == (1.0, 0.0, 0.0, 1.0)
    alpha, beta, factor, _ = guard.bound_grafted(zero, zero, one, one)
    assert math.isfinite(float(alpha)) and float(beta * factor) == 0.0, "no anchor: whatever multiplies q is 0"


def test_gate_starts_at_its_prior_and_follows_the_evidence() -> None:
    odds = torch.zeros(1)
    assert float(guard.gate(odds, 0.05)) == pytest.approx(0.05)
    better, worse = torch.tensor([0.5]), torch.tensor([0.4])
    for _ in range(200):
        odds = guard.hedge(odds, worse, better, rate=1.0, discount=0.99)
    assert float(guard.gate(odds, 0.05)) > 0.9
    for _ in range(400):
        odds = guard.hedge(odds, better, worse, rate=1.0, discount=0.99)
    assert float(guard.gate(odds, 0.05)) < 0.01


def test_hedge_trails_the_better_expert_by_little() -> None:
    """Regret of plain Hedge (no discount) to the anchor, on random losses: at most ln(1/p) / eta + eta T / 2."""
    generator = torch.Generator().manual_seed(0)
    rate, steps = 0.1, 400
    for _ in range(50):
        gains = torch.rand(steps, 2, generator=generator, dtype=torch.float64) * 2 - 1
        odds, got = torch.zeros(1, dtype=torch.float64), 0.0
        for anchor, proposal in gains:
            share = float(guard.gate(odds, 0.05))
            got += (1 - share) * float(anchor) + share * float(proposal)
            odds = guard.hedge(odds, anchor[None], proposal[None], rate=rate, discount=1.0)
        assert float(gains[:, 0].sum()) - got <= math.log(1 / 0.95) / rate + rate * steps / 2


def test_an_outlier_moves_the_odds_by_no_more_than_two_rates() -> None:
    odds = guard.hedge(torch.zeros(1), torch.tensor([-1e9]), torch.tensor([1e9]), rate=0.5, discount=0.99)
    assert float(odds) == 1.0
