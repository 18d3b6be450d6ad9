"""Small self-modifying cores of every variant, and what they are fed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nl_agents.memory.modify_core import ModifyingState, SelfModifyingCore

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
