"""Drifts written as update functions, tick by tick: the form in which NS-Gym writes a parameter that changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nl_agents.tasks.backend import FloatArray
from nl_agents.tasks.drifts import Drift, Grown, Path, check_positive


@dataclass(frozen=True)
class FromUpdates(Drift):
    """A drift that follows an update function; NS-Gym itself (Keplinger et al. 2024) is not needed.

    There a parameter that changes is ``UpdateFn(Scheduler)``: called with the parameter and the time it returns the new
    parameter, whether it changed, and by how much; time begins anew with every episode. Here a tick is ``every`` units
    of the drift's time, and ``Attribute("gravity", FromUpdates(...), time="within-episode")`` counts those within one.

    Args:
        update: called as ``update(value, tick)`` with tick = 1, 2, ...; returns the new value or a tuple that begins
            with it. It is copied for every life; one that draws random numbers must do so from a seed that it carries,
            and every life then sees the same course.
        start: value before the first tick.
        every: time between two ticks, > 0.
    """

    update: Callable[[float, int], Any]
    start: float
    every: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, every=self.every)
        if not callable(self.update):
            raise TypeError(f"FromUpdates(update=...) expected a function of (value, tick), got {self.update!r}")

    def path(self, seed: int) -> Path:
        """Returns the stairs that the function builds, as far as anyone has asked."""
        update, values = copy.deepcopy(self.update), Grown(self.start)

        def stairs(times: FloatArray) -> FloatArray:
            ticks = np.floor(np.asarray(times, dtype=np.float64) / self.every).astype(np.int64)
            while len(values) <= int(ticks.max(initial=0)):
                made = update(values.last, len(values))
                values.append(float(made[0] if isinstance(made, tuple | list) else made))
            return values[ticks]

        return stairs
