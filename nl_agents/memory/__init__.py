"""Memory cores behind one contract: state in, state out, time first."""

from __future__ import annotations

from nl_agents.memory.base import MemoryCore as MemoryCore
from nl_agents.memory.codecs import CODECS as CODECS
from nl_agents.memory.codecs import make_codec as make_codec
from nl_agents.memory.hope import HopeCore as HopeCore
from nl_agents.memory.hope import HopeState as HopeState
from nl_agents.memory.registry import CORES as CORES
from nl_agents.memory.registry import make_core as make_core
from nl_agents.memory.state_codec import StateCodec as StateCodec
