"""Sequences with clocks of their own, run together, give what each gives alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nl_agents.memory import make_core
from nl_agents.sb3.alignment import run_aligned

CORES: dict[str, tuple[str, dict[str, Any]]] = {
    "hope": ("hope", {"heads": 2, "key_size": 4, "chunk": 4, "level_period": 6, "level_size": 3}),
    "cms": ("cms", {"periods": (3, 6), "size": 3}),
    "cms-nested": ("cms", {"periods": (2, 4, 8), "size": 3, "variant": "nested", "scope": "split"}),
    "self-modifying": ("self-modifying", {"heads": 2, "chunk": 4, "projection_chunk": 6, "read": "anchor"}),
}


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", CORES)
def test_aligned_sequences_equal_sequences_one_by_one(name: str, gaps: bool) -> None:
    torch.manual_seed(0)
    kind, options = CORES[name]
    core = make_core(kind, input_size=5, width=8, **options).double()
    for parameter in core.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    streams, steps = 9, 14
    nothing = torch.zeros(11, streams, dtype=torch.bool)
    state = core.initial_state(streams)
    kept = []
    for step in range(11):  # stream b is taken at clock b + 2 of its life
        with torch.no_grad():
            _, state = core(torch.randn(1, streams, 5).double(), state, nothing[step : step + 1])
        kept.append(state)
    state = type(state)(*(torch.stack([kept[b + 2][leaf][b] for b in range(streams)]) for leaf in range(len(state))))
    assert len(state.phase.unique()) > 4
    x = torch.randn(steps, streams, 5).double().requires_grad_()
    is_first = torch.rand(steps, streams) < 0.15
    is_valid = torch.rand(steps, streams) > 0.2 if gaps else None
    own = core(x, state, is_first, is_valid)[0]
    aligned = run_aligned(core, x, state, is_first, is_valid)
    valid = torch.ones_like(is_first) if is_valid is None else is_valid
    torch.testing.assert_close(aligned[valid], own[valid], atol=1e-10, rtol=1e-10)
    weights = torch.randn_like(own) * valid.unsqueeze(-1)
    given = [x, *core.parameters()]
    for one, other in zip(
        *(torch.autograd.grad((y * weights).sum(), given, allow_unused=True) for y in (aligned, own)), strict=True
    ):
        if other is not None:
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)
