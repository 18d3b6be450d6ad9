"""Time of memory cores beside torch's recurrent nets: learning from a sequence, and one act step.

    python -m benchmarks.core_speed
    python -m benchmarks.core_speed --cores hope hope:chunk=1 gated-delta --widths 128 --streams 16
    python -m benchmarks.core_speed --device cuda
    python -m benchmarks.core_speed --quick          # a smoke test, not a measurement

Learning: forward and backward on [T, B, D], gradients to the input and all parameters. Our cores meet an episode start
every 50 steps or so; nn.GRU and nn.LSTM know no resets; the step loop does. Acting: one step without gradients.
Contestants take turns (A B A B ...), a ratio is the median over rounds of the ratios within a round; below 1 is faster.
Writes benchmarks/results/cores_speed[_cuda].json with every window.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from benchmarks.core_contestants import OPPONENTS, Prepared, Size, prepare
from benchmarks.speed import ROOT, provenance

REFERENCE = Size(streams=16, width=128)
"""The size that is drawn in full."""


@dataclass
class Options:
    """What to measure."""

    cores: tuple[str, ...] = ("hope", "hope:chunk=1", "gated-delta", "titans", "attention", "diagonal", "lstm", "gru")
    """cores of the registry, with options as in hope:chunk=1"""
    streams: tuple[int, ...] = (8, 16, 64)
    """B"""
    widths: tuple[int, ...] = (64, 128, 256)
    """D, features of inputs and read-outs"""
    steps: int = 128
    """T of a sequence"""
    rounds: int = 5
    """windows for each contestant"""
    window_seconds: float = 0.5
    """least seconds of a window"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where everything lives"""
    threads: int = 1
    """torch threads"""
    quick: bool = False
    """one short window at one size: shows that everything runs"""
    keep: bool = False
    """leave what the JSON file holds of other sizes, so that sizes can be measured in several calls"""
    out: Path | None = None
    """the JSON file; default benchmarks/results/cores_speed[_cuda].json, none with --quick"""


