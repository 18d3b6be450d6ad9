"""Draws a record of ``benchmarks/state.py``: one row a form of keeping memory, float32 first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

HEADS = (
    "memory kept as",
    "bytes a stream",
    "of float32",
    "round-trip error",
    "act step, µs",
    "× float32",
    "return lost",
)


def state_tables(record: Mapping[str, Any]) -> str:
    """Returns the table and how to read it, as markdown."""
    rows, whole = record["rows"], record["rows"][0]
    lines = [f"| {' | '.join(HEADS)} |", "|---|" + "---:|" * (len(HEADS) - 1)]
    for row in rows:
        name = row["codec"] + (f", without `{', '.join(row['without'])}`" if row["without"] else "")
        took = statistics.median(row["microseconds"])
        turns = zip(row["microseconds"], whole["microseconds"], strict=True)
        cells = (
            f"{row['bytes_per_stream']:,}",
            f"{row['bytes_per_stream'] / max(1, whole['bytes_per_stream']):.0%}",
            "–" if row["without"] else f"{row['error']:.1e}" if row["error"] else "0",
            f"{took:,.0f}",
            f"{statistics.median(mine / theirs for mine, theirs in turns):.2f}",
            _lost(row["returns"], whole["returns"]),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", " ".join(_notes(record))])


def _lost(returns: list[float], whole: list[float]) -> str:
    """Return lost against float32, mean [lowest - highest] over lives of equal seed."""
    lost = [theirs - mine for mine, theirs in zip(returns, whole, strict=True)]
    lost = [value for value in lost if math.isfinite(value)]
    if not lost:
        return "no episode ended"
    return f"{statistics.mean(lost):.1f} [{min(lost):.1f}–{max(lost):.1f}]"


def _notes(record: Mapping[str, Any]) -> list[str]:
    options, machine = record["options"], record["machine"]
    first = [value for value in record["rows"][0]["returns"] if math.isfinite(value)]
    mean = f"{statistics.mean(first):.1f}" if first else "unknown"
    source = f"run `{options['run']}`" if options["run"] else f"a life of {options['steps']:,} env steps"
    changed = " with uncommitted changes" if record["uncommitted_changes"] else ""
    load = "unknown" if record["load_average"] is None else f"{record['load_average']:.1f}"
    return [
        f"{record['agent']} ({record['core']}, {record['state_floats']:,} floats a stream) after {source}, serving on "
        f"`{record['sequence']}` for {options['life_steps']:,} env steps, {len(options['seeds'])} lives; time-weighted "
        f"return with float32 {mean}.",
        "Memory is rounded at every step. The error is that of one round trip on a lived memory. Return lost: mean "
        "[lowest–highest] over lives of equal seed; below 0 is a gain.",
        f"Act step: {options['streams']} streams, {options['threads']} thread, median of {options['turns']} turns, "
        f"load {load} on {machine['cores']} cores; {machine['cpu']}; commit "
        f"{record['commit'][:10]}{changed}.",
    ]
