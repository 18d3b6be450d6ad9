"""The registry of cores: what users read of each."""

from __future__ import annotations

import pytest

from nl_agents.memory.registry import CORES, core_class


@pytest.mark.parametrize("name", CORES)
def test_every_core_is_introduced_by_a_sentence(name: str) -> None:
    """``nl-agents list cores`` shows the first line of a core's page: words, not an equation."""
    first = (core_class(name).__doc__ or "").strip().partition("\n")[0]
    assert first[:1].isupper() and first.endswith("."), f"{name}: {first!r}"
