"""All probes by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.probes.aa_star import AaStar
from nl_agents.probes.autoencode import Autoencode
from nl_agents.probes.count_recall import CountRecall
from nl_agents.probes.needle import Needle
from nl_agents.probes.parity import Parity
from nl_agents.probes.probe import Probe
from nl_agents.probes.recall import Recall
from nl_agents.probes.repeat_previous import RepeatPrevious
from nl_agents.probes.selective_copy import SelectiveCopy

PROBES: dict[str, Callable[..., Probe]] = {
    "parity": Parity,
    "aa-star": AaStar,
    "recall": Recall,
    "noisy-recall": partial(Recall, noise=2),
    "selective-copy": SelectiveCopy,
    "repeat-previous": RepeatPrevious,
    "count-recall": CountRecall,
    "autoencode": Autoencode,
    "needle": Needle,
    "needle-across-episodes": partial(Needle, across_episodes=True),
}


def make_probe(name: str, **options: Any) -> Probe:
    """Builds a probe: ``make_probe("recall", values=4)``.

    Raises:
        UnknownNameError: no such probe.
        ConfigError: an option that this probe does not have.
    """
    if name not in PROBES:
        raise UnknownNameError("probe", name, PROBES)
    known = set(inspect.signature(PROBES[name]).parameters)
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"probe {name!r} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return PROBES[name](**options)
