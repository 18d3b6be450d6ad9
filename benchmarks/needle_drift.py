"""Why Hope loses the needle after 10,000 steps: parts of its memory are put back as they stood behind the needle.

    python -m benchmarks.needle_drift
    python -m benchmarks.needle_drift --quick          # a smoke test

Hope is trained as in the table of ``benchmarks.memory`` (up to 100 distractors, rate .01) and then asked at 10,000,
once as it is and once for each intervention: after every 64 steps some rows of its matrices (all heads) are put back as
they stood after the first 64; or the longest time constant is 10⁹; or the act-time level does not write. Writes
benchmarks/results/needle_drift.json.
"""

from __future__ import annotations

import copy
import json
import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.probing.cell import Cell, Reader, train
from benchmarks.probing.cores import parse_core
from benchmarks.probing.plans import PLANS, Settings
from benchmarks.speed import ROOT, provenance
from nl_agents.memory import HopeCore
from nl_agents.probes import make_probe
from nl_agents.seeding import generator, spawn

EVERY = 64
TASK = "needle"


@dataclass
class Options:
    """What to ask."""

    core: str = "hope"
    """the Hope core, with options as in hope:chunk=1"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of weights and batches"""
    updates: int = 2000
    """AdamW steps of training"""
    rate: float = 1e-2
    """learning rate, that of the table"""
    span: int = 10_000
    """distractor steps between needle and question"""
    streams: int = 64
    """streams that are asked"""
    quick: bool = False
    """two updates, a short span, one seed"""
    out: Path | None = None
    """the JSON file; default benchmarks/results/needle_drift.json, none with --quick"""


def trained(options: Options, seed: int) -> Reader:
    """A core and its head, as ``benchmarks.memory`` trains them."""
    settings = Settings(updates=options.updates)
    cell = Cell(TASK, parse_core(options.core), seed, options.rate)
    probe = make_probe(TASK)
    torch.manual_seed(spawn(seed, "weights", TASK))
    reader = Reader(cell.core, probe, settings.width)
    if not isinstance(reader.core, HopeCore):
        raise SystemExit(f"expected a Hope core, whose parts are known here, got {options.core!r}")
    train(reader, probe, cell, PLANS[TASK], settings)
    return reader


@torch.no_grad()
def ask(reader: Reader, options: Options, seed: int, rows: slice | None = None) -> float:
    """Share of right answers; ``rows`` of the matrices are put back after every 64 steps."""
    probe, right, asked = make_probe(TASK), 0, 0
    rng = generator(seed, "evaluate", TASK, options.span)
    state, clock, kept = reader.core.initial_state(options.streams), 0, None
    for piece in probe.stream(rng, options.streams, options.span, EVERY):
        logits, targets, state = reader(piece, state, clock)
        clock += len(piece.x)
        right, asked = right + int((logits.argmax(1) == targets).sum()), asked + len(targets)
        if kept is None:
            kept = (state.delta.clone(), state.anchor.clone())
        if rows is not None:
            state.delta[..., rows], state.anchor[..., rows] = kept[0][..., rows], kept[1][..., rows]
    return right / asked


def interventions(reader: Reader, options: Options, seed: int) -> dict[str, float]:
    """Intervention -> share of right answers."""
    core: Any = reader.core
    size = core.memory.key_size
    parts = {
        "all projections put back": slice(0, 2 * size + 2),
        "keys put back": slice(0, size),
        "values put back": slice(size, 2 * size),
        "steps and retention put back": slice(2 * size, 2 * size + 2),
        "mem put back": slice(2 * size + 2, None),
    }
    found = {"as trained": ask(reader, options, seed)}
    found |= {name: ask(reader, options, seed, rows) for name, rows in parts.items()}
    slow, still = copy.deepcopy(reader), copy.deepcopy(reader)
    longest: Any = slow.core
    longest.memory.log_tau.data[longest.memory.log_tau.argmax()] = math.log(1e9)
    level: Any = still.core
    level.fast.rate_logit.data.fill_(-30.0)
    found["longest time constant 1e9"] = ask(slow, options, seed)
    found["act-time level does not write"] = ask(still, options, seed)
    return found


def main(options: Options) -> None:
    """Trains, asks, prints and writes."""
    torch.set_num_threads(1)
    if options.quick:
        options = replace(options, updates=2, span=200, streams=4, seeds=options.seeds[:1])
    rows = {str(seed): interventions(trained(options, seed), options, seed) for seed in options.seeds}
    for name in next(iter(rows.values())):
        print(f"{name:34}", *(f"{found[name]:.2f}" for found in rows.values()))
    out = options.out
    if out is None and not options.quick:
        out = ROOT / "benchmarks" / "results" / "needle_drift.json"
    if out is not None:
        record = provenance("cpu") | {"options": asdict(replace(options, out=None)), "right": rows}
        out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        print(f"written: {out}", file=sys.stderr)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
