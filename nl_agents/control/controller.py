"""The meta-controller: long-horizon returns in, periods and rates of the levels out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nl_agents.control.bandit import OrdinalThompson
from nl_agents.control.epochs import settled, settled_mean, standard_error
from nl_agents.control.expectation import Expectation, ShiftDetector
from nl_agents.control.grid import Value, make_grid
from nl_agents.control.safety import Safety, SafetyRules
from nl_agents.errors import StateMismatchError
from nl_agents.seeding import generator
from nl_agents.types import LevelInfo

STATE_VERSION = 1
HESITATION = 0.1
"""Least sampled gain, in units of an epoch's noise, that moves a factor."""
UNEXPLAINED = 5.0
"""Surprise, in units of an epoch's noise, that unchanged settings cannot explain."""
LARGEST_RETURN = 1e100
"""Returns beyond this are refused like infinities: their squares would be."""


@dataclass(frozen=True)
class Decision:
    """What the controller sets for one decision epoch; logged before it takes effect.

    Attributes:
        id: index of the decision and of its epoch, from 0.
        step: the caller's clock when it was taken.
        factor: the factor that moved; None where none did.
        value: its new value; None where none moved.
        position: its new position, in doublings from the default; None where none moved.
        reason: why, in words.
        settings: all factors as they stand in this epoch.
        positions: the same, as positions.
    """

    id: int
    step: int
    factor: str | None
    value: Value | None
    position: int | None
    reason: str
    settings: dict[str, Value]
    positions: dict[str, int]


