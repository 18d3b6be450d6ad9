"""Named errors. Each text says what was expected, what was given, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NlAgentsError(Exception):
    """Root of every error that this package raises on purpose."""


class UnknownNameError(NlAgentsError, ValueError):
    """A name that no registry holds; the text lists the nearest valid names."""

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(given, names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        super().__init__(f"unknown {kind} {given!r}: {hint}known names are {', '.join(names)}")
        self.kind, self.given, self.near = kind, given, near


class ConfigError(NlAgentsError, ValueError):
    """An option whose value cannot work, alone or beside another option."""


class SpaceNotSupportedError(NlAgentsError, ValueError):
    """An observation or action space for which no encoder or head exists."""


class StateMismatchError(NlAgentsError, ValueError):
    """A memory state of another core, batch size or device."""


class PrivilegeError(NlAgentsError, ValueError):
    """An agent that must be told task boundaries, run where nothing is told."""


class NonFiniteError(NlAgentsError, ArithmeticError):
    """A NaN or infinity that was about to enter a memory, a buffer or a weight."""


class EnvironmentCrashedError(NlAgentsError, RuntimeError):
    """The environment raised in the middle of a life; the last checkpoint is intact."""


class CheckpointError(NlAgentsError, RuntimeError):
    """A checkpoint that cannot be written or read: corrupt, half-written, foreign, of another version."""


class RunFolderError(NlAgentsError, RuntimeError):
    """A run folder that is missing, not empty, read-only, or not one of ours."""


class ReferenceMissingError(NlAgentsError, LookupError):
    """A lifelong figure that needs a random and an expert return per task, where none are stored."""
