"""What a task sequence costs: a vector step of the whole beside that of the vector env below it.

    python -m benchmarks.env_speed
    python -m benchmarks.env_speed --suites cartpole-flip --streams 16 256
    python -m benchmarks.env_speed --quick          # a smoke test, not a measurement

A suite's row is the whole sequence as an agent gets it, with clock, hidden information and the shifts of its second
task, which stays in force: with many streams a life of the preset's length would be little but switches. Beside it

* ``bare``: the same physics in the shortest loop that begins anew what has ended, or EnvPool itself;
* ``gymnasium``: gymnasium's own vector env of the problem, where it has one (``CartPole-v1``).

Contestants take turns (A B C A B C ...); a ratio is the median over rounds of the ratios within a round. Actions are
random and drawn beforehand. Writes benchmarks/results/env_speed.json with every window.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import tyro

from benchmarks.speed import ROOT, provenance
from nl_agents import envs
from nl_agents.tasks import Constant, ShiftedBackend, TaskSequence
from nl_agents.tasks.backend import Backend
from nl_agents.tasks.envpool_backend import EnvPoolBackend, envpool_is_installed

SUITES = {
    "cartpole-flip": "auto",
    "control-obs-shift": "auto",
    "control-drift": "auto",
    "permute-long": "auto",
    "minigrid-recurring": "envpool",
}
"""Suite with a fast backend -> that backend; EnvPool's is left out where it is not installed. Around envs in Python, of
100 µs a stream and more, the sequence is not to be seen."""
GYMNASIUM = {"cartpole-flip": "CartPole-v1", "control-obs-shift": "CartPole-v1"}
Actions = npt.NDArray[Any]


@dataclass
class Options:
    """What to measure."""

    suites: tuple[str, ...] = tuple(SUITES)
    """which suites, in their default preset"""
    streams: tuple[int, ...] = (16, 256, 1024)
    """numbers of parallel environments"""
    rounds: int = 5
    """windows of each contestant"""
    window_seconds: float = 0.4
    """least seconds of a window"""
    quick: bool = False
    """one short window: shows that everything runs"""
    out: Path | None = None
    """the JSON file; default benchmarks/results/env_speed.json, none with --quick"""


@dataclass
class Row:
    """One contestant.

    Attributes:
        suite: whose numbers these are.
        streams: B.
        name: ``sequence``, ``bare`` or ``gymnasium``.
        micros: µs a vector step, one a round.
    """

    suite: str
    streams: int
    name: str
    micros: list[float] = field(default_factory=list)

    def ratio(self, other: Row) -> float:
        """Median of the ratios within a round."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.micros, other.micros, strict=True))


def physics(backend: Backend) -> Backend:
    """The backend without shifts."""
    return backend.inner if isinstance(backend, ShiftedBackend) else backend


def bare_stepper(backend: Backend) -> Callable[[Actions], None]:
    """The shortest loop around a backend: what ended begins anew one step later, as in the sequence."""
    if isinstance(backend, EnvPoolBackend):
        import envpool

        pool: Any = envpool.make_gymnasium(backend.task_ids[1], num_envs=backend.num_envs, seed=0, num_threads=1)
        pool.reset()
        return lambda actions: pool.step(actions.astype(np.int32))
    tasks = np.zeros(backend.num_envs, dtype=np.int64)
    backend.begin_life(0)
    backend.reset(np.arange(backend.num_envs), tasks)
    waiting: npt.NDArray[np.bool_] | None = None

    def step(actions: Actions) -> None:
        nonlocal waiting
        before = waiting
        _, terminated, truncated = backend.step(actions, before)
        if before is not None:
            backend.reset(before.nonzero()[0], tasks)
        ended = terminated | truncated
        waiting = ended if ended.any() else None
        backend.observations()

    return step


def vector_stepper(env: gym.vector.VectorEnv[Any, Any, Any]) -> Callable[[Actions], None]:
    """A vector env as an agent steps it."""
    env.reset(seed=0)

    def step(actions: Actions) -> None:
        env.step(actions)

    return step


def make(suite: str, streams: int) -> TaskSequence:
    """The suite's second task for good."""
    return envs.make_sequence(suite, num_envs=streams, backend=SUITES[suite], schedule=Constant(1))


def contestants(suite: str, streams: int) -> dict[str, Callable[[Actions], None]]:
    """Builds the rows of a suite and number of streams."""
    sequence, apart = make(suite, streams), make(suite, streams)
    found = {"bare": bare_stepper(physics(apart.backend)), "sequence": vector_stepper(sequence)}
    if suite in GYMNASIUM:
        own = gym.make_vec(GYMNASIUM[suite], num_envs=streams, vectorization_mode="vector_entry_point")
        found["gymnasium"] = vector_stepper(own)
    return found


def measure(suite: str, streams: int, rounds: int, seconds: float) -> list[Row]:
    """Runs the contestants in turn, the first round to warm up."""
    steppers = contestants(suite, streams)
    space = make(suite, streams).action_space
    space.seed(0)
    actions = [space.sample() for _ in range(64)]
    rows = [Row(suite, streams, name) for name in steppers]
    for turn in range(rounds + 1):
        for row in rows:
            step, count, begin = steppers[row.name], 0, time.perf_counter()
            while (taken := time.perf_counter() - begin) < seconds or count == 0:
                for chosen in actions:
                    step(chosen)
                count += len(actions)
            if turn > 0:
                row.micros.append(1e6 * taken / count)
    return rows


def tables(record: Mapping[str, Any]) -> str:
    """Draws a record."""
    lines = ["| suite | streams | µs a vector step | bare | × bare | × gymnasium's |", "|---|---:|---:|---:|---:|---:|"]
    rows = [Row(**row) for row in record["rows"]]
    for (suite, streams), group in groupby(rows, lambda row: (row.suite, row.streams)):
        here = {row.name: row for row in group}
        whole, bare, own = here["sequence"], here["bare"], here.get("gymnasium")
        cells = [suite, f"{streams:,}", *(f"{statistics.median(row.micros):.0f}" for row in (whole, bare))]
        cells += [f"{whole.ratio(bare):.2f}", "" if own is None else f"{whole.ratio(own):.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    machine, versions = record["machine"], record["versions"]
    changed = " with uncommitted changes" if record["uncommitted_changes"] else ""
    stack = ", ".join(f"{name} {versions[name]}" for name in ("python", "gymnasium", "envpool"))
    tail = f"{machine['cpu']}, {machine['cores']} cores, 1 thread; {stack}; commit {record['commit'][:10]}{changed}."
    return "\n".join([*lines, "", tail])


def main(options: Options) -> None:
    """Measures, prints the table, writes the record."""
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        raise SystemExit(f"unknown suites {', '.join(unknown)}: known are {', '.join(SUITES)}")
    if options.quick:
        options = replace(options, streams=options.streams[:1], rounds=1, window_seconds=0.0)
    rows: list[Row] = []
    for suite in options.suites:
        if SUITES[suite] == "envpool" and not envpool_is_installed():
            continue
        for streams in options.streams:
            rows += measure(suite, streams, options.rounds, options.window_seconds)
    record = provenance("cpu") | {"options": asdict(replace(options, out=None)), "rows": [asdict(row) for row in rows]}
    print("\n" + tables(record))
    out = options.out
    if out is None and not options.quick:
        out = ROOT / "benchmarks" / "results" / "env_speed.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        print(f"written: {out}", file=sys.stderr)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
