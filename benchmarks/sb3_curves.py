"""Learning curves of the Stable-Baselines3 plug-in: one small file a run, those that are there are left out.

    python -m benchmarks.sb3_curves                     # all runs that are missing, in an order that pairs seeds early
    python -m benchmarks.sb3_curves --task cartpole-novel --seeds 0 1
    python -m benchmarks.sb3_curves --report            # what the records that are there show

``cartpole-novel``: CartPole-v1 without velocities. Stock RecurrentPPO beside RecurrentPPO with our ``lstm`` core, both
with the settings that rl_zoo3 2.9 has tuned for ``CartPoleNoVel-v1`` (its own benchmark reports 500); a third entrant
has our core begin with torch's initial values (uniform) instead of its own (orthogonal, biases 0). ``memory-s7``:
MiniGrid-MemoryS7-v0 on EnvPool; FastRecurrentPPO with ``hope``, ``lstm`` and ``gru``, one setting for all, tuned for
none of them (the rate is the one at which an LSTM learnt this maze in another trainer, docs/lab_notes.md).
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
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize
from torch import Tensor, nn

import nl_agents.sb3
from benchmarks.sb3_curve_report import report
from benchmarks.speed import ROOT, provenance
from nl_agents import envs
from nl_agents.memory import MemoryCore, make_core
from nl_agents.sb3 import FastRecurrentPPO
from nl_agents.tasks import Cyclic, TaskSequence

RESULTS = ROOT / "benchmarks" / "results" / "sb3_curves"
ENTRANTS = {
    "cartpole-novel": ("stock-lstm", "our-lstm", "our-lstm-as-torch-begins"),
    "memory-s7": ("hope", "lstm", "gru"),
}
STEPS = {"cartpole-novel": 100_000, "memory-s7": 200_000}
STREAMS = {"cartpole-novel": 8, "memory-s7": 16}
BIN = 10_000  # env steps over which training episodes are averaged
EVALUATED = 100  # episodes after training


class WithoutVelocity(gym.ObservationWrapper[Any, Any, Any]):
    """Sets CartPole's two velocities to 0, as rl_zoo3's CartPoleNoVel-v1 does."""

    def observation(self, observation: Any) -> Any:
        """Keeps position and angle."""
        return observation * np.array([1, 0, 1, 0], np.float32)


class CellExtractor(BaseFeaturesExtractor):
    """MiniGrid's view, laid flat by ``to_sb3``: a learnt vector of 8 for each code of each cell, then one layer."""

    def __init__(self, observation_space: gym.Space[Any], features_dim: int = 128) -> None:
        super().__init__(observation_space, features_dim)
        self.codes = nn.ModuleList([nn.Embedding(size, 8) for size in (11, 6, 4)])  # thing, colour, state
        self.mix = nn.Linear(49 * 8 + 4, features_dim)

    def forward(self, observations: Tensor) -> Tensor:
        """[N, 4 + 147] -> [N, features_dim]; the direction's four places come first (Dict entries by name)."""
        cells = observations[:, 4:].long().view(-1, 49, 3)
        seen = sum(code(cells[..., place]) for place, code in enumerate(self.codes))
        joined = torch.cat((observations[:, :4], seen.flatten(1)), dim=1)  # type: ignore[union-attr]
        return torch.tanh(self.mix(joined))


class Episodes(BaseCallback):
    """Keeps (env steps, return) of every episode that ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.ended.append((self.num_timesteps, float(info["episode"]["r"])))
        return True


def make_env(task: str, seed: int) -> VecEnv:
    """The streams of a run, without normalisation."""
    if task == "cartpole-novel":
        streams = DummyVecEnv([lambda: WithoutVelocity(gym.make("CartPole-v1"))] * STREAMS[task])
        streams.seed(seed)
        return VecMonitor(streams)
    from nl_agents.envs.minigrid_view import ACTION_SPACE, OBSERVATION_SPACE
    from nl_agents.tasks.envpool_backend import EnvPoolBackend

    pool = EnvPoolBackend(["MiniGrid-MemoryS7-v0"], STREAMS[task], OBSERVATION_SPACE, ACTION_SPACE, 245)
    sequence = TaskSequence(pool, ["MemoryS7"], Cyclic(every=10**9), seed=seed)
    return VecMonitor(envs.to_sb3(sequence, flatten=True))


def as_torch_begins(input_size: int, width: int) -> MemoryCore:
    """Our LSTM core with torch's initial values."""
    core: Any = make_core("lstm", input_size=input_size, width=width)
    core.rnn.reset_parameters()
    return core


