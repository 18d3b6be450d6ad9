"""The ready task sequences, and the one function that builds them or yours."""

from __future__ import annotations

from nl_agents.envs import cartpole_flip, minigrid_recurring
from nl_agents.errors import UnknownNameError
from nl_agents.tasks import Preset, Schedule, Suite, TaskSequence
from nl_agents.tasks.sequence import Autoreset, InfoLevel

SUITES: dict[str, Suite] = {suite.name: suite for suite in (cartpole_flip.SUITE, minigrid_recurring.SUITE)}


def preset(name: str) -> tuple[Suite, Preset]:
    """Resolves ``suite`` or ``suite:preset``.

    Raises:
        UnknownNameError: no such suite, or no such preset of it.
    """
    suite_name, _, size = name.partition(":")
    if suite_name not in SUITES:
        raise UnknownNameError("sequence", suite_name, SUITES)
    suite = SUITES[suite_name]
    return suite, suite.preset(size or None)


def make_sequence(
    name_or_tasks: str,
    *,
    num_envs: int | None = None,
    seed: int = 0,
    schedule: Schedule | None = None,
    info: InfoLevel = "hidden",
    backend: str = "auto",
    autoreset: Autoreset = "next-step",
) -> TaskSequence:
    """Builds a sequence."""
    suite, _ = preset(name_or_tasks)
    return suite.sequence(
        name_or_tasks.partition(":")[2] or None,
        num_envs=num_envs,
        seed=seed,
        schedule=schedule,
        info=info,
        backend=backend,
        autoreset=autoreset,
    )
