"""What a packed state is made of: which columns are whose, which form matrices, which are counters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nl_agents.errors import UnknownNameError
from nl_agents.memory.base import CLOCK, MemoryCore
from nl_agents.types import LevelInfo


class StatePiece(NamedTuple):
    """Numbers of one leaf of a state that are stored alike: all of it, or its matrices of one size.

    Attributes:
        name: of the leaf, as in the core's state type.
        columns: [n] int64, where they stand in the packed vector; matrix after matrix, row after row.
        matrix: (rows, columns) of each of the matrices they form; None for plain vectors.
    """

    name: str
    columns: Tensor
    matrix: tuple[int, int] | None


@dataclass(frozen=True)
class StateLayout:
    """How one stream's packed state [S] is cut for storage.

    Attributes:
        core: type of the core, for messages.
        size: S, numbers of the packed vector.
        pieces: what memories hold.
        counters: [n] int64 columns of step clocks and the like: small integers, always kept exactly.

    Columns in neither are not stored: they are read back as 0, a newborn's.
    """

    core: str
    size: int
    pieces: tuple[StatePiece, ...]
    counters: Tensor

    @property
    def numbers(self) -> int:
        """Numbers a stream that are stored."""
        return len(self.counters) + sum(len(piece.columns) for piece in self.pieces)


def levels_named(core: MemoryCore, names: Collection[str]) -> dict[str, LevelInfo]:
    """Returns the rows of ``core.levels()`` by these names; a string is one name.

    Raises:
        UnknownNameError: the core has no such level.
    """
    rows = {row.name: row for row in core.levels()}
    names = [names] if isinstance(names, str) else names
    for name in names:
        if name not in rows:
            raise UnknownNameError("level", name, rows)
    return {name: rows[name] for name in names}


def state_layout(core: MemoryCore, without: Collection[str] = ()) -> StateLayout:
    """Returns the layout of a core's packed state.

    Matrices are those of ``core.matrices()``; other leaves are vectors. A level that is left out takes its columns
    with it, but for what others look at too; where that cuts matrices apart, the leaf is stored as plain numbers.

    Args:
        core: whose state.
        without: names of levels (``core.levels()``) whose state is not stored, where they have any.

    Raises:
        UnknownNameError: the core has no such level.
    """
    rows, without = core.state_levels(), levels_named(core, without)
    gone = torch.tensor([index for index, row in enumerate(rows) if row.name in without], dtype=torch.int64)
    pieces: list[StatePiece] = []
    counters: list[Tensor] = []
    matrices = core.matrices()
    start = 0
    for name, owner in zip(core.state_type._fields, core.owners(), strict=True):
        flat = owner.reshape(-1)
        columns = torch.arange(start, start + len(flat))
        start += len(flat)
        kept = ~torch.isin(flat, gone) | (name in core.shared and len(gone) < len(rows))
        counters.append(columns[flat == CLOCK])
        kept &= flat != CLOCK
        shapes = matrices.get(name, ())
        groups = [rows * width for rows, width in shapes] or [len(flat)]
        if not len(flat):
            continue
        parts = zip(*(part.view(-1, sum(groups)).split(groups, 1) for part in (columns, kept)), strict=True)
        for (place, stays), shape in zip(parts, shapes or (None,), strict=True):
            if bool(stays.any()):
                whole = bool((stays.all(1) | ~stays.any(1)).all())
                pieces.append(StatePiece(name, place[stays], shape if whole else None))
    return StateLayout(type(core).__name__, start, tuple(pieces), torch.cat(counters))