class MetaController:
    """Factored, non-stationary bandits over the settings of a nest, behind safety rules.

    Each epoch: ``propose`` one decision (at most one factor moves, to a neighbour on its grid), run the epoch,
    ``observe`` its returns. The reward is the epoch's settled mean return relative to the running expectation of the
    regime, in units of its noise; it is credited to the positions *in force* during the epoch, minus what the other
    factors' positions are believed to add. Every tenth epoch runs the default (the control that anchors the
    expectation) and the walk resumes after it; that jump to the trusted settings and back, the return home of a frozen
    controller and rollbacks are the only changes that are no bandit move.

    It can remove gross mis-settings within one life, not fine-tune: that takes more epochs than a life has.

    Args:
        space: factor -> default. An int default is an integer factor (a period), a bool one a switch.
        bounds: factor -> (lowest, highest); missing or None allows 1/8 … 8 times the default.
        seed: of the controller's own random stream.
        rules: safety limits.
        on_record: called with every record (a JSON-able dict) the moment it is made.

    Attributes:
        log: all records of this object's life, in order.
    """

    def __init__(
        self,
        space: Mapping[str, Value],
        bounds: Mapping[str, tuple[float, float] | None] | None = None,
        seed: int = 0,
        *,
        rules: SafetyRules | None = None,
        on_record: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.grid = make_grid(space, bounds)
        self.log: list[dict[str, Any]] = []
        self._bandits = {name: OrdinalThompson(factor) for name, factor in self.grid.items()}
        self._safety = Safety(SafetyRules() if rules is None else rules)
        self._expectation = Expectation()
        self._detector = ShiftDetector()
        self._rng = generator(seed, "control", "meta-controller")
        self._walk = dict.fromkeys(self.grid, 0)
        self._pending: Decision | None = None
        self._current = dict.fromkeys(self.grid, 0)
        self._judged: dict[str, int] | None = None
        self._next_id = 0
        self._on_record = on_record

    # ---------------------------------------------------------------- deciding

    def settings(self) -> dict[str, Value]:
        """Returns the value of every factor in force now."""
        return self._values(self._current)

    def propose(self, step: int) -> Decision:
        """Decides what the next epoch runs, logs it, and only then puts it in force.

        Args:
            step: the caller's clock, any unit.

        Raises:
            ValueError: the epoch of the last decision has not been observed.
        """
        if self._pending is not None:
            raise ValueError(
                f"expected observe() for decision {self._pending.id} before the next propose(); "
                "end the epoch with observe(step, returns), an empty list if nothing ended in it"
            )
        factor, positions, reason = self._choose()
        value = None if factor is None else self.grid[factor].value(positions[factor])
        position = None if factor is None else positions[factor]
        decision = Decision(
            self._next_id, step, factor, value, position, reason, self._values(positions), dict(positions)
        )
        self._record({"kind": "decision", **asdict(decision)})
        self._pending, self._current, self._next_id = decision, positions, self._next_id + 1
        return replace(decision, settings=dict(decision.settings), positions=dict(positions))

    def _choose(self) -> tuple[str | None, dict[str, int], str]:
        """Returns the factor that moves, the positions of the next epoch, and the reason."""
        home, state = dict.fromkeys(self.grid, 0), self._safety.state
        obstacle = self._safety.obstacle()
        if state.frozen is not None:
            self._walk, state.pending_rollback = home, None
            return None, dict(home), obstacle or "frozen"
        if state.pending_rollback is not None:
            (factor, before), state.pending_rollback = state.pending_rollback, None
            self._walk[factor] = before
            state.since_move = 0
            return factor, dict(self._walk), "rollback of a move that a bad epoch followed"
        if obstacle is not None:
            return None, dict(self._walk), obstacle
        if not self._expectation.calibrated:
            return None, dict(self._walk), "calibrating the expectation"
        if self._safety.control_due() and self._walk != home:
            return None, home, "control: the default"
        return self._explore()

    def _explore(self) -> tuple[str | None, dict[str, int], str]:
        """Thompson: samples every position of every factor, moves the one whose neighbour promises most."""
        best: tuple[float, str, int] | None = None
        for name, bandit in self._bandits.items():
            factor, here = self.grid[name], self._walk[name]
            drawn = bandit.sample(self._rng)
            for neighbour in (here - 1, here + 1):
                if neighbour in factor.positions:
                    gain = float(drawn[neighbour + factor.home] - drawn[here + factor.home])
                    if best is None or gain > best[0]:
                        best = (gain, name, neighbour)
        if best is None or best[0] <= HESITATION:
            return None, dict(self._walk), "nothing promises more than what stands"
        gain, name, position = best
        self._safety.moved(name, self._walk[name])
        self._walk[name] = position
        return name, dict(self._walk), f"sampled gain {gain:.3f}"

    # ----------------------------------------------------------------- judging

    def observe(self, step: int, returns: Iterable[float]) -> None:
        """Judges the epoch just run and credits the positions that were in force.

        Void epochs (too few or non-finite returns, a detected shift, cooldown) teach the bandits nothing.

        Args:
            step: the caller's clock, as in ``propose``.
            returns: returns of the episodes that ended in the epoch, in order; the first quarter is left out here.

        Raises:
            ValueError: there is no decision to judge.
        """
        if self._pending is None:
            raise ValueError("expected propose() before observe(): there is no decision whose epoch this could be")
        decision, self._pending = self._pending, None
        values = [float(value) for value in returns]
        record = {"kind": "credit", "decision": decision.id, "step": step, "episodes": len(values)}
        void = self._void_reason(decision, values)
        if void is not None:
            self._safety.void()
            self._record({**record, "void": void, "mean": None, "surprise": None, "credit": {}, "rollback": False})
            return
        surprise, credit = self._credit(decision, values)
        ran_default = not any(decision.positions.values())
        at_walk = decision.positions == self._walk
        rollback = self._safety.judged(decision.id, surprise or 0.0, ran_default, at_walk)
        self._judged = decision.positions
        mean = settled_mean(values)
        self._record(
            {**record, "void": None, "mean": mean, "surprise": surprise, "credit": credit, "rollback": rollback}
        )

    def _void_reason(self, decision: Decision, values: Sequence[float]) -> str | None:
        """Returns why an epoch does not count, or None; tells detector and safety of a shift."""
        if not values:
            return "no episode ended"
        if not all(math.isfinite(value) and abs(value) < LARGEST_RETURN for value in values):
            return "a return is not finite"
        kept = settled(values)
        if len(kept) < self._safety.rules.least_episodes:
            return "too few episodes"
        if self._detector.observe(kept) or self._shifted_since_last(decision, settled_mean(values)):
            self._safety.shifted()
            return "shift"
        if self._safety.state.cooling > 0:
            if self._safety.state.cooling == 1:
                self._expectation.enter(settled_mean(values))
            return "cooldown"
        return None

    def _shifted_since_last(self, decision: Decision, mean: float) -> bool:
        """Tells whether the return left its level though nothing was changed: a shift between two epochs."""
        unchanged = decision.positions == self._judged and self._safety.state.suspect is None
        if not unchanged or not self._expectation.calibrated or self._safety.state.cooling > 0:
            return False
        return abs(self._expectation.surprise(mean, self._effect(decision))) > UNEXPLAINED

    def _effect(self, decision: Decision) -> float:
        """Returns what the displaced factors of a decision are believed to add, in units of noise."""
        displaced = {name: position for name, position in decision.positions.items() if position != 0}
        return math.fsum(self._bandits[name].mean(position) for name, position in displaced.items())

    def _credit(self, decision: Decision, values: Sequence[float]) -> tuple[float | None, dict[str, float]]:
        """Updates bandits and expectation; returns the surprise and what each factor was credited with."""
        beliefs = {name: self._bandits[name].mean(position) for name, position in decision.positions.items()}
        effect = self._effect(decision)
        mean, error = settled_mean(values), standard_error(settled(values))
        calibrated = self._expectation.calibrated
        surprise = self._expectation.surprise(mean, effect) if calibrated else None
        self._expectation.absorb(mean, effect, not any(decision.positions.values()), error)
        if surprise is None:
            return None, {}
        clipped = float(np.clip(surprise, -3.0, 3.0))
        credit = {name: clipped + belief for name, belief in beliefs.items()}
        for name, reward in credit.items():
            self._bandits[name].update(decision.positions[name], reward)
        return surprise, credit

    # ------------------------------------------------------------------ safety

    def freeze(self, reason: str = "asked to") -> None:
        """Kill switch: from the next decision on everything stands at its default."""
        self._safety.state.frozen = reason
        self._record({"kind": "freeze", "reason": reason, "after_decision": self._next_id - 1})

    def thaw(self) -> None:
        """Lets a frozen controller decide again, from the default and with its evidence kept."""
        self._safety.state.frozen = None
        self._safety.state.alarm_epochs = ()
        self._record({"kind": "thaw", "after_decision": self._next_id - 1})

    # ---------------------------------------------------------------- the nest

    def levels(self) -> list[LevelInfo]:
        """Rows of a nest: the settings it moves, what it believes of them, what it expects."""
        factors, positions = len(self.grid), sum(len(factor.values) for factor in self.grid.values())
        kinds = ", ".join(sorted({name.rpartition(".")[2] for name in self.grid}))
        rows = (
            (
                "control",
                f"{factors} settings ({kinds})",
                "returns of whole epochs",
                "return above the running expectation",
            ),
            (
                "control.bandits",
                f"evidence for {positions} positions of {factors} factors",
                "surprise of an epoch, credited to what was in force",
                "expected surprise of each position (discounted Thompson)",
            ),
            (
                "control.expectation",
                "level and noise of the return, a regime",
                "mean returns of whole epochs",
                "L2 to the mean return at the default settings",
            ),
        )
        return [LevelInfo(*row, 1, "decision epoch", "life") for row in rows]

    # ------------------------------------------------------------------ saving

    def state_dict(self) -> dict[str, Any]:
        """Returns the whole state as JSON-able values, exact to the bit (the log stays with its file)."""
        return {
            "version": STATE_VERSION,
            "grid": {name: list(factor.values) for name, factor in self.grid.items()},
            "bandits": {name: bandit.state_dict() for name, bandit in self._bandits.items()},
            "safety": self._safety.state_dict(),
            "expectation": self._expectation.state_dict(),
            "detector": asdict(self._detector),
            "rng": self._rng.bit_generator.state,
            "walk": dict(self._walk),
            "current": dict(self._current),
            "judged": None if self._judged is None else dict(self._judged),
            "pending": None if self._pending is None else asdict(self._pending),
            "next_id": self._next_id,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what ``state_dict`` returned; the controller then decides as the saved one would have.

        Raises:
            StateMismatchError: another version, or a controller over other factors or values.
        """
        if state.get("version") != STATE_VERSION:
            raise StateMismatchError(
                f"expected controller state of version {STATE_VERSION}, got {state.get('version')}"
            )
        grid = {name: list(factor.values) for name, factor in self.grid.items()}
        if state["grid"] != grid:
            raise StateMismatchError(f"expected a controller over {grid}, got {state['grid']}; build it on that space")
        for name, bandit in self._bandits.items():
            bandit.load_state_dict(state["bandits"][name])
        self._safety.load_state_dict(state["safety"])
        self._expectation.load_state_dict(state["expectation"])
        self._detector = ShiftDetector(**state["detector"])
        self._rng.bit_generator.state = state["rng"]
        self._walk, self._current = dict(state["walk"]), dict(state["current"])
        self._pending = None if state["pending"] is None else Decision(**state["pending"])
        self._judged = None if state["judged"] is None else dict(state["judged"])
        self._next_id = state["next_id"]

    def _values(self, positions: Mapping[str, int]) -> dict[str, Value]:
        return {name: self.grid[name].value(position) for name, position in positions.items()}

    def _record(self, record: dict[str, Any]) -> None:
        self.log.append(record)
        if self._on_record is not None:
            self._on_record(record)


def replay(records: Iterable[Mapping[str, Any]], step: int | None = None) -> dict[str, Value]:
    """Returns the settings in force at a step, from the records of a controller alone.

    Args:
        records: records as logged, in order (lines of ``decisions.jsonl``).
        step: the caller's clock; None for the end of the log.

    Raises:
        ValueError: no decision was taken up to that step.
    """
    taken = [r for r in records if r["kind"] == "decision" and (step is None or r["step"] <= step)]
    if not taken:
        raise ValueError(f"expected at least one decision up to step {step}, found none; give the whole log")
    settings: dict[str, Value] = dict(taken[-1]["settings"])
    return settings
