"""Every registered core in every variant, small: what the laws run over, and the lives that they live."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nl_agents.memory import MemoryCore, make_core

STEPS, STREAMS, SIZE, WIDTH, ACTIONS = 37, 4, 5, 8, 3  # no multiple of any chunk or period below
SMALL: dict[str, Any] = {"heads": 2, "key_size": 4, "scope": "split"}
HOPE: dict[str, Any] = {"heads": 2, "key_size": 4}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "hope-1": ("hope", {**HOPE, "chunk": 1, "level_period": 3}),
    "hope-8": ("hope", {**HOPE, "chunk": 8, "level_period": 4}),
    "hope-32": ("hope", {**HOPE, "chunk": 32, "level_period": 16}),
    "hope-portable-1": ("hope", {**HOPE, "chunk": 1, "level_period": 3}),
    "hope-portable-8": ("hope", {**HOPE, "chunk": 8, "level_period": 4}),
    "hope-portable-32": ("hope", {**HOPE, "chunk": 32, "level_period": 16}),
    "hope-portable-one": ("hope", {**HOPE, "heads": 1, "chunk": 4, "level_period": 4}),
    "hope-cleared": ("hope", {**HOPE, "chunk": 5, "never_heads": 0, "level_period": 5}),
    "hope-never": ("hope", {**HOPE, "chunk": 4, "never_heads": 2, "level_period": 8, "slow_periods": ()}),
    "hope-reflecting": ("hope", {**HOPE, "chunk": 4, "level_period": 8, "step_limit": 2.0}),
    "hope-settling": ("hope", {**HOPE, "chunk": 4, "level_period": 8, "projection_retention": 6.0}),
    "hope-fading": ("hope", {**HOPE, "chunk": 1, "level_period": 8, "retention": (1.5, 5.0)}),
    "cms": ("cms", {"periods": (2, 6), "size": 3}),
    "cms-nested": ("cms", {"periods": (2, 4, 8), "size": 3, "variant": "nested", "scope": "split"}),
    "cms-nested-never": ("cms", {"periods": (1, 3), "size": 3, "variant": "nested", "reduction": "sum"}),
    "cms-independent": ("cms", {"periods": (5, 1), "size": 3, "variant": "independent", "reduction": "sum"}),
    "cms-episode": ("cms", {"periods": (3, 6), "size": 3, "variant": "nested", "scope": "episode", "radius": 0.5}),
    "gated-delta": ("gated-delta", {"heads": 2, "scope": "split", "chunk": 8}),
    "gated-delta-episode": ("gated-delta", {"heads": 2, "scope": "episode", "chunk": 1}),
    "gated-delta-never": ("gated-delta", {"heads": 1, "scope": "never", "chunk": 32}),
    "gated-delta-reflecting": ("gated-delta", {"heads": 2, "scope": "split", "step_limit": 2.0}),
    "self-modifying": ("self-modifying", {**SMALL, "chunk": 4}),
    "self-modifying-never": ("self-modifying", {**SMALL, "scope": "never", "chunk": 8, "momentum": False}),
    "self-modifying-exact-episode": ("self-modifying", {**SMALL, "scope": "episode", "chunk": 1}),
    "self-modifying-plain-episode": (
        "self-modifying",
        {**SMALL, "scope": "episode", "write": "gd", "momentum": False, "decay": False, "window": 0, "chunk": 3},
    ),
    "self-modifying-dot": ("self-modifying", {**SMALL, "objective": "dot", "own_targets": False, "chunk": 32}),
    "self-modifying-two-chunks": ("self-modifying", {**SMALL, "chunk": 4, "projection_chunk": 2, "read": "anchor"}),
    "self-modifying-mlp": ("self-modifying", {**SMALL, "memory": "mlp", "chunk": 4, "adaptive_query": True}),
    "self-modifying-mlp-episode": (
        "self-modifying",
        {**SMALL, "memory": "mlp", "scope": "episode", "chunk": 3, "momentum": False},
    ),
    "self-modifying-mlp-exact": ("self-modifying", {**SMALL, "memory": "mlp", "chunk": 1, "write": "gd"}),
    "titans": ("titans", {"heads": 2, "scope": "split"}),
    "titans-episode": ("titans", {"heads": 2, "scope": "episode", "momentum": 0.8}),
    "titans-never": ("titans", {"heads": 2, "scope": "never", "momentum": 0.0}),
    "titans-chunk": ("titans", {"heads": 2, "scope": "split", "chunk": 4}),
    "titans-chunk-episode": ("titans", {"heads": 2, "scope": "episode", "chunk": 3}),
    "titans-long-chunk": ("titans", {"heads": 2, "scope": "split", "chunk": 64}),
    "attention-one": ("attention", {"heads": 4, "groups": 4, "window": 1}),
    "attention-wide": ("attention", {"heads": 1, "window": 40}),
    "attention-episode": ("attention", {"heads": 2, "window": 5}),
    "attention-never": ("attention", {"heads": 4, "groups": 2, "window": 3, "scope": "never"}),
    "diagonal": ("diagonal", {"states": 3}),
    "diagonal-episode": ("diagonal", {"states": 2, "scope": "episode"}),
    "diagonal-never": ("diagonal", {"states": 2, "scope": "never"}),
    "lstm-episode": ("lstm", {"scope": "episode"}),
    "lstm-never": ("lstm", {"scope": "never"}),
    "gru-episode": ("gru", {"scope": "episode"}),
    "gru-never": ("gru", {"scope": "never"}),
    "feed-forward": ("feed-forward", {}),
    "mlp": ("mlp", {}),
    "mlp-crelu-normed": ("mlp", {"depth": 3, "activation": "crelu", "layer_norm": True}),
}


def build(name: str, spread: float = 0.2) -> MemoryCore:
    """A core of the table in the default dtype; ``spread`` moves all parameters: zeros would hide a forgotten one."""
    kind, options = VARIANTS[name]
    if kind in ("hope", "cms"):
        options = {**options, "action_size": ACTIONS}
    core = make_core(kind, input_size=SIZE, width=WIDTH, **options)
    for parameter in core.parameters():
        parameter.data += spread * torch.randn_like(parameter)
    return core


class Life:
    """Random inputs with resets on the first, on consecutive and on the last steps, and with gaps."""

    def __init__(self, plain: bool = False) -> None:
        self.x = torch.randn(STEPS, STREAMS, SIZE)
        self.is_first = torch.rand(STEPS, STREAMS) < 0.1
        self.is_first[0, 0] = self.is_first[6, 1] = self.is_first[7, 1] = self.is_first[STEPS - 1, 2] = True
        self.is_valid = torch.rand(STEPS, STREAMS) > 0.15
        self.action = torch.randn(STEPS, STREAMS, ACTIONS)
        if plain:
            self.is_first[:], self.is_valid[:] = False, True

    def run(self, core: MemoryCore, state: Any, start: int = 0, stop: int = STEPS) -> tuple[Tensor, Any]:
        part = slice(start, stop)
        return core(self.x[part], state, self.is_first[part], self.is_valid[part], self.action[part])

    def walk(self, core: MemoryCore, state: Any, stop: int = STEPS) -> tuple[Tensor, list[Any]]:
        """Step by step: read-outs [T, B, D] and the states, the first one included."""
        outputs, states = [], [state]
        with torch.no_grad():
            for t in range(stop):
                y, state = self.run(core, state, t, t + 1)
                outputs.append(y)
                states.append(state)
        return torch.cat(outputs), states

    def of(self, streams: Tensor) -> Life:
        """The same life of some streams only, in that order."""
        part = Life()
        for name in ("x", "is_first", "is_valid", "action"):
            setattr(part, name, getattr(self, name)[:, streams])
        return part


def tolerance() -> float:
    """What the laws allow: 1e-9 in float64, 1e-5 in float32."""
    return {torch.float64: 1e-9, torch.float32: 1e-5}[torch.get_default_dtype()]


def close(mine: Any, theirs: Any, within: float | None = None) -> None:
    within = tolerance() if within is None else within
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=within, rtol=within)


def cleared(core: MemoryCore) -> list[Tensor]:
    """Which numbers of a stream's state a reset clears, leaf by leaf."""
    scopes = torch.tensor([row.scope == "episode" for row in core.state_levels()] + [False])  # the last: clocks
    return [scopes[owner] for owner in core.owners()]


def outlives(core: MemoryCore) -> bool:
    """Whether any level of the core is older than its episode."""
    return any(row.scope != "episode" for row in core.state_levels())


def at_equal_phase(core: MemoryCore, state: Any, streams: int = STREAMS) -> Any:
    """A newborn memory whose step clock stands where that of ``state`` does."""
    fresh = core.initial_state(streams)
    return fresh._replace(phase=state.phase.clone()) if "phase" in fresh._fields else fresh