def make_model(task: str, entrant: str, env: VecEnv, seed: int, steps: int) -> RecurrentPPO:
    """The algorithm of a run."""
    assert nl_agents.sb3
    if task == "cartpole-novel":
        shape = {"ortho_init": False, "activation_fn": nn.ReLU, "net_arch": {"pi": [64], "vf": [64]}}
        kwargs: dict[str, Any] = {**shape, "lstm_hidden_size": 64, "enable_critic_lstm": True}
        if entrant != "stock-lstm":
            kwargs["core"] = "lstm" if entrant == "our-lstm" else as_torch_begins
        return RecurrentPPO(
            "MlpLstmPolicy" if entrant == "stock-lstm" else "HopePolicy", env,
            n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0,
            learning_rate=lambda left: left * 0.001, clip_range=lambda left: left * 0.2,
            policy_kwargs=kwargs, seed=seed, device="cpu",
        )  # fmt: skip
    kwargs = {"core": entrant, "lstm_hidden_size": 128, "features_extractor_class": CellExtractor}
    return FastRecurrentPPO(
        "HopePolicy", env, n_steps=128, batch_size=512, n_epochs=4, gae_lambda=0.95, gamma=0.99, ent_coef=0.01,
        learning_rate=2e-3, policy_kwargs={**kwargs, "net_arch": []}, seed=seed, device="cpu",
    )  # fmt: skip


def curve(ended: Sequence[tuple[int, float]], steps: int) -> list[float | None]:
    """Mean return of the episodes that ended in each ``BIN`` env steps."""
    at, got = np.array(ended).reshape(-1, 2).T
    within = [got[(at > stop - BIN) & (at <= stop)] for stop in range(BIN, steps + 1, BIN)]
    return [float(part.mean()) if part.size else None for part in within]


def run(task: str, entrant: str, seed: int, steps: int) -> dict[str, Any]:
    """Learns, then judges the policy on episodes of another seed; returns the record."""
    begun = time.perf_counter()
    env = make_env(task, seed)
    normal = VecNormalize(env, gamma=0.98) if task == "cartpole-novel" else None
    model = make_model(task, entrant, env if normal is None else normal, seed, steps)
    episodes = Episodes()
    model.learn(steps, callback=episodes)
    learnt = time.perf_counter() - begun
    judge = make_env(task, 1_000 + seed)
    if normal is not None:
        judge = VecNormalize(judge, training=False, norm_reward=False)
        judge.obs_rms = normal.obs_rms
    greedy = task == "cartpole-novel"
    returns, _ = evaluate_policy(model, judge, EVALUATED, deterministic=greedy, return_episode_rewards=True)
    return {
        "task": task, "entrant": entrant, "seed": seed, "steps": steps, "bin": BIN,
        "curve": curve(episodes.ended, steps),
        "final": {"episodes": EVALUATED, "deterministic": greedy, "mean": float(np.mean(returns))},
        "train_seconds": round(learnt, 1), **provenance("cpu"),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the records that are missing, one after the other, or draws those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tuple(ENTRANTS), nargs="*", default=list(ENTRANTS), help="default: both")
    parser.add_argument("--entrants", nargs="*", help="default: all")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="of the runs")
    parser.add_argument("--steps", type=int, help="env steps of a run, for a smoke test")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    parser.add_argument("--report", action="store_true", help="make nothing, print the table and draw the figures")
    given = parser.parse_args(arguments)
    if given.report:
        print(report(given.results, ROOT / "docs" / "figures"))
        return
    torch.set_num_threads(1)
    for seed in given.seeds:
        for task in given.task:
            for entrant in [one for one in ENTRANTS[task] if given.entrants is None or one in given.entrants]:
                path = given.results / task / f"{entrant}-{seed}.json"
                if path.exists():
                    continue
                record = run(task, entrant, seed, given.steps or STEPS[task])
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_suffix(".part")
                part.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
                part.replace(path)
                print(f"{task} {entrant} seed {seed}: {record['final']['mean']:.2f}, {record['train_seconds']} s")


if __name__ == "__main__":
    main()
