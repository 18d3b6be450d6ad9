"""What the tests of memories share: seeded, in float64 (``double``), or every core in both dtypes (``core``)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nl_agents.memory import MemoryCore, continuum, hope, self_modifying
from tests.memory.cores import VARIANTS, build


@pytest.fixture
def double() -> Iterator[None]:
    """Seed 0, and float64 wherever a dtype is not named."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest, double: None) -> torch.dtype:
    """Seed 0, and each of both dtypes wherever a dtype is not named."""
    kind: torch.dtype = getattr(torch, request.param)
    torch.set_default_dtype(kind)
    return kind


@pytest.fixture
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiled forms."""
    for module in (self_modifying, continuum):
        monkeypatch.setattr(module, "compiled", None)
    monkeypatch.setattr(hope, "hope_act", None)


@pytest.fixture(params=VARIANTS)
def name(request: pytest.FixtureRequest) -> str:
    """Every variant of every core; portable forms where the name says so."""
    variant: str = request.param
    if "portable" in variant:
        request.getfixturevalue("portable")
    return variant


@pytest.fixture
def core(name: str, dtype: torch.dtype) -> MemoryCore:
    """Every variant of every core in both dtypes."""
    return build(name)


@pytest.fixture
def core64(name: str, double: None) -> MemoryCore:
    """Every variant of every core in float64."""
    return build(name)
