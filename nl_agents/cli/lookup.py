"""Finds what a command line names: sequences of ours or of the user's own, runs, constructors."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nl_agents.errors import ConfigError, NlAgentsError, UnknownNameError


def is_own_sequence(name: str) -> bool:
    """True for ``module:function``, false for a suite or ``suite:preset``."""
    suites = importlib.import_module("nl_agents.envs").SUITES
    return ":" in name and name.partition(":")[0] not in suites


def find_sequence(name: str) -> tuple[Callable[..., Any], int | None, int]:
    """Returns (make, default steps, default streams); ``make(num_envs=, seed=, info=, backend=)`` gives the env.

    Raises:
        UnknownNameError: neither a suite nor an importable ``module:function``.
    """
    envs = importlib.import_module("nl_agents.envs")
    if not is_own_sequence(name):
        _, preset = envs.preset(name)
        return lambda **given: envs.make_sequence(name, **given), preset.steps, preset.num_envs
    module, _, function = name.partition(":")
    found = import_named(module, function)
    if found is None:
        raise UnknownNameError("sequence", name, [*envs.SUITES, "module:function"])
    takes = inspect.signature(found).parameters
    anything = any(entry.kind is inspect.Parameter.VAR_KEYWORD for entry in takes.values())

    def make(**given: Any) -> Any:
        return found(**{key: value for key, value in given.items() if anything or key in takes})

    return make, None, 16


def import_named(module: str, name: str) -> Any:
    """Imports ``name`` of ``module``; None where there is no such module or no such name in it.

    Raises:
        ConfigError: the module is there but fails to import.
    """
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module.split(".")[0] == error.name.split(".")[0]:
            return None
        raise ConfigError(f"importing {module} failed: {error}; repair the module") from error


def constructed(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Calls a constructor; what it refuses was a bad argument."""
    try:
        return make(*arguments, **options)
    except (ValueError, TypeError) as error:
        if isinstance(error, NlAgentsError):
            raise
        raise ConfigError(str(error)) from error


def stored_config(run: Path) -> dict[str, Any]:
    """Reads the config.json of a run folder."""
    lifetime = importlib.import_module("nl_agents.evaluation.lifetime")
    found: dict[str, Any] = lifetime.read_json(run / "config.json")
    return found


def check_exists(path: Path, what: str) -> None:
    """Raises ConfigError with the nearest names beside it where nothing lies at ``path``."""
    if not path.exists():
        near = difflib.get_close_matches(path.name, [item.name for item in path.parent.glob("*")], n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(str(path.parent / name) for name in near)}?" if near else "check the path"
        raise ConfigError(f"expected a {what}, found nothing at {path}; {hint}")
