"""What options of cores must be. Errors name the option, the range and what was given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any


def whole(name: str, value: Any, least: int = 1, unit: str = "") -> int:
    """Returns an integer of any kind (numpy's too) as Python's.

    Raises:
        ValueError: no integer, or one below ``least``.
    """
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}{unit and f' ({unit})'}, got {value!r}")
    return int(value)


def check_retention(retention: Sequence[float]) -> None:
    """Raises a ValueError unless it is a pair of time constants (env steps) that a gate can start from."""
    if len(retention) != 2 or not 1.0 < retention[0] <= retention[1] < math.inf:
        raise ValueError(f"retention must be two finite time constants 1 < low <= high in env steps, got {retention}")


def hidden_size(expansion: float, width: int) -> int:
    """Returns int(expansion * width); raises a ValueError where that is no unit, or no number."""
    if not 1.0 <= expansion * width < math.inf:
        raise ValueError(f"expansion must give at least one hidden unit, got {expansion} of {width}")
    return int(expansion * width)
