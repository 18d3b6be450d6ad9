"""Small self-modifying cores of every variant, and memories that they might have."""

from __future__ import annotations

from typing import Any

import torch

from nl_agents.memory.modify_core import ModifyingState, SelfModifyingCore
from tests.memory.judging import SIZE, STREAMS, WIDTH

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


def make(**options: Any) -> SelfModifyingCore:
    options = {"scope": "split", "heads": 2, "key_size": 3, "retention": (3.0, 50.0)} | options
    core = SelfModifyingCore(SIZE, WIDTH, **options)
    for parameter in core.parameters():  # zeros would hide a forgotten one
        parameter.data += 0.3 * torch.randn_like(parameter)
    return core


def lived_in(core: SelfModifyingCore, same_clock: bool = False) -> ModifyingState:
    fresh = core.initial_state(STREAMS)
    leaves = [0.3 * torch.randn_like(leaf) for leaf in fresh[:-1]]
    clocks = torch.zeros(STREAMS, dtype=torch.int64) if same_clock else torch.arange(STREAMS) % core.clock_period
    return ModifyingState(*leaves, clocks)
