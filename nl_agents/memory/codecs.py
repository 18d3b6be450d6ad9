"""All state codecs by name."""

from __future__ import annotations

from collections.abc import Collection

from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.memory.base import MemoryCore
from nl_agents.memory.low_rank import LowRankCodec
from nl_agents.memory.state_codec import Bf16Codec, Float32Codec, Int8Codec, StateCodec
from nl_agents.memory.state_layout import state_layout

CODECS: dict[str, str] = {
    "float32": "every number as it is",
    "bf16": "every number with 8 significant bits",
    "int8": "blocks of numbers on a common scale; int8:64 sets the block (32)",
    "low-rank": "the strongest directions of every matrix; low-rank:4 sets how many (4)",
}
"""Name -> what it does. A number behind a colon is its parameter."""
PARAMETERS = {"int8": 32, "low-rank": 4}


def make_codec(name: str, core: MemoryCore, without: Collection[str] = ()) -> StateCodec:
    """Builds a codec for a core's packed state: ``make_codec("low-rank:4", core)``.

    Args:
        name: of ``CODECS``, with a parameter where it has one.
        core: whose state; parameters do not matter, sizes do.
        without: levels whose state is not stored (``chosen_levels``).

    Raises:
        UnknownNameError: no such codec or level.
        ConfigError: a parameter that cannot work on this state.
    """
    kind, colon, given = name.partition(":")
    if kind not in CODECS:
        raise UnknownNameError("state codec", kind, CODECS)
    number = PARAMETERS.get(kind, 0)
    if colon:
        if kind not in PARAMETERS or not given.isdecimal() or int(given) < 1:
            wanted = f"{kind}:N with an integer N >= 1" if kind in PARAMETERS else f"{kind} without a parameter"
            raise ConfigError(f"state codec {name!r}: expected {wanted}")
        number = int(given)
    layout = state_layout(core, without)
    if kind == "low-rank":
        return LowRankCodec(layout, number)
    if kind == "int8":
        return Int8Codec(layout, number)
    return Bf16Codec(layout) if kind == "bf16" else Float32Codec(layout)