@dataclass
class Row:
    """One contestant's milliseconds at one size, one number a window."""

    name: str
    streams: int
    width: int
    state_size: int | None
    learn: list[float] = field(default_factory=list)
    act: list[float] = field(default_factory=list)

    def ratio(self, other: Row, kind: str) -> float:
        """Median over rounds of our time through the other's, measured next to each other."""
        pairs = zip(getattr(self, kind), getattr(other, kind), strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def window(run: Callable[[], None], seconds: float, synchronise: Callable[[], None]) -> float:
    """Milliseconds a call, over calls that last at least ``seconds`` together."""
    count, begin = 0, time.perf_counter()
    while True:
        run()
        synchronise()
        count += 1
        spent = time.perf_counter() - begin
        if spent >= seconds:
            return spent / count * 1e3


def measure(options: Options, size: Size) -> list[Row]:
    """Prepares every contestant at one size, runs each once, then goes round."""
    synchronise: Callable[[], None] = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    contestants: list[tuple[Row, Prepared]] = []
    for name in (*OPPONENTS, *options.cores):
        prepared = prepare(name, size, options.steps, options.device)
        if prepared is None:
            print(f"{name} is not installed: left out", file=sys.stderr)
            continue
        prepared.learn()
        prepared.act()
        contestants.append((Row(name, size.streams, size.width, prepared.state_size), prepared))
    for index in range(options.rounds):
        for row, prepared in contestants:
            row.learn.append(window(prepared.learn, options.window_seconds, synchronise))
            row.act.append(window(prepared.act, options.window_seconds / 2, synchronise))
        print(f"{size}: round {index + 1} of {options.rounds}", file=sys.stderr)
    return [row for row, _ in contestants]


def tables(record: Mapping[str, Any]) -> str:
    """Draws a record: all figures at the reference size (else the first), then one ratio for every size."""
    rows = [Row(**row) for row in record["rows"]]
    sizes = list(dict.fromkeys(Size(row.streams, row.width) for row in rows))
    shown = REFERENCE if REFERENCE in sizes else sizes[0]
    by_size = {size: {row.name: row for row in rows if Size(row.streams, row.width) == size} for size in sizes}
    here, steps = by_size[shown], record["options"]["steps"]
    heads = [
        "forward + backward, ms",
        "× nn.GRU",
        "× nn.LSTM",
        "× step loop",
        "act step, ms",
        "× nn.LSTM",
        "state, floats",
    ]
    lines = [f"T = {steps}, {shown.streams} streams, width {shown.width}.", ""]
    lines += ["| core | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for row in here.values():
        against = [f"{row.ratio(here[name], 'learn'):.2f}" for name in ("nn.GRU", "nn.LSTM", "LSTM step loop")]
        cells = [f"{statistics.median(row.learn):.1f}", *against, f"{statistics.median(row.act):.2f}"]
        cells += [f"{row.ratio(here['nn.LSTM'], 'act'):.2f}", "–" if row.state_size is None else f"{row.state_size:,}"]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    if len(sizes) > 1:
        lines += ["", "Forward and backward × nn.GRU, streams × width:", ""]
        lines += ["| core | " + " | ".join(f"{size.streams} × {size.width}" for size in sizes) + " |"]
        lines += ["|---|" + "---:|" * len(sizes)]
        for name in here:
            found = [by_size[size][name].ratio(by_size[size]["nn.GRU"], "learn") for size in sizes]
            lines.append(f"| {name} | " + " | ".join(f"{ratio:.2f}" for ratio in found) + " |")
    machine, options = record["machine"], record["options"]
    where = f"{machine['gpu']}, {machine['cpu']}" if machine["gpu"] else machine["cpu"]
    changed = " with uncommitted changes" if record["uncommitted_changes"] else ""
    tail = f"{machine['cores']} cores, {options['threads']} thread{'s' if options['threads'] > 1 else ''}"
    tail += f"; torch {record['versions']['torch']}; commit {record['commit'][:10]}{changed}."
    return "\n".join([*lines, "", f"{where}, {tail}"])


def joined(options: Options, rows: list[Row], record: Mapping[str, Any]) -> tuple[Options, list[Row]]:
    """Puts the rows of other sizes in a record before ours; the options' sizes then say which there are.

    Raises:
        SystemExit: the record is of another commit, or was measured in another way.
    """
    ours = asdict(options)
    same = ("cores", "steps", "rounds", "window_seconds", "device", "threads")
    other = [name for name in same if json.loads(json.dumps(ours[name])) != record["options"].get(name)]
    if other or record["commit"] != provenance(options.device)["commit"]:
        raise SystemExit(
            f"--keep joins rows of one commit and one way to measure; other: {', '.join(other) or 'commit'}"
        )
    new = {Size(row.streams, row.width) for row in rows}
    kept = [row for row in (Row(**each) for each in record["rows"]) if Size(row.streams, row.width) not in new]
    rows = sorted([*kept, *rows], key=lambda row: (row.width, row.streams))
    streams, widths = {row.streams for row in rows}, {row.width for row in rows}
    return replace(options, streams=tuple(sorted(streams)), widths=tuple(sorted(widths))), rows


def main(options: Options) -> None:
    """Measures, prints the tables, writes the record."""
    if options.quick:
        options = replace(options, streams=options.streams[:1], widths=options.widths[:1], steps=8, rounds=1)
        options = replace(options, window_seconds=0.0)
    torch.set_num_threads(options.threads)
    sizes = [Size(streams, width) for width in options.widths for streams in options.streams]
    rows = [row for size in sizes for row in measure(options, size)]
    out = options.out
    if out is None and not options.quick:
        suffix = "_cuda" if options.device == "cuda" else ""
        out = ROOT / "benchmarks" / "results" / f"cores_speed{suffix}.json"
    if options.keep and out is not None and out.is_file():
        options, rows = joined(options, rows, json.loads(out.read_text("utf-8")))
    told = asdict(replace(options, out=None))
    record = provenance(options.device) | {"options": told, "rows": [asdict(row) for row in rows]}
    print("\n" + tables(record))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        print(f"written: {out}", file=sys.stderr)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
