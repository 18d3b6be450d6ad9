"""How long a step of a self-modifying memory may be, and that no input whatever makes the memory grow without end."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.modify_rule import Rule, step_bound
from tests.memory.judging import SIZE, silent
from tests.memory.modifying import make

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("chunk", [1, 2, 3, 8, 32])
@pytest.mark.parametrize("rule", ["dgd", "gd"])
def test_the_step_bound_keeps_every_chunk_from_growing(rule: Any, chunk: int) -> None:
    """The map of a chunk on its anchor, by random and by extreme keys and retentions (proof: ``step_bound``)."""
    bound = step_bound(rule, "l2", chunk)
    for trial in range(200):
        keys = F.normalize(torch.randn(chunk, 3) + (0.0, 1.0, 5.0)[trial % 3], dim=1)
        steps = bound * (torch.rand(chunk) if trial % 2 else torch.ones(chunk))
        retention = (torch.rand(chunk) < 0.8).double() if trial % 5 == 0 else torch.ones(chunk)
        running, start = torch.eye(3), torch.eye(3)
        for k, eta, alpha in zip(keys, steps, retention, strict=True):
            erased = torch.outer(running @ k, k) if rule == "dgd" else 0.0
            running = alpha * running - eta * erased - eta * torch.outer(start @ k, k)
        assert torch.linalg.matrix_norm(running, 2) <= 1.0 + 1e-9
    same = F.normalize(torch.ones(3), dim=0)
    left = 2.0 * (1.0 - bound) ** chunk - 1.0 if rule == "dgd" else 1.0 - chunk * bound
    assert left >= -1e-12 and same.norm() == pytest.approx(1.0)


def hostile(steps: int) -> Tensor:
    """Streams [T, 6, D]: noise, one step endlessly, zeros, signs that alternate, steps that return, huge numbers."""
    returning = torch.randn(7, SIZE).repeat(steps // 7 + 1, 1)[:steps] + 0.3 * torch.randn(steps, SIZE)
    sign = torch.tensor([1.0, -1.0]).repeat(steps // 2 + 1)[:steps, None]
    constant = torch.ones(steps, SIZE)
    huge = 1e6 * torch.randn(steps, 1).sign() * constant
    return torch.stack((10.0 * torch.randn(steps, SIZE), constant, 0.0 * constant, sign * constant, returning, huge), 1)


HOSTILE: dict[str, dict[str, Any]] = {
    "default": {"chunk": 64},
    "overlong-steps": {"chunk": 64, "step_limit": 1.0, "largest_momentum": 0.99},
    "gradient": {"chunk": 64, "step_limit": 1.0, "write": "gd"},
    "hebb": {"chunk": 64, "objective": "dot", "write": "gd", "decay": False},
    "mlp": {"chunk": 64, "memory": "mlp"},
    "mlp-overlong-steps": {"chunk": 64, "memory": "mlp", "step_limit": 1.0, "write": "gd", "decay": False},
    "exact": {"chunk": 1, "step_limit": 1.0},
    "mlp-exact": {"chunk": 1, "memory": "mlp", "step_limit": 1.0},
    "stale-read": {"chunk": 64, "projection_chunk": 32, "read": "anchor", "own_targets": False, "decay": False},
}


def stays_bounded(options: dict[str, Any], steps: int) -> None:
    torch.set_default_dtype(torch.float32)
    core = make(scope="never", **options)
    if core.memory.log_tau is not None:
        core.memory.log_tau.data.fill_(20.0)  # next to no forgetting: the rule itself has to hold
    core.memory.gate_bias.data[:, 0] += 10.0  # step sizes at their bound
    core.mix.bias.data[3 * core.heads * core.key_size :] += 10.0  # and momenta
    state, piece = core.initial_state(6), min(steps, 6_400)
    with torch.no_grad():
        for _ in range(0, steps, piece):
            y, state = core(hostile(piece), state, silent(piece, 6))
            assert y.isfinite().all()
    assert all(leaf.isfinite().all() for leaf in state)
    for part in core.memory._layers(state.delta):  # a chunk has just ended
        assert part.norm(dim=-1).max() <= core.rule.radius * part.shape[-1] ** 0.5 * (1 + 1e-5)


@pytest.mark.parametrize("name", ["default", "mlp-overlong-steps"])
def test_t12_a_memory_stays_bounded_for_a_hundred_thousand_steps(name: str) -> None:
    stays_bounded(HOSTILE[name], 102_400)


@pytest.mark.parametrize("memory", ["linear", "mlp"])
def test_t12_so_does_the_exact_form(memory: str) -> None:
    stays_bounded({"chunk": 1, "memory": memory, "step_limit": 1.0}, 1_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_t12_so_does_every_variant_for_a_hundred_thousand_steps(name: str) -> None:
    stays_bounded(HOSTILE[name], 102_400)


def test_without_confinement_a_plain_sum_grows_without_end() -> None:
    """The bound is no ornament: Hebbian writes that never fade."""
    fixed = {f"adaptive_{name}": False for name in ("key", "value", "step")}
    options = {"objective": "dot", "write": "gd", "decay": False, "chunk": 64, **fixed}
    sizes = []
    for radius in (4.0, math.inf):
        core = make(radius=radius, **options)
        _, state = core(torch.ones(3200, 1, SIZE), core.initial_state(1), silent(3200, 1))
        sizes.append(float(state.delta.detach().abs().max()))
    assert sizes[0] <= 4.0 * 3.0**0.5 and sizes[1] > 20.0


def test_a_memory_that_does_not_modify_itself_is_refused() -> None:
    for names in (("key", "value"), ("mem", "keys")):
        with pytest.raises(ValueError, match="modifies must name mem and may name key, value, step, retention, query"):
            Rule(modifies=names)
