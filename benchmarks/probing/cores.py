"""Memory cores as words of a command line: ``hope:chunk=1,heads=8``."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from typing import Any

from nl_agents.errors import ConfigError
from nl_agents.memory.base import MemoryCore
from nl_agents.memory.registry import core_class, make_core

BUILT_HERE = ("input_size", "action_size")  # what the benchmark sets itself


@dataclass(frozen=True)
class CoreSpec:
    """A core of the registry with options.

    Attributes:
        label: how tables call it, as it was written.
        name: of the registry.
        options: keyword arguments of its constructor, by name.
    """

    label: str
    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def slug(self) -> str:
        """The label as part of a file's name."""
        return re.sub(r"[^\w.,=+-]", "_", self.label.replace(":", "+").replace(" ", ""))

    def build(self, input_size: int, width: int) -> MemoryCore:
        """Builds the core; an option ``width`` of its own takes precedence, to match sizes of states."""
        return make_core(self.name, **{"input_size": input_size, "width": width, **dict(self.options)})


def parse_core(text: str) -> CoreSpec:
    """Reads ``name`` or ``name:option=value,option=value``; values are Python literals or bare words.

    Raises:
        UnknownNameError: no such core.
        ConfigError: text that cannot be read, or an option that the core does not have.
    """
    name, _, rest = text.partition(":")
    kind = core_class(name)
    try:
        call = ast.parse(f"_({rest})", mode="eval").body
        words = call.keywords if isinstance(call, ast.Call) and not call.args else [ast.keyword(None, call)]
        options = {word.arg or "": _value(word.value) for word in words}
        if "" in options:
            raise ValueError("every option is written name=value")
    except (SyntaxError, ValueError):
        raise ConfigError(
            f"cannot read the core {text!r}: expected name or name:option=value,option=value, "
            "for example hope:chunk=1 or lstm:scope=never"
        ) from None
    known = set(inspect.signature(kind).parameters) - set(BUILT_HERE)
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"core {name!r} has no option {', '.join(unknown)} here; it has {', '.join(sorted(known))}")
    return CoreSpec(text, name, tuple(options.items()))


def _value(node: ast.expr) -> Any:
    """A literal, or a bare word as text, but for ``true`` and ``false``, which mean what they say."""
    if isinstance(node, ast.Name):
        return {"true": True, "false": False}.get(node.id, node.id)
    return ast.literal_eval(node)
