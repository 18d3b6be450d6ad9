"""SAC on Pendulum-v1 without velocity: with a memory, with windows, with neither.

    python -m benchmarks.sb3_sac                        # all runs that are missing, seed by seed
    python -m benchmarks.sb3_sac --report               # the table of the records that are there

``recurrent-sac``: RecurrentSAC with a GRU. ``sac-windows``: SAC on windows of 4 steps that the same GRU runs over
(``history_env``; a row also holds the last action and reward, which RecurrentSAC is not shown). ``sac``: SAC without
memory. One setting for all of learning rate, discount, target rate, batch and number of updates, tuned for none; widths
are alike. One small file a run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from benchmarks.speed import ROOT, provenance
from nl_agents.sb3 import HopeWindowExtractor, RecurrentSAC, history_env

RESULTS = ROOT / "benchmarks" / "results" / "sb3_sac"
ENTRANTS = ("recurrent-sac", "sac-windows", "sac")
STEPS, EVERY, EVALUATED = 6_000, 1_000, 10  # env steps of a run, between two evaluations, episodes of one
WINDOW, WIDTH = 4, 64
SETTING: dict[str, Any] = {
    "learning_rate": 1e-3, "gamma": 0.95, "tau": 0.01, "batch_size": 128, "learning_starts": 500,
    "buffer_size": 50_000, "device": "cpu",
}  # fmt: skip


class WithoutVelocity(gym.ObservationWrapper[Any, Any, Any]):
    """Sets the angular velocity to 0."""

    def observation(self, observation: Any) -> Any:
        """Keeps cosine and sine."""
        return observation * np.array([1, 1, 0], np.float32)


def make_env(entrant: str, seed: int) -> VecEnv:
    """One stream, as the entrant sees it."""
    env: VecEnv = DummyVecEnv([lambda: WithoutVelocity(gym.make("Pendulum-v1"))])
    env.seed(seed)
    env = VecMonitor(env)
    windowed: VecEnv = history_env(env, WINDOW) if entrant == "sac-windows" else env
    return windowed


def make_model(entrant: str, env: VecEnv, seed: int) -> SAC:
    """The algorithm of a run."""
    heads: dict[str, Any] = {"net_arch": [128]}
    if entrant == "recurrent-sac":
        memory = {"core": "gru", "lstm_hidden_size": WIDTH}
        return RecurrentSAC("HopePolicy", env, seed=seed, policy_kwargs={**heads, **memory}, **SETTING)
    if entrant == "sac-windows":
        heads["features_extractor_class"] = HopeWindowExtractor
        heads["features_extractor_kwargs"] = {"core": "gru", "features_dim": WIDTH}
    else:
        heads["net_arch"] = [128, 128]
    return SAC("MlpPolicy", env, seed=seed, policy_kwargs=heads, **SETTING)


def run(entrant: str, seed: int, steps: int) -> dict[str, Any]:
    """Learns and is judged on the way, by the likeliest action, always from the same starts; returns the record."""
    model = make_model(entrant, make_env(entrant, seed), seed)
    curve, spent = [], 0.0
    while model.num_timesteps < steps:
        begun = time.process_time()
        model.learn(EVERY, reset_num_timesteps=model.num_timesteps == 0)
        spent += time.process_time() - begun
        judge = make_env(entrant, 1_000 + seed)
        curve.append(evaluate_policy(model, judge, EVALUATED, return_episode_rewards=False, warn=False)[0])
    return {
        "entrant": entrant, "seed": seed, "steps": steps, "every": EVERY, "episodes": EVALUATED,
        "curve": [round(float(np.asarray(point)), 1) for point in curve], "updates": model._n_updates,
        "cpu_seconds": round(spent, 1), **provenance("cpu"),
    }  # fmt: skip


def report(results: Path) -> str:
    """One row an entrant."""
    head = f"| entrant | seeds | return after {STEPS // 2:,} steps | after {STEPS:,} | CPU ms an env step |"
    lines = [head, "|---|---:|---:|---:|---:|"]
    for entrant in ENTRANTS:
        records = [json.loads(path.read_text("utf-8")) for path in sorted(results.glob(f"{entrant}-[0-9]*.json"))]
        if not records:
            continue
        curves = np.array([record["curve"] for record in records])
        half, last = (
            f"{at.mean():.0f} [{at.min():.0f}, {at.max():.0f}]"
            for at in (curves[:, curves.shape[1] // 2 - 1], curves[:, -1])
        )
        cost = np.mean([1_000 * record["cpu_seconds"] / record["steps"] for record in records])
        lines.append(f"| `{entrant}` | {len(records)} | {half} | {last} | {cost:.0f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the records that are missing, or prints the table of those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entrants", choices=ENTRANTS, nargs="*", default=ENTRANTS, help="default: all")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="of the runs")
    parser.add_argument("--steps", type=int, default=STEPS, help="env steps of a run, for a smoke test")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    parser.add_argument("--report", action="store_true", help="make nothing, print the table")
    given = parser.parse_args(arguments)
    if given.report:
        print(report(given.results))
        return
    torch.set_num_threads(1)
    given.results.mkdir(parents=True, exist_ok=True)
    missing = [(seed, name) for seed in given.seeds for name in given.entrants]
    for seed, entrant in missing:
        path = given.results / f"{entrant}-{seed}.json"
        if not path.exists():
            record = run(entrant, seed, given.steps)
            path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
            print(f"{entrant} seed {seed}: {record['curve']}, {record['cpu_seconds']} s", flush=True)


if __name__ == "__main__":
    main()
