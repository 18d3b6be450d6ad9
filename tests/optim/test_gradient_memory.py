"""The gradient memory: closed forms, scale, and that it foretells what can be foretold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nl_agents.optim import gradient_memory as gm

PRIOR = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)


def lesson_of(momenta: Tensor, gradient: Tensor) -> gm.Lesson:
    rows = torch.cat([momenta, gradient[None]])
    return gm.make_lesson((rows @ rows.T)[None])


def test_untaught_memory_is_its_prior() -> None:
    weights = gm.solve(torch.zeros(2, 3, 3).double(), torch.zeros(2, 3).double(), PRIOR, ridge=0.01, floor=1e-4)
    assert torch.equal(weights, PRIOR.expand(2, 3))


def test_solution_is_the_minimum_of_the_stated_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    gram, cross = roots @ roots.mT, torch.randn(4, 3, generator=generator, dtype=torch.float64)
    weights = gm.solve(gram, cross, PRIOR, ridge=0.01, floor=1e-4).requires_grad_()
    strength = 0.01 / 3 * gram.diagonal(dim1=-2, dim2=-1).sum(-1) + 1e-4
    loss = 0.5 * torch.einsum("nk,nkl,nl->n", weights, gram, weights) - (weights * cross).sum(-1)
    loss = loss + 0.5 * strength * ((weights - PRIOR) ** 2).sum(-1)
    (slope,) = torch.autograd.grad(loss.sum(), weights)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)


def test_a_broken_gram_matrix_falls_back_to_the_prior() -> None:
    gram = torch.stack([torch.eye(3), torch.full((3, 3), torch.nan)]).double()
    weights = gm.solve(gram, torch.ones(2, 3).double(), PRIOR, ridge=0.01, floor=1e-4)
    assert torch.isfinite(weights).all() and torch.equal(weights[1], PRIOR)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_lesson_has_no_scale(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    momenta, gradient = torch.randn(3, 50, generator=generator), torch.randn(50, generator=generator)
    lesson, scaled = lesson_of(momenta, gradient), lesson_of(scale * momenta, scale * gradient)
    for one, other in zip(lesson, scaled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert float(lesson.keys.diagonal(dim1=-2, dim2=-1).sum() + lesson.value) == pytest.approx(1, abs=1e-5)


def test_a_lesson_of_nothing_and_one_that_overflows_teach_nothing() -> None:
    for rows in (torch.zeros(1, 4, 4), torch.full((1, 4, 4), torch.inf)):
        lesson = gm.make_lesson(rows)
        assert all(torch.equal(part, torch.zeros_like(part)) for part in lesson)
        assert all(torch.equal(gain, torch.zeros(1)) for gain in gm.gains(lesson, torch.ones(1, 3), torch.ones(1)))
        assert torch.equal(gm.errors(lesson, torch.ones(1, 3)), torch.ones(1, 2))


def test_errors_and_gains_are_what_they_say() -> None:
    generator = torch.Generator().manual_seed(1)
    momenta = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    gradient = torch.randn(40, generator=generator, dtype=torch.float64)
    weights, graft = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64), torch.tensor([1.7], dtype=torch.float64)
    lesson = lesson_of(momenta, gradient)
    foretold = weights[0] @ momenta
    expected = [(gradient - guess).square().sum() / gradient.square().sum() for guess in (foretold, momenta[0])]
    torch.testing.assert_close(gm.errors(lesson, weights)[0], torch.stack(expected))
    scale = gradient.norm() * momenta[0].norm()
    anchor, proposal = gm.gains(lesson, weights, graft)
    torch.testing.assert_close(anchor[0], gradient @ momenta[0] / scale)
    torch.testing.assert_close(proposal[0], 1.7 * gradient @ foretold / scale)


def test_it_foretells_better_than_any_single_momentum() -> None:
    """A gradient that oscillates slowly: a mixture with signs beats every one of the averages it is made of."""
    generator = torch.Generator().manual_seed(0)
    decays = torch.tensor([0.7, 0.95, 0.99], dtype=torch.float64)
    momenta = torch.zeros(3, 64, dtype=torch.float64)
    phase = torch.rand(64, generator=generator, dtype=torch.float64) * 6.28
    gram, cross = torch.zeros(1, 3, 3).double(), torch.zeros(1, 3).double()
    total = torch.zeros(4, dtype=torch.float64)
    for step in range(2000):
        mean = torch.sin(phase + step / 15)
        gradient = mean + 0.5 * torch.randn(64, generator=generator, dtype=torch.float64)
        weights = gm.solve(gram, cross, PRIOR, ridge=0.01, floor=1e-4)
        if step > 500:
            guesses = torch.cat([weights @ momenta, momenta])
            total += (guesses - mean).square().mean(1)
        lesson = lesson_of(momenta, gradient)
        gram, cross = torch.lerp(gram, lesson.keys, 0.05), torch.lerp(cross, lesson.cross, 0.05)
        momenta = decays[:, None] * momenta + (1 - decays[:, None]) * gradient
    assert float(total[0]) < 0.8 * float(total[1:].min()), total


def test_slow_weights_average_plainly_and_then_exponentially() -> None:
    assert [gm.slow_weight(writes, 0.9) for writes in (1, 2, 4)] == [1.0, 0.5, 0.25]
    assert gm.slow_weight(1000, 0.9) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("learn_period", 0, "learn_period must be an integer >= 1"),
        ("retention", 1.0, r"retention must lie in \(0, 1\)"),
        ("gate", 0.0, r"gate must lie in \(0, 1\)"),
        ("tau", -1.0, "tau must be >= 0"),
    ],
)
def test_options_that_cannot_work_are_refused(field: str, value: float, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        gm.MemoryOptions(**{field: value})


def test_a_regression_without_ridge_is_refused() -> None:
    with pytest.raises(ValueError, match="ridge and ridge_floor are both 0"):
        gm.MemoryOptions(ridge=0.0, ridge_floor=0.0)
