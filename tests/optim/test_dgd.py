"""Delta gradient descent is the minimum it claims to be, for every length of the input."""

from __future__ import annotations

import pytest
import torch

from nl_agents.optim import delta_gradient_step


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("length", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 1.0, 2.0, 5.0])
def test_t6_it_equals_a_linear_solve(length: float, rate: float, dtype: torch.dtype, within: float) -> None:
    """Argmin 1/2 |W x - u|^2 + 1/(2 eta) |W - W_t|^2, u = -grad: W (x x^T + I / eta) = u x^T + W_t / eta."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 6, generator=generator, dtype=dtype)
    inputs = torch.randn(6, generator=generator, dtype=dtype)
    inputs *= length / inputs.norm()
    slope = torch.randn(4, generator=generator, dtype=dtype)
    system = inputs.outer(inputs) + torch.eye(6, dtype=dtype) / rate
    expected = torch.linalg.solve(system, (-slope.outer(inputs) + weight / rate).T).T
    torch.testing.assert_close(delta_gradient_step(weight, inputs, slope, rate), expected, rtol=within, atol=within)


def test_it_forgets_along_the_input_only() -> None:
    weight, inputs = torch.eye(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    moved = delta_gradient_step(weight, inputs, torch.zeros(2, dtype=torch.float64), 1.0)
    torch.testing.assert_close(moved, torch.tensor([[0.5, 0.0], [0.0, 1.0]], dtype=torch.float64))
