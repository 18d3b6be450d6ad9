"""Every Python block of the pages on the sequences runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nl_agents import envs

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "envs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(page: Path) -> None:
    suite = envs.SUITES.get(page.stem)
    if suite is not None and not suite.runs_here:
        pytest.skip(f"{suite.needs} is not installed")
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(page), "exec"), {"__name__": "page"})
