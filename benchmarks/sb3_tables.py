"""Draws the records of ``benchmarks/sb3_speed.py`` and ``benchmarks/sb3_same_life.py``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from itertools import groupby
from typing import Any

STOCK, FUSED = "stock RecurrentPPO, LSTM", "fused RecurrentPPO, LSTM"
CRITICS = {
    "a memory each": "Actor and critic with a memory each (RecurrentPPO's default)",
    "one memory": "The critic reads the actor's memory (`shared_lstm=True, enable_critic_lstm=False`)",
}


def speed_table(record: Mapping[str, Any]) -> str:
    """One table a critic variant, then where it was measured; ratios are medians over rounds."""
    options, parts = record["options"], []
    steps = options["n_steps"] * options["envs"]
    updates = steps // options["batch_size"] * options["n_epochs"]
    for critic, rows in groupby(record["rows"], lambda row: row["critic"]):
        windows = {row["name"]: row["windows"] for row in rows}
        parts.append(f"{CRITICS[critic]}; {updates} optimizer steps for every {steps:,} env steps, in every row.")
        lines = ["| contestant | env steps/s: median [lowest–highest] | × stock | × fused | the same by CPU seconds |"]
        lines += ["|---|---:|---:|---:|---:|", *(_row(name, windows) for name in windows)]
        parts.append("\n".join(lines))
    machine, versions = record["machine"], record["versions"]
    stack = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "stable-baselines3"))
    changed = " with uncommitted changes" if record["uncommitted_changes"] else ""
    parts.append(
        f"{options['envs']} streams of `cartpole-flip` by `to_sb3` (one native vector environment, the same for all), "
        f"width {options['width']}, minibatches of {options['batch_size']}, {options['n_epochs']} epochs, "
        f"{options['windows']} rounds after {options['warm_steps']:,} steps of learning. {machine['cpu']}, "
        f"{machine['cores']} cores, 1 thread where no more are named; ratios are to the "
        f"better row of stock and of fused; {stack}; commit {record['commit'][:10]}{changed}."
    )
    return "\n\n".join(parts)


def same_life_table(record: Mapping[str, Any]) -> str:
    """One row a seed, then what follows."""
    lines = ["| seed | rollouts | weights after each rollout | episodes | mean over training, stock / ours | "
             "the one call: reads apart, gradients apart |", "|---:|---:|---|---:|---:|---:|"]  # fmt: skip
    for row in record["lives"]:
        apart, means = row["first_rollout_apart"], [statistics.fmean(one) for one in row["curves"]]
        same = "equal to the last bit" if apart is None else f"differ from rollout {apart} on"
        episodes = f"{row['episodes'][0]}, {'the same' if row['episodes_equal'] else 'not the same'}"
        judged = row["one_call"]
        lines.append(
            f"| {row['seed']} | {row['rollouts']} | {same} | {episodes} | {means[0]:.1f} / {means[1]:.1f} | "
            f"{judged['largest_difference_of_reads']:.0e}, {judged['largest_difference_of_gradients']:.0e} |"
        )
    differences = [statistics.fmean(row["curves"][1]) - statistics.fmean(row["curves"][0]) for row in record["lives"]]
    judged = sum(row["one_call"]["judged"] for row in record["lives"])
    count, machine, versions = len(differences), record["machine"], record["versions"]
    stack = ", ".join(f"{name} {versions[name]}" for name in ("torch", "stable-baselines3", "sb3-contrib"))
    changed = " with uncommitted changes" if record["uncommitted_changes"] else ""
    lines.append(
        f"\nOurs less stock, mean over training: {min(differences):+.1f} to {max(differences):+.1f} in {count} pairs "
        f"of lives. The one call was compared on {judged:,} blocks, in float64, gradients in parts of the largest. "
        f"{machine['cpu']}, 1 thread; {stack}; commit {record['commit'][:10]}{changed}."
    )
    return "\n".join(lines)


def _best(windows: Mapping[str, list[list[float]]], prefix: str, measure: int) -> str:
    """Of an opponent's rows, one for each number of threads, the one with the highest median by a measure."""
    rows = [name for name in windows if name.startswith(prefix)]
    return max(rows, key=lambda name: statistics.median(window[measure] for window in windows[name]))


def _row(name: str, windows: Mapping[str, list[list[float]]]) -> str:
    """One contestant; ``windows`` are (env steps a second, env steps a CPU second), each compared to the best of it."""
    clock = [window[0] for window in windows[name]]
    cells = [name, f"{statistics.median(clock):,.0f} [{min(clock):,.0f}–{max(clock):,.0f}]"]
    ratios: list[list[str]] = [[], []]
    for measure, found in enumerate(ratios):
        for prefix in (STOCK, FUSED):
            both = zip(windows[name], windows[_best(windows, prefix, measure)], strict=True)
            found.append(f"{statistics.median(one[measure] / base[measure] for one, base in both):.2f}")
    return f"| {' | '.join([*cells, *ratios[0], ', '.join(ratios[1])])} |"
