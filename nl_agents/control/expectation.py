"""What return to expect: one running expectation per regime, and a detector for the moments it stops to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


def change_score(returns: Sequence[float], margin: int = 4) -> float:
    """Returns how clearly a level changes inside a run of returns: the largest two-sample t over all split points.

    About 3 for stationary noise, far above for a switch. 0 with fewer than ``2 margin`` returns; equal returns on
    both sides score 0.

    Args:
        returns: finite returns, in the order the episodes ended.
        margin: least returns on either side of the split.
    """
    values = np.asarray(returns, dtype=np.float64)
    count = len(values)
    if count < 2 * margin:
        return 0.0
    scale = np.abs(values).max()
    values = values / scale if scale > 0 else values  # whatever the unit, no overflow
    left = np.arange(margin, count - margin + 1)
    right = count - left
    sums, squares = np.cumsum(values), np.cumsum(values**2)
    mean_left, mean_right = sums[left - 1] / left, (sums[-1] - sums[left - 1]) / right
    within = squares[-1] - left * mean_left**2 - right * mean_right**2
    error = np.sqrt(np.maximum(within, 1e-12 * max(float(squares[-1]), 1e-300)) / (count - 2) * (1 / left + 1 / right))
    gap = np.abs(mean_left - mean_right)
    return float(np.max(np.where(gap > 1e-9, gap / error, 0.0)))


@dataclass
class ShiftDetector:
    """Says whether an epoch holds a shift, measured against what is usual in this life.

    A life whose tasks switch many times an epoch has high scores always; there a switch is part of the noise, and
    voiding every epoch would blind the controller. So a score counts as a shift when it is high *and* unusual.

    Attributes:
        threshold: least score of a shift.
        ratio: least score relative to the usual one.
        usual: running mean of the scores.
    """

    threshold: float = 6.0
    ratio: float = 2.0
    usual: float = 3.0

    def observe(self, returns: Sequence[float]) -> bool:
        """Takes in the settled returns of an epoch; tells whether a shift lies within."""
        score = change_score(returns)
        shifted = score > max(self.threshold, self.ratio * self.usual)
        self.usual += 0.1 * (min(score, 100.0) - self.usual)
        return shifted


@dataclass
class Regime:
    """Running expectation of the return at the *default* settings, under one state of the world.

    Attributes:
        level: expected mean return of an epoch.
        scale: expected deviation of an epoch's mean return from what was expected.
        epochs: epochs seen.
        calibration: returns of the first epochs, until level and scale are trusted.
    """

    level: float = 0.0
    scale: float = 0.0
    epochs: int = 0
    calibration: list[float] = field(default_factory=list)


class Expectation:
    """Turns the mean return of an epoch into a surprise in units of its noise.

    ``e = (G - B) / S - effect`` where B and S belong to the regime and ``effect`` is what the bandits ascribe to the
    settings in force, so that B stays the return of the default while other settings run. Epochs that ran the default
    move B faster. After a shift the regime is looked up by its level, or founded and calibrated anew.

    Args:
        calibration: epochs that found a regime.
        rate: weight of an epoch in level and scale.
        control_rate: weight in the level of an epoch that ran the default.
        most_regimes: regimes kept; beyond, the least seen one makes room.
    """

    def __init__(
        self, calibration: int = 3, rate: float = 0.05, control_rate: float = 0.2, most_regimes: int = 8
    ) -> None:
        self._calibration, self._rate, self._control_rate, self._most = calibration, rate, control_rate, most_regimes
        self.regimes = [Regime()]
        self.current = 0

    @property
    def regime(self) -> Regime:
        """The regime in force."""
        return self.regimes[self.current]

    @property
    def calibrated(self) -> bool:
        """Whether the regime in force has seen enough epochs to judge others by it."""
        return self.regime.epochs >= self._calibration

    def surprise(self, mean: float, effect: float) -> float:
        """Returns the deviation of an epoch's mean return from the expectation, in units of noise.

        Args:
            mean: mean return of the epoch.
            effect: what the settings in force are believed to add, in units of noise.
        """
        return (mean - self.regime.level) / self.regime.scale - effect

    def absorb(self, mean: float, effect: float, is_default: bool, standard_error: float = 0.0) -> None:
        """Learns from an epoch: calibrates a young regime, or moves level and scale a little.

        Args:
            mean: mean return of the epoch.
            effect: what the settings in force are believed to add, in units of noise.
            is_default: whether the epoch ran the default.
            standard_error: of the mean, from the spread of the epoch's own returns: the noise is at least that.
        """
        regime = self.regime
        least = max(standard_error, 1e-3 * abs(mean), 1e-12)
        if not self.calibrated:
            regime.calibration.append(mean)
            regime.level = float(np.mean(regime.calibration))
            regime.scale = max(float(np.std(regime.calibration, ddof=min(1, regime.epochs))), regime.scale, least)
            regime.epochs += 1
            if regime.epochs == self._calibration:
                regime.level -= regime.scale * effect
                regime.calibration = []
            return
        error = float(np.clip(self.surprise(mean, effect), -3.0, 3.0))
        rate = self._control_rate if is_default else self._rate
        regime.level += rate * regime.scale * error
        regime.scale = max(regime.scale + self._rate * regime.scale * (1.2533 * abs(error) - 1), least)
        regime.epochs += 1

    def enter(self, mean: float) -> None:
        """Finds the regime that a mean return after a shift belongs to, or founds one."""
        gaps = [abs(mean - r.level) / r.scale if r.epochs >= self._calibration else np.inf for r in self.regimes]
        best = int(np.argmin(gaps))
        if gaps[best] <= 3.0:
            self.current = best
            return
        self.regimes.append(Regime())
        if len(self.regimes) > self._most:
            self.regimes.pop(int(np.argmin([regime.epochs for regime in self.regimes[:-1]])))
        self.current = len(self.regimes) - 1

    def state_dict(self) -> dict[str, Any]:
        """Returns all regimes as plain values."""
        return {"regimes": [asdict(regime) for regime in self.regimes], "current": self.current}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned."""
        self.regimes = [Regime(**{**regime, "calibration": list(regime["calibration"])}) for regime in state["regimes"]]
        self.current = state["current"]
