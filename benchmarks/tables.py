"""Writes every published table from the records in benchmarks/results into the pages that show it.

    python -m benchmarks.tables            # rewrites the tables of the pages in PAGES, and figures
    python -m benchmarks.tables --check    # exit 1 if a page or figure shows anything else than its record

A page holds a table between two comments, ``<!-- table: speed_cartpole -->`` and ``<!-- end of table -->``; the name is
that of the record. Nothing between them is written by hand. A record of whole lives (``lifelong_<suite>``) also has a
figure, ``docs/figures/lifelong_<suite>.png``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import tyro

from benchmarks import alone, core_speed, endurance, env_speed, lifelong_tables, memory_rl, sb3_tables
from benchmarks.probing import records as memory_records
from benchmarks.speed import ROOT, Row, table
from benchmarks.state_tables import state_tables
from benchmarks.tuning_record import tuning_table
from benchmarks.windows import Window

PAGES = ("README.md", "benchmarks/README.md", "docs/sb3.md")
MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def speed_tables(record: Mapping[str, Any]) -> str:
    """Draws a record of ``benchmarks/speed.py``: one table a number of streams, then where it was measured."""
    rows = [
        Row(row["name"], row["streams"], row["parameters"], [Window(**window) for window in row["windows"]])
        for row in record["rows"]
    ]
    warmup = record["options"]["warmup_steps"]
    drawn = [table(list(group), warmup) for _, group in groupby(rows, lambda row: row.streams)]
    machine, versions, options = record["machine"], record["versions"], record["options"]
    where = f"{machine['gpu']}, {machine['cpu']}" if machine["gpu"] else machine["cpu"]
    changed = " with uncommitted changes" if record["uncommitted_changes"] else ""
    threads = f"{options['threads']} thread{'s' if options['threads'] > 1 else ''} each"
    stack = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "stable-baselines3", "envpool"))
    drawn.append(f"{where}, {machine['cores']} cores, {threads}; {stack}; commit {record['commit'][:10]}{changed}.")
    return "\n\n".join(drawn)


# A record is drawn by the first entry whose prefix its name has; another benchmark adds its line here.
DRAWN_BY: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "speed_": speed_tables,
    "cores_": core_speed.tables,
    "env_speed": env_speed.tables,
    "endurance": endurance.tables,
    "sb3_speed": sb3_tables.speed_table,
    "sb3_same_life": sb3_tables.same_life_table,
    "state_": state_tables,
}


def draw(name: str, results: Path) -> str:
    """Draws the record ``results/<name>.json``, or the lives of ``results/lifelong`` that a record of lives names.

    Raises:
        ValueError: no such record, or nobody draws records of that name.
    """
    if name.startswith(lifelong_tables.PREFIX):
        return lifelong_tables.lifelong_table(results, name)
    if name.startswith(memory_records.PREFIX):
        return memory_records.memory_table(name, results / "memory")
    if name == "alone":
        return alone.table(results / "alone")
    if name == "rl_memory":
        return memory_rl.table(results / "memory_rl")
    if name.startswith("tuning_"):
        return tuning_table(name, results / "tuning")
    path = results / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in results.glob("*.json"))) or "none"
        raise ValueError(f"no record {name!r} in {results}: run the benchmark that writes it; records there: {known}")
    for prefix, drawer in DRAWN_BY.items():
        if name.startswith(prefix):
            return drawer(json.loads(path.read_text("utf-8")))
    raise ValueError(f"nobody draws records named {name!r}: add its prefix to DRAWN_BY ({', '.join(DRAWN_BY)})")


def fill(page: str, results: Path) -> str:
    """Returns the text of a page with every marked table drawn anew."""
    return MARKED.sub(lambda match: f"{match[1]}{draw(match[2], results)}\n{match[3]}", page)


@dataclass
class Options:
    """What to do with the pages."""

    check: bool = False
    """write nothing; exit 1 if a page or a figure differs from its records"""


def main(options: Options, root: Path = ROOT) -> None:
    """Fills or checks all pages and their figures."""
    stale, results = [], root / "benchmarks" / "results"
    figures: dict[Path, str] = {}
    for name in PAGES:
        path = root / name
        if not path.is_file():
            continue
        text = path.read_text("utf-8")
        filled = fill(text, results)
        shown = (match[2] for match in MARKED.finditer(text) if match[2].startswith(lifelong_tables.PREFIX))
        figures |= {root / "docs" / "figures" / f"{record}.png": record for record in shown}
        if filled == text:
            continue
        stale.append(name)
        if not options.check:
            path.write_text(filled, "utf-8")
    for path, record in figures.items():
        if not lifelong_tables.figure_is_current(results, record, path):
            stale.append(str(path.relative_to(root)))
            if not options.check:
                lifelong_tables.draw_figure(results, record, path)
    print(f"{'differ' if options.check else 'rewritten'}: {', '.join(stale)}" if stale else "all tables are up to date")
    if stale and options.check:
        raise SystemExit(1)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
