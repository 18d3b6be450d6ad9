"""The page says what is true."""

from __future__ import annotations

import re
from pathlib import Path

from nl_agents.memory import make_core
from nl_agents.sb3.cells import CoreCell

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sb3.md").read_text("utf-8")


def test_the_table_of_state_costs() -> None:
    block = PAGE.split("<!-- state costs -->")[1].split("<!-- end of state costs -->")[0]
    rows = re.findall(r"\| `([\w-]+)` \| ([\d,]+) \| ([\d.]+) MB \| ([\d.]+) MB \|", block)
    assert len(rows) == 5
    for name, floats, stored, fast in rows:
        cell = CoreCell(make_core(name, input_size=64, width=128))
        assert int(floats.replace(",", "")) == cell.state_size
        assert stored == f"{128 * 8 * 4 * cell.hidden_size * 4 / 1e6:.1f}"
        assert fast == f"{2 * 8 * 2 * cell.state_size * 4 / 1e6:.1f}"
