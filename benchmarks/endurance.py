"""A million hostile steps for every memory core: finite, and within the bounds that docs/state.md states.

    python -m benchmarks.endurance
    python -m benchmarks.endurance --cores hope hope:chunk=1 titans:chunk=8 --steps 100_000
    python -m benchmarks.endurance --quick              # a smoke test of seconds, not a record

Six streams, one for each adversary, live side by side, in float32 and without a reset: one step endlessly, huge
numbers, signs that alternate, seven steps that return with noise, zeros, and jumps over twelve orders of magnitude.
Memories are made as lasting as they can be: scope ``never``, time constants of at least a million steps, gates of step
sizes (and of momenta) held open. Where all chunks end, every number of the state is held against its bound
(``nl_agents.memory.bounds``).
The exact forms of ``self-modifying`` run step by step, half an hour of a core each. Writes
benchmarks/results/endurance.json; cores that the record already has with as many steps are left out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks.probing.cores import parse_core
from benchmarks.speed import ROOT, provenance
from nl_agents.memory import MemoryCore
from nl_agents.memory.bounds import state_bounds

SIZE, WIDTH = 5, 8
PIECE = 4096
"""Env steps of one call; a multiple of every clock below."""
CORES = (
    "hope:chunk=32,heads=2,key_size=4,never_heads=2",
    "hope:chunk=8,heads=2,key_size=4,never_heads=2",
    "hope:chunk=1,heads=2,key_size=4,never_heads=2",
    "cms:variant=sequential,size=4",
    "cms:variant=nested,size=4",
    "cms:variant=independent,size=4,reduction=sum",
    "self-modifying:chunk=64,heads=2,key_size=4,scope=never",
    "self-modifying:chunk=64,heads=2,key_size=4,scope=never,step_limit=1.0,largest_momentum=0.99",
    "self-modifying:chunk=64,heads=2,key_size=4,scope=never,write=gd,objective=dot,decay=False",
    "self-modifying:chunk=64,heads=2,key_size=4,scope=never,memory=mlp",
    "self-modifying:chunk=64,heads=2,key_size=4,scope=never,memory=mlp,step_limit=1.0,write=gd,momentum=False",
    "self-modifying:chunk=1,heads=2,key_size=4,scope=never,step_limit=1.0",
    "self-modifying:chunk=1,heads=2,key_size=4,scope=never,memory=mlp,step_limit=1.0",
    "gated-delta:heads=2,scope=never",
    "titans:heads=2,scope=never",
    "titans:heads=2,scope=never,chunk=8",
    "titans:heads=2,scope=never,momentum=0.9",
    "attention:heads=2,scope=never,window=32",
    "diagonal:states=4,scope=never",
    "lstm:scope=never",
    "gru:scope=never",
    "feed-forward",
    "mlp",
)
EXACT = tuple(label for label in CORES if label.startswith("self-modifying:chunk=1,"))
"""Loops over time in Python; what bounds them is what bounds the chunks, at every step instead of a chunk's end."""
ADVERSARIES: dict[str, Callable[[int], Tensor]] = {
    "constant": lambda steps: torch.ones(steps, SIZE),
    "huge": lambda steps: 1e6 * torch.randn(steps, SIZE),
    "alternating": lambda steps: (1.0 - 2.0 * (torch.arange(steps) % 2)).unsqueeze(1) * torch.ones(SIZE),
    "repeated": lambda steps: torch.randn(7, SIZE)[torch.arange(steps) % 7] + 0.3 * torch.randn(steps, SIZE),
    "zero": lambda steps: torch.zeros(steps, SIZE),
    "jumping": lambda steps: torch.randn(steps, SIZE).sign() * 10.0 ** torch.randint(-6, 7, (steps, 1)),
}


@dataclass
class Options:
    """What to outlive."""

    cores: tuple[str, ...] = CORES
    """cores of the registry, with options as in hope:chunk=1"""
    steps: int = 1_000_000
    """env steps of each stream, rounded up to whole calls"""
    exact_steps: int = 1_000_000
    """the same of the exact forms of self-modifying memory"""
    seed: int = 0
    """of weights and adversaries"""
    quick: bool = False
    """one call for each core: shows that everything runs"""
    out: Path | None = None
    """the record; default benchmarks/results/endurance.json, none with --quick"""


def hardened(label: str, seed: int = 0) -> MemoryCore:
    """Builds a core of the command line and takes from it all that could hold it back."""
    torch.manual_seed(seed)
    core: Any = parse_core(label).build(SIZE, WIDTH)
    for name, parameter in core.named_parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
        if name.endswith("log_tau"):
            parameter.data.clamp_(min=torch.tensor(1e6).log().item())
        elif name.endswith("rate_logit"):
            parameter.data.fill_(4.0)
        elif name.endswith("gate_bias"):
            parameter.data[:, 0] += 10.0
    kind, heads = type(core).__name__, getattr(core, "heads", 0)
    open_from = {
        "GatedDeltaCore": slice(4 * WIDTH, 4 * WIDTH + heads),
        "TitansCore": slice(4 * WIDTH + heads, None),
        "SelfModifyingCore": slice(3 * heads * getattr(core, "key_size", 0), None),
    }
    if kind in open_from:
        core.mix.bias.data[open_from[kind]] += 10.0
    return core  # type: ignore[no-any-return]


