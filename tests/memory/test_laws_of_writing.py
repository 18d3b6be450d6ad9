"""What every core promises of its writes: when they happen, what they are without a step, what learns through them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nl_agents.memory import MemoryCore
from tests.memory.cores import STEPS, STREAMS, VARIANTS, WIDTH, Life, close

ANCHORED = [
    name
    for name, (kind, options) in VARIANTS.items()
    if kind in ("hope", "titans", "self-modifying")
    and options.get("chunk", 1) > 1
    and "projection_chunk" not in options
]
LEVELLED = [name for name, (kind, _) in VARIANTS.items() if kind in ("hope", "cms")]


def moments(states: list[Any], leaf: str, level: int | None = None) -> list[int]:
    """After which steps a leaf of the state, or one level's part of it, is another than before."""
    parts = [getattr(state, leaf) if level is None else getattr(state, leaf)[:, level] for state in states]
    return [t for t in range(1, len(parts)) if not torch.equal(parts[t - 1], parts[t])]


def multiples(period: int) -> list[int]:
    return list(range(period, STEPS + 1, period))


@pytest.mark.parametrize("name", LEVELLED, indirect=True)
def test_t5_a_level_changes_only_where_its_period_ends(core: MemoryCore) -> None:
    """Never at the first step, and where it does change its sum of gradients begins anew."""
    _, states = Life(plain=True).walk(core, core.initial_state(STREAMS))
    rows = [row for row in core.state_levels() if row.name.startswith("core.fast") and "start" not in row.name]
    for index, row in enumerate(rows):
        level = index if hasattr(states[0], "level_start") else None  # hope has one level, without an axis
        assert moments(states, "level_delta", level) == multiples(row.period)
        for t in multiples(row.period):
            summed = states[t].level_gradient if level is None else states[t].level_gradient[:, level]
            assert summed.abs().sum() == 0
    starts = [row for row in core.state_levels() if row.name.endswith("start")]
    for index, row in enumerate(starts):
        assert moments(states, "level_start", index) == multiples(row.period)


@pytest.mark.parametrize("name", ANCHORED, indirect=True)
def test_t5_anchors_move_only_where_a_chunk_ends(core: MemoryCore, name: str) -> None:
    chunk = VARIANTS[name][1]["chunk"]
    _, states = Life(plain=True).walk(core, core.initial_state(STREAMS))
    assert moments(states, "anchor") == multiples(chunk)


def stop_writing(core: Any) -> None:
    """Closes the gate of every step size: eta = 0, exactly."""
    for name, parameter in core.named_parameters():
        if name.endswith("rate_logit"):
            parameter.data.fill_(-torch.inf)
        elif name.endswith("gate_bias"):
            parameter.data[:, 0] = -1e5
    kind = type(core).__name__
    if kind == "GatedDeltaCore":
        core.mix.bias.data[4 * WIDTH : 4 * WIDTH + core.heads] = -1e5
    elif kind == "TitansCore":
        core.mix.bias.data[4 * WIDTH + 2 * core.heads :] = -1e5


WRITTEN = ("delta", "momentum", "anchor", "memory", "level_delta", "level_gradient", "level_start")
STATIC = [
    name for name, (kind, _) in VARIANTS.items() if kind in ("hope", "cms", "self-modifying", "gated-delta", "titans")
]


@pytest.mark.parametrize("name", STATIC, indirect=True)
def test_t8_without_a_step_size_it_is_the_static_net(core: MemoryCore) -> None:
    """Nothing is ever written; what is read depends on the sensors (last inputs) at most, not on the past."""
    stop_writing(core)
    life = Life()
    y, after = life.run(core, core.initial_state(STREAMS))
    for name in WRITTEN:
        if hasattr(after, name) and name != "level_gradient":
            assert getattr(after, name).abs().sum() == 0, name
    _, sensed = life.run(core, core.initial_state(STREAMS), 0, STEPS - 1)
    zero = {name: torch.zeros_like(getattr(sensed, name)) for name in WRITTEN if hasattr(sensed, name)}
    late, _ = life.run(core, sensed._replace(**zero), STEPS - 1)
    close((late,), (y[-1:],))


@pytest.mark.parametrize(
    "name", [name for name, (kind, _) in VARIANTS.items() if kind not in ("feed-forward", "mlp")], indirect=True
)
def test_t9_every_meta_parameter_gets_a_gradient_in_mid_episode(core: MemoryCore) -> None:
    life = Life(plain=True)
    with torch.no_grad():
        _, state = life.run(core, core.initial_state(STREAMS), 0, 3)
    y, _ = life.run(core, state, 3)
    (y * torch.linspace(-1, 1, WIDTH)).sum().backward()
    for label, parameter in core.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, label
        assert parameter.grad.isfinite().all(), label


def test_t9_gradients_match_finite_differences(core64: MemoryCore) -> None:
    """Float64 only: differences of 1e-6 do not exist in float32, whose gradients the next test holds to these."""
    life = Life()
    state = core64.initial_state(STREAMS)
    names = [name for name, _ in core64.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        parts = (life.x, life.is_first, life.is_valid, life.action)
        x, *rest = (part[:18] for part in parts)
        y, _ = torch.func.functional_call(core64, dict(zip(names, values, strict=True)), (x, state, *rest))
        return (y * torch.linspace(-1, 1, WIDTH)).sum()

    values = tuple(parameter.detach().clone().requires_grad_() for parameter in core64.parameters())
    assert torch.autograd.gradcheck(run, values, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_t9_gradients_in_float32_are_those_of_float64(core64: MemoryCore) -> None:
    """On the same numbers, those that float32 can hold; the difference is measured against the whole gradient."""
    life, gradients = Life(), []
    for kind in (torch.float32, torch.float64):
        core64.to(kind)
        torch.set_default_dtype(kind)
        life.x, life.action = life.x.to(kind), life.action.to(kind)
        y, _ = life.run(core64, core64.initial_state(STREAMS))
        loss = (y * torch.linspace(-1, 1, WIDTH)).sum()
        grads = torch.autograd.grad(loss, list(core64.parameters()), allow_unused=True, materialize_grads=True)
        gradients.append(torch.cat([grad.double().flatten() for grad in grads]))
    rounded, exact = gradients
    assert (rounded - exact).norm() <= 1e-5 * exact.norm()
