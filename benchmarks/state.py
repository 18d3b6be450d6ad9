"""What it costs to keep a memory in fewer bytes, and to read it without one of its levels.

    python -m benchmarks.state --run runs/NAME              # a trained run, on the sequence that it lived on
    python -m benchmarks.state --steps 100000               # or a short life of --agent on --sequence first
    python -m benchmarks.state --quick                      # a smoke test of seconds, not a measurement

Every form serves the same frozen policy (``Agent.serve``) through the same lives of the sequence: parameters fixed,
most likely actions, memory newborn at the start and kept from then on in that form, rounded at every step. Measured
are bytes a stream, the error of one round trip on a lived memory, the time of an act step (forms take turns), and the
return that is lost against float32. The record goes to ``benchmarks/results/state_<suite>.json``;
``python -m benchmarks.tables`` draws it (``state_<suite>``).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro

from benchmarks.speed import ROOT, provenance
from benchmarks.state_tables import state_tables
from nl_agents import agents, envs
from nl_agents.cli.pages import load_run
from nl_agents.errors import ConfigError, NlAgentsError
from nl_agents.evaluation import run_lifetime
from nl_agents.evaluation.metrics import time_weighted_return
from nl_agents.seeding import spawn
from nl_agents.training import Agent, AgentState, Serving
from nl_agents.training.run_folder import read_config


@dataclass(frozen=True)
class Options:
    """Which agent, which forms, how long."""

    run: Path | None = None
    """run folder of a trained agent; None lives a short life first"""
    agent: str = "hope"
    """who lives it"""
    sequence: str = "cartpole-flip"
    """where; with --run the run's own"""
    steps: int = 50_000
    """env steps of that life"""
    codecs: tuple[str, ...] = ("float32", "bf16", "int8:32", "low-rank:8", "low-rank:4", "low-rank:2", "low-rank:1")
    """forms to keep memory in; float32 is always measured first"""
    without: tuple[str, ...] | None = None
    """levels to leave out, one at a time and kept as float32; None means each level of the core"""
    life_steps: int = 50_000
    """env steps of each life in which return is measured"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """lives: schedules and start states"""
    streams: int = 16
    """parallel environments, also the batch of the timed act step"""
    calls: int = 200
    """act steps of one timed turn"""
    turns: int = 7
    """turns of each form"""
    threads: int = 1
    """torch threads"""
    quick: bool = False
    """tiny: shows that everything runs"""
    out: Path | None = None
    """the JSON file; default benchmarks/results/state_<suite>.json, none with --quick"""


class Lived(NamedTuple):
    """What a float32 server saw on its way: inputs of every step, and its memory at the end."""

    observations: list[Any]
    rewards: list[Any]
    starts: list[Any]
    state: AgentState


def subject(options: Options) -> tuple[Agent, str]:
    """The trained agent, and the sequence it is measured on."""
    if options.run is not None:
        return load_run(options.run, "cpu"), str(read_config(options.run)["sequence"])
    env = envs.make_sequence(options.sequence, num_envs=options.streams, seed=spawn(0, "sequence"))
    config = agents.config(options.agent)
    if options.quick:
        config.memory.width, config.ppo.num_steps = 16, 32
    print(f"{options.agent} lives {options.steps:,} env steps on {options.sequence}", file=sys.stderr)
    agent = agents.make(options.agent, env, seed=0, device="cpu", config=config)
    return agent.learn(options.steps, progress_bar=not options.quick), options.sequence


def forms(agent: Agent, options: Options) -> Iterator[tuple[str, tuple[str, ...], Serving]]:
    """Yields every form: codec, levels left out, server. A codec that cannot work on this core is told and skipped."""
    levels = [row.name for row in agent.policy.core.levels()] if options.without is None else options.without
    pairs = [(codec, ()) for codec in dict.fromkeys(("float32", *options.codecs))]
    for codec, without in [*pairs, *(("float32", (level,)) for level in levels)]:
        try:
            yield codec, without, agent.serve(codec, without)
        except ConfigError as error:
            print(f"left out: {error}", file=sys.stderr)


def lived(serving: Serving, sequence: str, options: Options) -> Lived:
    """Acts for as many steps as a timed turn has."""
    env = envs.make_sequence(sequence, num_envs=options.streams, seed=spawn(0, "sequence"))
    env.set_autoreset("same-step")
    observation, _ = env.reset(seed=spawn(0, "sequence"))
    start, reward = np.ones(options.streams, bool), np.zeros(options.streams, np.float32)
    seen: list[tuple[Any, Any, Any]] = []
    state: AgentState | None = None
    for _ in range(options.calls):
        seen.append((_copied(observation), reward, start))
        action, state = serving.predict(observation, state, start, reward=reward)
        observation, reward, terminated, truncated, _ = env.step(action)
        start, reward = terminated | truncated, np.asarray(reward, np.float32)
    env.close()
    assert state is not None
    return Lived(*(list(part) for part in zip(*seen, strict=True)), state)


def act_times(servers: list[Serving], path: Lived, turns: int) -> list[list[float]]:
    """Microseconds of an act step on the same inputs, a figure a turn; servers go round."""
    times: list[list[float]] = [[] for _ in servers]
    for turn in range(turns + 1):  # the first warms up
        for place, serving in enumerate(servers):
            state, begun = None, time.perf_counter()
            for observation, reward, start in zip(path.observations, path.rewards, path.starts, strict=True):
                _, state = serving.predict(observation, state, start, reward=reward)
            if turn:
                times[place].append((time.perf_counter() - begun) / len(path.rewards) * 1e6)
    return times


def round_trip_error(serving: Serving, packed: torch.Tensor) -> float:
    """Distance of what is read back from what was stored, relative to its size, over all streams."""
    again = serving.codec.decode(serving.codec.encode(packed))
    return float((again - packed).norm() / packed.norm().clamp_min(1e-12))


def measure(options: Options) -> dict[str, Any]:
    """Measures every form; returns the record."""
    torch.set_num_threads(options.threads)
    agent, sequence = subject(options)
    found = list(forms(agent, options))
    servers = [serving for _, _, serving in found]
    path = lived(servers[0], sequence, options)
    packed = servers[0].codec.decode(torch.from_numpy(path.state.memory))
    times = act_times(servers, path, options.turns)
    rows = []
    for (codec, without, serving), microseconds in zip(found, times, strict=True):
        print(f"{codec}{f' without {without[0]}' if without else ''}: lives", file=sys.stderr)
        lives = [
            run_lifetime(
                serving, sequence, options.life_steps, seed, learn=False, deterministic=True, num_envs=options.streams
            )
            for seed in options.seeds
        ]
        rows.append(
            {
                "codec": codec,
                "without": list(without),
                "bytes_per_stream": serving.bytes_per_stream,
                "error": round_trip_error(serving, packed),
                "bound": serving.codec.bound,
                "microseconds": microseconds,
                "returns": [time_weighted_return(life) for life in lives],
                "episodes": [len(life) for life in lives],
            }
        )
    core = agent.policy.core
    return {
        **provenance("cpu"),
        "options": {**asdict(options), "run": None if options.run is None else options.run.name, "out": None},
        "agent": agent.name,
        "core": type(core).__name__,
        "state_floats": core.state_size,
        "sequence": sequence,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "rows": rows,
    }


def _copied(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.array(part) for key, part in observation.items()}
    return np.array(observation)


def main(options: Options) -> None:
    """Measures, prints the table, writes the record."""
    if options.quick:
        small = {"steps": 300, "life_steps": 400, "seeds": options.seeds[:1], "streams": 2, "calls": 5, "turns": 1}
        options = replace(options, **small)  # type: ignore[arg-type]
    if not options.seeds or min(options.calls, options.turns, options.streams, options.life_steps) < 1:
        raise SystemExit("expected at least one seed, and calls, turns, streams and life-steps >= 1")
    try:
        record = measure(options)
    except NlAgentsError as error:
        raise SystemExit(str(error)) from None
    print("\n" + state_tables(record))
    out = options.out
    if out is None and not options.quick:
        out = ROOT / "benchmarks" / "results" / f"state_{record['sequence'].partition(':')[0]}.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        print(f"written: {out}", file=sys.stderr)
    if options.quick:
        print("\nA smoke test: these figures measure nothing.")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
