"""TRAC against Algorithm 1 in plain numpy, scipy's erfi, and what its authors say of it."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import erfi as judge

from nl_agents.optim import TracAdamW
from nl_agents.optim.trac import BETAS, erfi


def test_erfi_equals_scipys() -> None:
    x = torch.cat((torch.linspace(-8, 8, 1601, dtype=torch.float64), torch.logspace(-12, 1.2, 50, dtype=torch.float64)))
    assert np.allclose(erfi(x).numpy(), judge(x.numpy()), rtol=1e-12, atol=0.0)
    assert float(erfi(torch.zeros(()))) == 0.0


def test_against_the_algorithm() -> None:
    torch.manual_seed(0)
    model, base = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    base.load_state_dict(model.state_dict())
    mine = TracAdamW(model.parameters(), lr=1e-2)
    s_init, eps = 1e-8, 1e-8
    reference = [p.detach().clone() for p in model.parameters()]
    first, second, way = ([np.zeros(p.shape) for p in reference] for _ in range(3))
    betas, v, sigma = np.array(BETAS), np.zeros(6), np.full(6, 1e-8)
    for step in range(1, 60):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        mine.zero_grad()
        (model(x) - 3.0).square().mean().backward()
        gradients = [p.grad.double().numpy().copy() for p in model.parameters() if p.grad is not None]
        mine.step()
        h = sum(float((d * g).sum()) for d, g in zip(way, gradients, strict=True))
        v, sigma = betas**2 * v + h**2, betas * sigma - h
        s = s_init / judge(1 / math.sqrt(2)) * judge(sigma / (np.sqrt(2) * np.sqrt(v) + eps))
        scale = max(float(s.sum()), 0.0)
        for index, g in enumerate(gradients):
            first[index] = 0.9 * first[index] + 0.1 * g
            second[index] = 0.999 * second[index] + 0.001 * g * g
            root = np.sqrt(second[index] / (1 - 0.999**step)) + 1e-8
            way[index] -= 1e-2 * first[index] / (1 - 0.9**step) / root
        for p, start, d in zip(model.parameters(), reference, way, strict=True):
            expected = start.double().numpy() + scale * d
            assert np.allclose(p.detach().numpy(), expected, atol=1e-5)
        assert float(mine.scale) == pytest.approx(scale, rel=1e-3, abs=1e-9)


def test_the_scale_grows_where_going_on_pays_and_falls_where_it_does_not() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    mine, furthest = TracAdamW([weight], lr=1e-2), 0.0
    for _ in range(300):  # towards 3: where it arrives the tuner stops
        weight.grad = weight.detach() - 3.0
        mine.step()
        furthest = max(furthest, float(mine.scale))
    assert furthest > 0.1 and float((weight.detach() - 3.0).abs().max()) < 0.5
    for _ in range(300):  # towards -3: the way that AdamW has gone is now wrong
        weight.grad = weight.detach() + 3.0
        mine.step()
        if float(mine.scale) < 0.5 * furthest:
            break
    assert float(mine.scale) < 0.5 * furthest


def test_a_refused_step_changes_nothing_and_state_goes_on_exactly() -> None:
    torch.manual_seed(0)
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    mine = TracAdamW(one.parameters(), lr=1e-2)
    for step in range(6):
        mine.zero_grad()
        one(torch.randn(4, 3, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        mine.step()
    twin = TracAdamW(other.parameters(), lr=1e-2)
    other.load_state_dict(one.state_dict())
    twin.load_state_dict(copy.deepcopy(mine.state_dict()))
    before = [p.detach().clone() for p in one.parameters()]
    one.weight.grad = torch.full_like(one.weight, torch.nan)
    mine.step()
    assert int(mine.refused_steps) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, one.parameters(), strict=True))
    for model, optimizer in ((one, mine), (other, twin)):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert torch.equal(mine.scale, twin.scale) and mine.statistics()["trac_scale"] == mine.scale
