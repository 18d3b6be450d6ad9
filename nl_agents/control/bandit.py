"""A discounted Thompson bandit over the ordered positions of one factor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nl_agents.control.grid import Factor


class OrdinalThompson:
    """Gaussian Thompson sampling with exponential forgetting; the positions of a factor are its arms.

    Posterior of arm a: ``N((z_a + n0 mu_a) / (n_a + n0), c^2 / (n_a + n0))``, with discounted counts n and sums z.
    The prior mean mu of the default is 0; that of any other arm is ``penalty`` below the posterior mean of its
    neighbour on the side of the default (effects as a random walk outwards, **ours**): what helps halfway may help
    further on, and an untried arm without such a hint starts slightly behind the default.

    Args:
        factor: whose positions are the arms.
        spread: c, how far samples stray, in units of the reward's noise.
        prior_weight: n0, epochs the prior is worth.
        forget: gamma, what an epoch leaves of older evidence; 0.99 is a memory of about 100 epochs.
        penalty: how far an untried arm starts below its inner neighbour.
    """

    def __init__(
        self, factor: Factor, spread: float = 0.5, prior_weight: float = 4.0, forget: float = 0.99, penalty: float = 0.3
    ) -> None:
        self.factor = factor
        self._spread, self._prior_weight, self._forget, self._penalty = spread, prior_weight, forget, penalty
        self.counts = np.zeros(len(factor.values))
        self.sums = np.zeros(len(factor.values))

    def means(self) -> NDArray[np.float64]:
        """Returns the posterior means of all arms, lowest position first."""
        means = np.zeros(len(self.counts))
        home = self.factor.home
        outward = [(home, home), *((a, a - 1) for a in range(home + 1, len(means)))]
        outward += [(a, a + 1) for a in range(home - 1, -1, -1)]
        for arm, inner in outward:
            prior = 0.0 if arm == home else means[inner] - self._penalty
            means[arm] = (self.sums[arm] + self._prior_weight * prior) / (self.counts[arm] + self._prior_weight)
        return means

    def mean(self, position: int) -> float:
        """Returns the posterior mean of the arm at a position."""
        return float(self.means()[position + self.factor.home])

    def sample(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws one value per arm from the posterior, lowest position first."""
        deviation = self._spread / np.sqrt(self.counts + self._prior_weight)
        return rng.normal(self.means(), deviation)

    def update(self, position: int, reward: float) -> None:
        """Forgets a little everywhere, then credits one arm with a reward in units of its noise."""
        self.counts *= self._forget
        self.sums *= self._forget
        self.counts[position + self.factor.home] += 1.0
        self.sums[position + self.factor.home] += reward

    def state_dict(self) -> dict[str, Any]:
        """Returns the evidence as plain lists."""
        return {"counts": self.counts.tolist(), "sums": self.sums.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned."""
        self.counts, self.sums = np.array(state["counts"]), np.array(state["sums"])
