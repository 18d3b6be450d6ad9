"""The records that cross layers."""

from __future__ import annotations

from nl_agents.types import LevelInfo, format_levels


def test_levels_are_drawn_as_aligned_columns() -> None:
    rows = [
        LevelInfo("core.memory", "1024 floats", "inputs", "write loss", 1, "env step", "never"),
        LevelInfo("core.cms.slow", "a layer", "gradients", "PPO", 16, "learner update", "life"),
    ]
    head, rule, first, second = format_levels(rows).splitlines()
    assert head.split() == ["level", "stores", "learns", "from", "objective", "period", "unit", "scope"]
    assert set(rule) <= {"-", " "}
    for title, left, right in (("period", "1", "16"), ("scope", "never", "life"), ("stores", "1024", "a layer")):
        column = head.index(title)
        assert first[column:].startswith(left)
        assert second[column:].startswith(right)


def test_an_empty_nest_is_a_bare_head() -> None:
    assert len(format_levels([]).splitlines()) == 2
