"""Whose is every number of an agent's state? Each leaf of ``Agent.state_dict()`` belongs to one level of the nest.

One function answers, from the path of a leaf: it returns one level, or a level for each number of the leaf. A leaf that
it does not know is an error, so that nothing an agent keeps can be missing from its nest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nl_agents.errors import NlAgentsError
from nl_agents.memory.base import CLOCK
from nl_agents.optim.levels import OWNERS, group_name
from nl_agents.training.living import Living

Path = tuple[str, ...]
Owner = str | list[tuple[str, NDArray[np.bool_]]]
"""A level's name, or (level's name, mask over the leaf) several times."""

CLOCKS, BOOKS, CHANCE, FIXED, SCALES, STREAM = "clocks", "books", "chance", "fixed", "scales", "stream"
PERMANENT, EXPERTS = "upkeep.permanent", "experts"
_SCALES = ("mean", "scale", "change_scale", "return_scale", "advantage_scale")


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor | NDArray[Any]]]:
    """Yields every tensor and array of a nested state with its path."""
    if isinstance(tree, Tensor | np.ndarray):
        yield path, tree
    elif isinstance(tree, Mapping):
        for key, node in tree.items():
            yield from leaves(node, (*path, str(key)))
    elif isinstance(tree, list | tuple):
        for index, node in enumerate(tree):
            yield from leaves(node, (*path, str(index)))


class Owners:
    """Answers whose a leaf of an agent's ``state_dict`` is.

    Args:
        agent: as it is now; its levels do not change.
    """

    def __init__(self, agent: Living) -> None:
        self.agent = agent
        self._of_parameter = {
            id(parameter): level.name for level in agent.scheduler.levels for parameter in level.parameters
        }
        of = self._of_parameter
        self._parameters = {name: of.get(id(one), PERMANENT) for name, one in agent.policy.named_parameters()}
        self._upkeep = {part.name: part.level().name for part in agent.learner.upkeep}
        self._groups: dict[str, tuple[str, tuple[int, ...]]] = {}
        place = 0
        for index, group in enumerate(agent.optimizer.param_groups):
            found = group_name(group, index), tuple(group.get("periods", (1,)))
            for _ in group["params"]:
                self._groups[str(place)] = found
                place += 1

    def owner(self, path: Path, leaf: Tensor | NDArray[Any]) -> Owner:
        """Returns whose the numbers of a leaf are.

        Raises:
            NlAgentsError: nobody's; the text holds the path.
        """
        area, *rest = path
        if path[-1] == "generator" or "generator" in rest:
            return CHANCE
        answer = getattr(self, f"_of_{area}", None)
        found: Owner | None = None if answer is None else answer(tuple(rest), leaf)
        if found is None:
            raise NlAgentsError(
                f"{'.'.join(path)} of the agent's state belongs to no level: add a rule to nl_agents/training/owners.py"
            )
        return found

    def _of_policy(self, rest: Path, _: Any) -> Owner | None:
        name = ".".join(rest)
        if name in self._parameters:
            return self._parameters[name]
        return SCALES if name in _SCALES else FIXED

    def _of_optimizer(self, rest: Path, leaf: Any) -> Owner | None:
        if rest[0] == "state":
            group, periods = self._groups[rest[1]]
            if rest[2] == "slow":  # [slow periods, ...]
                return _by_rows(leaf, {f"{group}.momentum.{p}": [i] for i, p in enumerate(periods[1:])})
            part = OWNERS.get(rest[2])
            return None if part is None else f"{group}.{part}"
        if rest[0] == "tuner":
            return "optimizer.tuner"
        return {"refused_steps": BOOKS, "prior": FIXED}.get(rest[-1])

    def _of_learner(self, rest: Path, leaf: Any) -> Owner | None:
        if rest[0] == "scheduler":
            return f"{rest[1]}.sum"
        if rest[0] == "upkeep":
            return self._upkeep[rest[1]]
        replay = self.agent.learner.replay
        if rest[0] != "replay" or replay is None:
            return None
        stores = {"replay.recent": slice(replay.recent), "replay.reservoir": slice(replay.recent, None)}
        return _by_rows(leaf, {name: rows for name, rows in stores.items() if getattr(replay, name.split(".")[1])})

    def _of_experts(self, *_: Any) -> Owner | None:
        return EXPERTS

    def _of_scales(self, *_: Any) -> Owner | None:
        return SCALES

    def _of_actor(self, rest: Path, leaf: Any) -> Owner | None:
        if rest[0] == "books":
            return BOOKS
        if rest[0] != "memory":
            return STREAM
        core = self.agent.policy.core
        names = [row.name for row in core.state_levels()]
        owner = np.broadcast_to(core.owners()[int(rest[1])].numpy(), leaf.shape)
        present = [int(index) for index in np.unique(owner)] if owner.size else []
        return [(CLOCKS if index == CLOCK else names[index], owner == index) for index in present]


def _by_rows(leaf: Any, rows: Mapping[str, Any]) -> Owner:
    """Parts a leaf along its first axis."""
    masks = []
    for name, index in rows.items():
        mask = np.zeros(tuple(leaf.shape), np.bool_)
        mask[index] = True
        masks.append((name, mask))
    return masks


def count_numbers(agent: Living) -> dict[str, int]:
    """Returns level -> numbers that it keeps now, over the whole state of an agent.

    Raises:
        NlAgentsError: something belongs to no level, or a number to none or two.
    """
    owners, counts = Owners(agent), dict[str, int]()
    for path, leaf in leaves({**agent.state_dict(), "steering": None}):
        size = int(np.prod(tuple(leaf.shape), dtype=np.int64))
        owner = owners.owner(path, leaf)
        shares = [(owner, size)] if isinstance(owner, str) else [(name, int(mask.sum())) for name, mask in owner]
        if isinstance(owner, list) and size and not np.all(sum(mask.astype(np.int64) for _, mask in owner) == 1):
            raise NlAgentsError(f"numbers of {'.'.join(path)} belong to no level or to two: mend its rule")
        for name, share in shares:
            counts[name] = counts.get(name, 0) + share
    if agent.steering is not None:
        state = agent.steering.controller.state_dict()
        counts["control"] = len(state["current"])
        counts["control.bandits"] = _count(state["bandits"])
        counts["control.expectation"] = _count(state["expectation"]) + _count(state["detector"])
    return counts


def _count(tree: Any) -> int:
    """Numbers in a nest of lists and dicts."""
    if isinstance(tree, Mapping):
        return sum(_count(node) for node in tree.values())
    if isinstance(tree, list | tuple):
        return sum(_count(node) for node in tree)
    return int(isinstance(tree, int | float))
