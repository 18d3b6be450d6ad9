"""All memory cores by name."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.memory.base import MemoryCore

CORES: dict[str, str] = {
    "hope": "nl_agents.memory.hope:HopeCore",
    "cms": "nl_agents.memory.cms:ContinuumMemory",
    "self-modifying": "nl_agents.memory.modify_core:SelfModifyingCore",
    "gated-delta": "nl_agents.memory.gated_delta:GatedDeltaCore",
    "titans": "nl_agents.memory.titans:TitansCore",
    "attention": "nl_agents.memory.attention:AttentionCore",
    "diagonal": "nl_agents.memory.diagonal:DiagonalCore",
    "lstm": "nl_agents.memory.recurrent:LstmCore",
    "gru": "nl_agents.memory.recurrent:GruCore",
    "feed-forward": "nl_agents.memory.feed_forward:FeedForwardCore",
    "mlp": "nl_agents.memory.mlp:MlpCore",
}


def core_class(name: str) -> type[MemoryCore]:
    """Returns the class behind a name; UnknownNameError lists the near ones."""
    if name not in CORES:
        raise UnknownNameError("memory core", name, CORES)
    module, _, attribute = CORES[name].partition(":")
    kind: type[MemoryCore] = getattr(importlib.import_module(module), attribute)
    return kind


def make_core(name: str, *, input_size: int, width: int, **options: Any) -> MemoryCore:
    """Builds a core: ``make_core("hope", input_size=64, width=128)``.

    Raises:
        UnknownNameError: no such core.
        ConfigError: an option that this core does not have.
    """
    kind = core_class(name)
    known = set(inspect.signature(kind).parameters)
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"core {name!r} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return kind(input_size=input_size, width=width, **options)
