"""A layer of a self-modifying memory, its inner gradients, the convolution before it: against written equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.convolution import convolve
from nl_agents.memory.modify_form import At, tell
from nl_agents.memory.modify_layer import Kept, Told, confine, fade, write

pytestmark = pytest.mark.usefixtures("dtype")  # every equation in float64 and in float32


def layer(steps: int, erases: bool, eta: float, alpha: float = 1.0, mu: float | None = None) -> Any:
    """One matrix of one head that is told the same unit key again and again: a runner of one chunk."""
    key = F.normalize(torch.randn(3), dim=0)
    alive = torch.ones(1, 1, steps, dtype=torch.bool)
    logs = torch.full((1, 1, steps), alpha).log()
    still = torch.zeros(1, 1, steps, dtype=torch.int64)
    fading = fade(logs, None if mu is None else torch.full((1, 1, steps), mu).log(), alive, still, still[..., :1])
    keys, step = key.expand(1, 1, 1, steps, 3), torch.full((1, 1, 1, steps, 1), eta)

    def run(base: Tensor, kept: Kept, error: Tensor) -> Kept:
        told = Told(keys, error.expand(1, 1, 1, steps, 2), step)
        return write(told, base.view(1, 1, 2, 3), kept, fading, erases)[1]

    return key, run


def kept(delta: Tensor, momentum: Tensor | None = None) -> Kept:
    shape = (1, 1, 1, 2, 3)
    return Kept(delta.view(shape), None if momentum is None else momentum.view(shape))


@pytest.mark.parametrize("erases", [True, False])
def test_t7_one_exact_step_is_the_written_equation(erases: bool) -> None:
    """Eq. 93 with chunks of one step: alpha M - 2 eta (M k - vhat / 2) k^T; without erasing the plain delta rule."""
    base, delta, target = torch.zeros(2, 3), torch.randn(2, 3), torch.randn(2)
    key, run = layer(1, erases, eta=0.3, alpha=0.9)
    after = run(base, kept(delta), delta @ key - target).delta.view(2, 3)
    double = 2.0 if erases else 1.0
    expected = 0.9 * delta - 0.3 * double * torch.outer(delta @ key - target / double, key)
    torch.testing.assert_close(after, expected)


def test_t7_a_repeated_key_comes_to_hold_half_of_its_target_and_the_dot_product_all_of_it() -> None:
    """What the paper's rule stores: gradient and erasure both shrink what is there, the target counts once."""
    target, base = torch.randn(2), torch.zeros(2, 3)
    for erases, is_dot, share in ((True, False, 0.5), (False, False, 1.0), (True, True, 1.0)):
        key, run = layer(1, erases, eta=0.3)
        memory = kept(torch.randn(2, 3))
        for _ in range(200):
            held = memory.delta.view(2, 3) @ key
            memory = run(base, memory, -target if is_dot else held - target)
        torch.testing.assert_close(memory.delta.view(2, 3) @ key, share * target)


@pytest.mark.parametrize("zeta", [0.5, 1.0, 2.0])
def test_t6_the_write_is_the_delta_gradient_step_of_its_least_squares_problem(zeta: float) -> None:
    """Argmin 1/2 |W k - u|^2 + 1/(2 zeta) |W - W_t|^2 with u = -grad is Eq. 88's step of eta = zeta / (1 + zeta)."""
    before, target = torch.randn(2, 3), torch.randn(2)
    key, run = layer(1, True, eta=zeta / (1.0 + zeta))
    error = before @ key - target
    after = run(before, kept(torch.zeros(2, 3)), error).delta.view(2, 3) + before
    gram = torch.outer(key, key) + torch.eye(3) / zeta
    torch.testing.assert_close(after, torch.linalg.solve(gram, (torch.outer(-error, key) + before / zeta).mT).mT)


def test_a_chunk_with_momentum_is_its_recurrence() -> None:
    steps, eta, alpha, mu = 6, 0.2, 0.95, 0.6
    base, delta, momentum, error = torch.randn(2, 3), torch.randn(2, 3), torch.randn(2, 3), torch.randn(2)
    key, run = layer(steps, True, eta, alpha, mu)
    after = run(base, kept(delta, momentum), error)
    for _ in range(steps):
        momentum = mu * momentum - eta * torch.outer(error, key)
        delta = alpha * delta - eta * torch.outer((base + delta) @ key, key) + momentum
    torch.testing.assert_close(after.delta.view(2, 3), delta)
    assert after.momentum is not None
    torch.testing.assert_close(after.momentum.view(2, 3), momentum)


@pytest.mark.parametrize("objective", ["l2", "dot"])
def test_inner_gradients_of_a_perceptron_are_those_of_its_loss(objective: Any) -> None:
    lift, drop = torch.randn(1, 1, 5, 3, requires_grad=True), torch.randn(1, 1, 3, 5, requires_grad=True)
    key, target = F.normalize(torch.randn(3), dim=0), torch.randn(3)
    answer = key + drop[0, 0] @ F.silu(lift[0, 0] @ key)
    loss = 0.5 * (answer - target).square().sum() if objective == "l2" else -(answer * target).sum()
    expected = torch.autograd.grad(loss, (lift, drop))
    told = tell(
        At((lift, drop), None, None), key.expand(1, 1, 1, 1, 3), target.expand(1, 1, 1, 1, 3), torch.ones(1), objective
    )
    for one, gradient in zip(told, expected, strict=True):
        torch.testing.assert_close(torch.outer(one.error.flatten(), one.key.flatten()), gradient[0, 0])


def test_what_is_short_enough_is_left_bit_for_bit() -> None:
    rows = torch.randn(5, 3)
    for radius in (100.0, 4.0, 3.7, math.inf):  # in float32 as well: what is not confined must not fade chunk by chunk
        assert torch.equal(confine(rows, radius), rows)
    torch.testing.assert_close(confine(rows, 1e-3).norm(dim=1), torch.full((5,), 1e-3 * 3.0**0.5))
    flat = torch.zeros(2, 3, requires_grad=True)
    confine(flat, 1.0).sum().backward()
    assert flat.grad is not None and torch.equal(flat.grad, torch.ones(2, 3))


@pytest.mark.parametrize("width", [1, 2, 4, 20])
def test_the_convolution_is_that_of_torch_on_a_single_episode(width: int) -> None:
    z, kernel, past = torch.randn(2, 1, 9, 3), torch.randn(1, width, 3), torch.zeros(2, 1, width - 1, 3)
    never = torch.zeros(2, 1, 9, dtype=torch.int64)
    out, kept_past = convolve(z, past, kernel, never[:, 0] == 0, never)
    weight = kernel[0].flip(0).T.unsqueeze(1)  # oldest first
    torch.testing.assert_close(out[:, 0].mT, F.conv1d(F.pad(z[:, 0].mT, (width - 1, 0)), weight, groups=3))
    line = torch.cat((past, z), 2)
    assert torch.equal(kept_past, line[:, :, line.shape[2] - (width - 1) :])
