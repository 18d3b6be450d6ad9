"""What the controller may do now: freeze, dwell, cool down, roll back, stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class SafetyRules:
    """Limits on a controller that can harm what it controls; all counts are decision epochs.

    Attributes:
        dwell: valid epochs a new setting stays before another factor may move.
        cooldown: epochs without moves and without credit after a detected shift.
        control_every: at the latest every so many valid epochs one runs the default (10: a share of 10 %).
        bad: surprise (in units of noise) at or below which an epoch that follows a move is rolled back.
        watch: valid epochs after a move in which a bad one is blamed on it.
        alarms: more rollbacks than this within ``alarm_window`` epochs freeze the controller at the default.
        alarm_window: see ``alarms``.
        least_episodes: epochs with fewer settled episodes are void.
    """

    dwell: int = 2
    cooldown: int = 1
    control_every: int = 10
    bad: float = -3.0
    watch: int = 2
    alarms: int = 3
    alarm_window: int = 50
    least_episodes: int = 5

    def __post_init__(self) -> None:
        """Refuses rules that cannot be kept."""
        for name in ("dwell", "control_every", "watch", "alarm_window", "least_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("cooldown", "alarms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not self.bad < 0:
            raise ValueError(f"bad must lie below 0, got {self.bad}: an ordinary epoch has surprise 0")


@dataclass
class SafetyState:
    """Where the rules stand.

    Attributes:
        since_move: valid epochs since the last move.
        since_control: valid epochs since one ran the default.
        cooling: epochs of cooldown left.
        suspect: the move under watch as (factor, position before it), or None.
        pending_rollback: the move to take back at the next decision, or None.
        alarm_epochs: epochs at which a rollback was ordered, within the window.
        frozen: why the controller stands at the default, or None.
    """

    since_move: int = 0
    since_control: int = 0
    cooling: int = 0
    suspect: tuple[str, int] | None = None
    pending_rollback: tuple[str, int] | None = None
    alarm_epochs: tuple[int, ...] = ()
    frozen: str | None = None


class Safety:
    """Keeps the rules: told of moves and epochs, it says what is allowed next.

    Args:
        rules: the limits.
    """

    def __init__(self, rules: SafetyRules) -> None:
        self.rules = rules
        self.state = SafetyState()

    def obstacle(self) -> str | None:
        """Returns why no factor may move now, or None."""
        if self.state.frozen is not None:
            return f"frozen: {self.state.frozen}"
        if self.state.cooling > 0:
            return "cooldown after a shift"
        if self.state.suspect is not None and self.state.since_move < self.rules.dwell:
            return "dwell"
        return None

    def control_due(self) -> bool:
        """Tells whether the next epoch must run the default."""
        return self.state.since_control >= self.rules.control_every - 1

    def moved(self, factor: str, before: int) -> None:
        """Takes note of a move and puts it under watch."""
        self.state.since_move = 0
        self.state.suspect = (factor, before)

    def shifted(self) -> None:
        """Takes note of a shift: what follows says nothing about the settings for a while."""
        self.state.cooling = self.rules.cooldown + 1

    def void(self) -> None:
        """Takes note of an epoch that does not count."""
        self.state.cooling = max(0, self.state.cooling - 1)

    def judged(self, epoch: int, surprise: float, ran_default: bool, at_walk: bool) -> bool:
        """Takes note of a valid epoch; orders a rollback where it was bad and follows a move.

        Args:
            epoch: index of the epoch.
            surprise: its surprise in units of noise.
            ran_default: whether all factors stood at their defaults.
            at_walk: whether the epoch ran the settings under watch (not a control epoch between them).

        Returns:
            Whether a rollback was ordered.
        """
        state, rules = self.state, self.rules
        state.since_control = 0 if ran_default else state.since_control + 1
        if not at_walk:
            return False
        state.since_move += 1
        if state.suspect is None:
            return False
        if surprise <= rules.bad:
            state.pending_rollback, state.suspect = state.suspect, None
            recent = tuple(at for at in state.alarm_epochs if at > epoch - rules.alarm_window)
            state.alarm_epochs = (*recent, epoch)
            if len(state.alarm_epochs) > rules.alarms:
                state.frozen = f"{len(state.alarm_epochs)} rollbacks within {rules.alarm_window} epochs"
            return True
        if state.since_move >= max(rules.watch, rules.dwell):
            state.suspect = None
        return False

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as plain JSON values."""
        state = asdict(self.state)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned."""
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in state.items()
        }
        self.state = replace(SafetyState(), **plain)
