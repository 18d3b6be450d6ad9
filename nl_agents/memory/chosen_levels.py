"""A core that is read with chosen levels only: what is left out is as on the day it was born."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from nl_agents.errors import ConfigError
from nl_agents.memory.base import MemoryCore
from nl_agents.memory.state_layout import levels_named


def leave_out(core: MemoryCore, names: Collection[str]) -> None:
    """Takes levels out of a core, in place (on a copy of yours: weights are lost).

    A CMS level, of act time or of learner time, passes its input on: that is how it was born. A memory's heads have no
    way round them: they read their meta-learned matrices and keep nothing, because their state is not stored
    (``state_layout(core, without=names)``).

    Args:
        core: a core of one's own.
        names: of rows of ``core.levels()``; a string is one.

    Raises:
        UnknownNameError: the core has no such level.
        ConfigError: a level that nothing goes round and that is more than state.
    """
    for name, row in levels_named(core, names).items():
        level = _module(core, name)
        mute = getattr(level, "mute", None)
        if callable(mute):
            mute()
        elif level is not None or row.unit != "env step":
            raise ConfigError(
                f"level {name!r} cannot be left out: nothing goes round it, and it is more than act-time state"
            )


def _module(core: MemoryCore, name: str) -> nn.Module | None:
    """The module of a level: rows are named ``core.`` and the module's path."""
    try:
        return core.get_submodule(name.removeprefix("core."))
    except AttributeError:
        return None
