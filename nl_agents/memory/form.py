"""Which form of the memories runs on CPU: the compiled one where numba works, else the portable one."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any


def load_compiled(name: str) -> Any:
    """Loads a module that needs numba; None where none works: the portable form then does the same, slower."""
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        return importlib.import_module(name)
    except ImportError as error:
        warnings.warn(f"numba does not load ({error}): memories run uncompiled, which is slow on CPU", stacklevel=2)
        return None


compiled = load_compiled("nl_agents.memory.compiled")
hope_act = load_compiled("nl_agents.memory.hope_act") if compiled is not None else None
