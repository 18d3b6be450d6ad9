"""The self-modifying core against its slow judge in all its variants, and at what is known of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.convolution import convolve
from nl_agents.memory.modify_core import ModifyingState, SelfModifyingCore
from nl_agents.memory.modify_form import At, tell
from nl_agents.memory.modify_layer import Kept, confine, fade, write
from nl_agents.memory.modify_layer import Told as LayerTold
from nl_agents.memory.modify_rule import step_bound
from nl_agents.memory.reference import memory_reference
from nl_agents.memory.reference_modify import modify_reference
from nl_agents.memory.self_modifying import SelfModifyingMemory, SelfModifyingState

STEPS, STREAMS, SIZE, WIDTH = 11, 3, 4, 6
VARIANTS: dict[str, dict[str, Any]] = {
    "exact": {"chunk": 1},
    "chunk": {"chunk": 4},
    "long-chunk": {"chunk": 64, "step_limit": 0.5},
    "two-chunks": {"chunk": 4, "projection_chunk": 2},
    "crossed-chunks": {"chunk": 2, "projection_chunk": 3},
    "mixed-chunks": {"chunk": 3, "projection_chunk": 1},
    "gradient": {"write": "gd", "chunk": 3},
    "dot": {"objective": "dot", "chunk": 4},
    "hebb": {"objective": "dot", "write": "gd", "decay": False},
    "no-momentum": {"momentum": False, "chunk": 4},
    "no-decay": {"decay": False, "chunk": 4},
    "shared-targets": {"own_targets": False, "chunk": 4},
    "stale-read": {"read": "anchor", "chunk": 4},
    "query": {"adaptive_query": True, "chunk": 4},
    "only-mem": {f"adaptive_{name}": False for name in ("key", "value", "step", "retention")},
    "fixed-key": {"adaptive_key": False, "window": 2, "chunk": 2},
    "no-window": {"window": 0, "chunk": 4},
    "confined": {"radius": 0.05, "chunk": 2, "window": 0, "step_limit": 1.0},
    "mlp": {"memory": "mlp", "chunk": 4},
    "mlp-exact": {"memory": "mlp", "chunk": 1, "expansion": 2.0},
    "mlp-two-chunks": {"memory": "mlp", "chunk": 4, "projection_chunk": 2, "adaptive_query": True},
    "mlp-gradient": {"memory": "mlp", "write": "gd", "chunk": 3, "momentum": False},
    "mlp-dot": {"memory": "mlp", "objective": "dot", "chunk": 4, "decay": False},
    "mlp-stale-read": {"memory": "mlp", "read": "anchor", "own_targets": False, "chunk": 3},
    "mlp-fixed-value": {"memory": "mlp", "adaptive_value": False, "chunk": 2},
}


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(**options: Any) -> SelfModifyingCore:
    options = {"scope": "split", "heads": 2, "key_size": 3, "retention": (3.0, 50.0)} | options
    core = SelfModifyingCore(SIZE, WIDTH, **options)
    for parameter in core.parameters():  # zeros would hide a forgotten one
        parameter.data += 0.3 * torch.randn_like(parameter)
    return core


def flags(kind: str) -> tuple[Tensor, Tensor]:
    is_first, is_valid = torch.zeros(2, STEPS, STREAMS, dtype=torch.bool)
    is_valid = ~is_valid
    if kind != "plain":
        is_first[0, 0] = is_first[3, 0] = is_first[4, 0] = is_first[7, 1] = is_first[STEPS - 1, 2] = True
    if kind == "gaps":
        is_valid[2, 0] = is_valid[3, 0] = is_valid[0, 1] = is_valid[6, 1] = is_valid[STEPS - 1, 1] = False
        is_valid[:, 2] = False
    return is_first, is_valid


def lived_in(core: SelfModifyingCore, same_clock: bool = False) -> ModifyingState:
    fresh = core.initial_state(STREAMS)
    leaves = [0.3 * torch.randn_like(leaf) for leaf in fresh[:-1]]
    clocks = torch.zeros(STREAMS, dtype=torch.int64) if same_clock else torch.arange(STREAMS) % core.clock_period
    return ModifyingState(*leaves, clocks)


def silent(steps: int, streams: int = STREAMS) -> Tensor:
    return torch.zeros(steps, streams, dtype=torch.bool)


@pytest.mark.parametrize("kind", ["plain", "resets", "gaps"])
@pytest.mark.parametrize("name", VARIANTS)
def test_values_states_and_gradients_equal_the_judge(name: str, kind: str) -> None:
    core, (is_first, is_valid) = make(**VARIANTS[name]), flags(kind)
    x, state = torch.randn(STEPS, STREAMS, SIZE), lived_in(core)
    weights = [torch.randn(STEPS, STREAMS, WIDTH), *(torch.randn(leaf.shape) for leaf in state[:-1])]
    results = []
    for slow in (False, True):
        leaves = [leaf.clone().requires_grad_() for leaf in (x, *state[:-1])]
        handed = ModifyingState(*leaves[1:], state.phase)
        given = None if kind != "gaps" and not slow else is_valid
        run = modify_reference if slow else type(core).__call__
        y, after = run(core, leaves[0], handed, is_first, given)
        visible = y * is_valid.unsqueeze(-1)
        loss = sum((w * part).sum() for w, part in zip(weights, (visible, *after[:-1]), strict=True))
        inputs = [*leaves, *core.parameters()]
        grads = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
        results.append([visible, *after, *grads])
    for fast, slow_one in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow_one, rtol=1e-7, atol=1e-9)
