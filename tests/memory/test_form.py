"""The compiled form where numba works; the portable one, with a word about it, where it does not."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest

from nl_agents.memory import form

numba = pytest.importorskip("numba")
NAME = "nl_agents.memory.compiled"


def test_numba_gives_the_compiled_form() -> None:
    assert form.load_compiled(NAME) is importlib.import_module(NAME)


def test_without_numba_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert form.load_compiled(NAME) is None


def test_a_numba_that_does_not_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError("Numba needs an older NumPy")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.warns(
        UserWarning, match=r"numba does not load \(Numba needs an older NumPy\): memories run uncompiled"
    ):
        assert form.load_compiled(NAME) is None


def test_without_a_folder_for_its_cache_numba_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a read-only installation of a user without home."""
    from nl_agents.memory import lanes

    asked: list[bool] = []
    njit = lanes.njit

    def homeless(*, cache: bool, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(cache=False, **options)

    monkeypatch.setattr(lanes, "njit", homeless)

    @lanes.compiled
    def double(x: float) -> float:
        return 2.0 * x

    assert double(3.0) == 6.0 and asked == [True, False]
