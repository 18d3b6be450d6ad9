"""Every named error has one root, and the texts show the repair."""

from __future__ import annotations

import inspect

import pytest

from nl_agents import errors
from nl_agents.errors import NlAgentsError, UnknownNameError

NAMED = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", NAMED)
def test_one_except_clause_catches_all_of_them(cls: type[Exception]) -> None:
    assert issubclass(cls, NlAgentsError)
    assert cls.__doc__, "say when it is raised"


@pytest.mark.parametrize("cls", [cls for cls in NAMED if cls is not NlAgentsError])
def test_each_is_also_a_built_in_kind_of_error(cls: type[Exception]) -> None:
    kinds = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError)
    assert issubclass(cls, kinds), f"{cls.__name__}: users who catch built-in errors would miss it"


def test_an_unknown_name_is_answered_with_its_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown agent 'hoep': did you mean 'hope'\? known names are"
    ) as caught:
        raise UnknownNameError("agent", "hoep", ["ppo", "hope", "rl2"])
    assert (caught.value.kind, caught.value.given, caught.value.near) == ("agent", "hoep", ["hope"])
    assert str(caught.value).endswith("known names are hope, ppo, rl2")


def test_a_name_near_nothing_gets_the_list_alone() -> None:
    text = str(UnknownNameError("core", "zzz", iter(["lstm", "gru"])))
    assert text == "unknown core 'zzz': known names are gru, lstm"


def test_an_empty_registry_does_not_break_the_message() -> None:
    assert "unknown core 'x'" in str(UnknownNameError("core", "x", []))
