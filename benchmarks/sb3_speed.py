"""Env steps a second of recurrent PPO in Stable-Baselines3, learning included, as ratios to stock RecurrentPPO.

    python -m benchmarks.sb3_speed --envs 16 --windows 3 --out benchmarks/results/sb3_speed.json

All contestants live in one `cartpole-flip` sequence through `to_sb3`, the same native vector environment for all, with
the same number of streams, rollout length, epochs and minibatch size, so with the same number of optimizer steps (an
epoch of 2,048 steps in minibatches of 512 takes 4). Two groups, each with its own stock: actor and critic with an LSTM
each (RecurrentPPO's default), and a critic that reads the actor's. "Fused" is stock with one call of torch's LSTM a
sequence (`benchmarks/opponents/stock.py`). Contestants take turns, window by window; CPU seconds are counted beside the
clock's, because other processes move them less. How many threads torch may use, and FastRecurrentPPO with it, each line
says; the opponents run with one and with two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sb3_contrib import RecurrentPPO

import nl_agents.sb3
from benchmarks.opponents.stock import FusedPolicy
from benchmarks.speed import provenance
from nl_agents import envs
from nl_agents.sb3 import FastRecurrentPPO

WIDTH, NUM_STEPS, BATCH, EPOCHS = 128, 128, 512, 4
SHARED = {"shared_lstm": True, "enable_critic_lstm": False}


class Contestant(NamedTuple):
    """One line of the table."""

    name: str
    algorithm: type[RecurrentPPO]
    policy: Any  # name or class
    options: dict[str, Any]  # of the algorithm
    threads: int = 1


CONTESTANTS = (
    Contestant("stock RecurrentPPO, LSTM", RecurrentPPO, "MlpLstmPolicy", {}),
    Contestant("stock RecurrentPPO, LSTM, 2 threads", RecurrentPPO, "MlpLstmPolicy", {}, 2),
    Contestant("fused RecurrentPPO, LSTM", RecurrentPPO, FusedPolicy, {}),
    Contestant("fused RecurrentPPO, LSTM, 2 threads", RecurrentPPO, FusedPolicy, {}, 2),
    Contestant("RecurrentPPO, FastLstmPolicy", RecurrentPPO, "FastLstmPolicy", {}),
    Contestant("FastRecurrentPPO, LSTM", FastRecurrentPPO, "MlpLstmPolicy", {}),
    Contestant("FastRecurrentPPO, LSTM, 2 threads", FastRecurrentPPO, "MlpLstmPolicy", {}, 2),
    Contestant("the same, chunks of 32", FastRecurrentPPO, "MlpLstmPolicy", {"chunk_steps": 32}, 2),
    Contestant("the same, chunks of 16", FastRecurrentPPO, "MlpLstmPolicy", {"chunk_steps": 16}, 2),
    Contestant("RecurrentPPO, HopePolicy", RecurrentPPO, "HopePolicy", {}),
    Contestant("FastRecurrentPPO, HopePolicy", FastRecurrentPPO, "HopePolicy", {}),
)


def make(contestant: Contestant, num_envs: int, shared: bool) -> RecurrentPPO:
    """The contestant on streams of its own; first weights are drawn by one thread."""
    assert nl_agents.sb3
    env = envs.to_sb3(envs.make_sequence("cartpole-flip", num_envs=num_envs, seed=0))
    kwargs = {"lstm_hidden_size": WIDTH, **(SHARED if shared else {})}
    sizes = {"n_steps": NUM_STEPS, "batch_size": BATCH, "n_epochs": EPOCHS}
    return contestant.algorithm(
        contestant.policy, env, **sizes, **contestant.options, seed=0, device="cpu", policy_kwargs=kwargs
    )


def measure(
    contestants: Sequence[Contestant], num_envs: int, windows: int, warm_steps: int, shared: bool
) -> dict[str, list[tuple[float, float]]]:
    """Returns name -> (env steps per second, env steps per CPU second) of each window of two rollouts."""
    models = {contestant.name: make(contestant, num_envs, shared) for contestant in contestants}
    threads = {contestant.name: contestant.threads for contestant in contestants}
    for name, model in models.items():
        torch.set_num_threads(threads[name])
        model.learn(warm_steps)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(windows):
        for name, model in models.items():
            torch.set_num_threads(threads[name])
            steps, clock, cpu = model.num_timesteps, time.perf_counter(), time.process_time()
            model.learn(2 * NUM_STEPS * num_envs, reset_num_timesteps=False)
            lived = model.num_timesteps - steps
            found[name].append((lived / (time.perf_counter() - clock), lived / (time.process_time() - cpu)))
    torch.set_num_threads(1)
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Measures both groups and prints them; returns the ratio of every contestant to its stock, by CPU seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, default=16, help="streams")
    parser.add_argument("--windows", type=int, default=3, help="windows of two rollouts for each contestant")
    parser.add_argument("--warm-steps", type=int, default=20_000, help="env steps of learning before the first window")
    parser.add_argument("--only", nargs="*", help="contestants whose names hold one of these, beside stock")
    parser.add_argument("--out", type=Path, help="where to keep the record (JSON)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    ratios, rows = {}, []
    entered = [one for one in CONTESTANTS[1:] if not given.only or any(word in one.name for word in given.only)]
    for group, shared in (("a memory each", False), ("one memory", True)):
        found = measure((CONTESTANTS[0], *entered), given.envs, given.windows, given.warm_steps, shared)
        medians = {name: [statistics.median(one) for one in zip(*rows, strict=True)] for name, rows in found.items()}
        stock = medians[CONTESTANTS[0].name]
        print(f"actor and critic: {group}; {given.envs} streams, {BATCH} steps a minibatch, {EPOCHS} epochs")
        for name, (clock, cpu) in medians.items():
            ratios[f"{name}, {group}"] = cpu / stock[1]
            print(f"  {name:40} {clock:8,.0f} /s  {cpu:8,.0f} /CPU s  x {clock / stock[0]:.2f}, {cpu / stock[1]:.2f}")
            rows.append({"name": name, "critic": group, "windows": found[name]})
    if given.out is not None:
        sizes = {"width": WIDTH, "n_steps": NUM_STEPS, "batch_size": BATCH, "n_epochs": EPOCHS}
        options = {**sizes, "envs": given.envs, "windows": given.windows, "warm_steps": given.warm_steps}
        record = {"options": options, "rows": rows, **provenance("cpu")}
        given.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return ratios


if __name__ == "__main__":
    main()