@torch.no_grad()
def endure(core: MemoryCore, steps: int, piece: int = PIECE, seed: int = 0) -> dict[str, dict[str, float]]:
    """Lives ``steps`` steps of every adversary, in calls of ``piece`` steps.

    Returns:
        For every leaf of the state, ``largest`` (the largest absolute number at the end of any call), ``bound`` at the
        end of the life, and ``share``, the largest ratio of the two on the way. Read-outs that are not finite: ``y``
        is not finite either.
    """
    generator_state = torch.get_rng_state()
    torch.manual_seed(seed)
    state, count = core.initial_state(len(ADVERSARIES)), 0
    found = {name: {"largest": 0.0, "bound": 0.0, "share": 0.0} for name in (*state._fields, "y")}
    while count < steps:
        x = torch.stack([make(piece) for make in ADVERSARIES.values()], 1)
        flags = torch.zeros(x.shape[:2], dtype=torch.bool)
        action = torch.randn(*x.shape[:2], core.action_size) if core.action_size else None
        y, state = core(x, state, flags, None, action)
        count += piece
        limits = state_bounds(core, count, 1e7) | {"y": torch.finfo(y.dtype).max}
        for name, leaf in (*zip(state._fields, state, strict=True), ("y", y)):
            largest = float(leaf.abs().max()) if leaf.numel() else 0.0
            row, limit = found[name], limits[name]
            row["largest"] = max(row["largest"], largest) if largest == largest else largest
            row["bound"] = limit
            row["share"] = max(row["share"], largest / limit if limit else largest) if largest == largest else largest
    torch.set_rng_state(generator_state)
    return found


def is_within(found: dict[str, dict[str, float]]) -> bool:
    """Whether all stayed finite and within its bound, but for rounding."""
    return all(row["share"] <= 1.0 + 1e-4 for row in found.values())


def tables(record: dict[str, Any]) -> str:
    """One row a core: what came nearest to its bound, and by how much."""
    lines = ["| core | steps | largest number of a memory | its bound | share |", "|---|---:|---:|---:|---:|"]
    for row in record["rows"]:
        leaves = {name: leaf for name, leaf in row["leaves"].items() if name not in SENSORS}
        shown = max(leaves.items(), key=lambda item: item[1]["share"], default=None)
        if shown is None or not shown[1]["bound"]:
            lines.append(f"| {row['core']} | {row['steps']:,} | – | – | – |")
            continue
        name, leaf = shown
        lines.append(
            f"| {row['core']} | {row['steps']:,} | {name} {leaf['largest']:.3g} | {leaf['bound']:.3g} "
            f"| {leaf['share']:.2g} |"
        )
    adversaries = ", ".join(ADVERSARIES)
    return "\n".join([*lines, "", f"Adversaries: {adversaries}. torch {record['versions']['torch']}, float32."])


SENSORS = ("y", "phase", "length", "level_signal", "signal", "level_key", "level_input", "past", "empty")
"""Leaves that show the last input, or count: they are held to their bounds too, and say nothing of a memory."""


def main(options: Options) -> None:
    """Runs all cores, prints what was found, keeps the record after each core."""
    torch.set_num_threads(1)
    out = options.out or ROOT / "benchmarks" / "results" / "endurance.json"
    keeps = options.out is not None or not options.quick
    rows: list[dict[str, Any]] = []
    if keeps and out.is_file():
        rows = json.loads(out.read_text("utf-8"))["rows"]
    failed = []
    for label in options.cores:
        steps = PIECE if options.quick else options.exact_steps if label in EXACT else options.steps
        if any(row["core"] == label and row["steps"] >= steps for row in rows):
            continue
        begin = time.perf_counter()
        found = endure(hardened(label, options.seed), steps, PIECE, options.seed)
        seconds = time.perf_counter() - begin
        rows = [row for row in rows if row["core"] != label]
        rows.append({"core": label, "steps": -(-steps // PIECE) * PIECE, "seed": options.seed, "leaves": found})
        rows.sort(key=lambda row: CORES.index(row["core"]) if row["core"] in CORES else len(CORES))
        told = {name: f"{leaf['largest']:.3g} of {leaf['bound']:.3g}" for name, leaf in found.items()}
        print(f"{label}: {'within' if is_within(found) else 'BEYOND'} {told} {seconds:.0f} s", file=sys.stderr)
        failed += [] if is_within(found) else [label]
        if keeps:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(provenance("cpu") | {"rows": rows}, indent=1) + "\n", "utf-8")
    if failed:
        raise SystemExit(f"beyond their bounds: {', '.join(failed)}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
