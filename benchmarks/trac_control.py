"""Reproduces the collapse of Adam under shifts of the observation, by the protocol of TRAC's own control experiment.

    python -m benchmarks.trac_control --optimizer adam --seeds 0 1 2

Muppidi, Zhang and Yang (2024): CartPole (or Acrobot) with episodes of at most 400 steps; a constant drawn from N(0, 2)
is added to every entry of the observation, another one after every 400 episodes, ten levels. PPO with separate actor
and critic (three layers of 128, LeakyReLU .1), two episodes an iteration, five epochs in minibatches of 32, Adam at
rate .01, rewards divided by 20, entropy .01, half the squared value error, lambda .95, gamma .99, no gradient clipping.
The first level is plain. Ours is written anew, on our physics; seeds and draws are our own.

Their logs (seed 2024) give as mean episode return over the life: CartPole 19 with Adam (level by level 109, then 9 to
the end) and 82 with TRAC; Acrobot -397 and -184. Results: ``benchmarks/results/trac-control``, a JSON a life with the
return of every episode; lives that are there are left out. ``--table`` prints them.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents import envs
from nl_agents.optim import TracAdamW

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "trac-control"
GAMMA, LAMBDA, CLIP, ENTROPY, RATE, REWARD_SCALE = 0.99, 0.95, 0.2, 0.01, 0.01, 20.0
EPOCHS, MINIBATCH, EPISODES, LEVELS = 5, 32, 2, 10


@dataclass
class Options:
    """Which lives."""

    optimizer: Literal["adam", "trac"] = "adam"
    """adam, or trac around it"""
    env: Literal["cartpole", "acrobot"] = "cartpole"
    """which problem"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of agent and sequence"""
    table: bool = False
    """print what is there, live nothing"""


def make_net(inputs: int, outputs: int) -> nn.Sequential:
    """Three hidden layers of 128 with LeakyReLU(.1), initialised as torch does."""
    sizes = (inputs, 128, 128, 128)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Linear(128, outputs))


class Episode:
    """What one episode leaves for learning."""

    def __init__(self) -> None:
        self.observations: list[Tensor] = []
        self.actions: list[int] = []
        self.log_probs: list[float] = []
        self.values: list[float] = []
        self.rewards: list[float] = []

    def targets(self, last: float) -> tuple[list[float], list[float]]:
        """Advantages (lambda .95) and discounted rewards to go, bootstrapped by ``last``."""
        advantages, togo = [], []
        gain, sum_, after = 0.0, last, last
        for reward, value in zip(reversed(self.rewards), reversed(self.values), strict=True):
            gain = reward + GAMMA * after - value + GAMMA * LAMBDA * gain
            sum_ = reward + GAMMA * sum_
            after = value
            advantages.append(gain)
            togo.append(sum_)
        return advantages[::-1], togo[::-1]


def live(options: Options, seed: int) -> list[float]:
    """Lives all ten levels; returns the return of every episode."""
    torch.manual_seed(seed)
    name = "control-obs-shift:exact" + ("-acrobot" if options.env == "acrobot" else "")
    env = envs.make_sequence(name, seed=seed)
    size, actions = env.single_observation_space.shape[0], int(env.single_action_space.n)
    actor, critic = make_net(size, actions), make_net(size, 1)
    weights = [*actor.parameters(), *critic.parameters()]
    kind: type[torch.optim.Optimizer] = torch.optim.Adam if options.optimizer == "adam" else TracAdamW
    optimizer = kind(weights, lr=RATE)  # type: ignore[call-arg]
    observation, _ = env.reset()
    returns: list[float] = []
    while not env.is_over:
        episodes = []
        for _ in range(EPISODES):
            episode, observation, last = _one_episode(env, observation, actor, critic)
            episodes.append((episode, last))
            returns.append(sum(episode.rewards) * REWARD_SCALE)
        _learn(episodes, actor, critic, optimizer)
    return returns


@torch.no_grad()
def _one_episode(env: Any, observation: Any, actor: nn.Module, critic: nn.Module) -> tuple[Episode, Any, float]:
    episode = Episode()
    while True:
        seen = torch.from_numpy(np.asarray(observation, np.float32))
        logits = actor(seen).log_softmax(-1)[0]
        action = int(torch.multinomial(logits.exp(), 1))
        episode.observations.append(seen[0])
        episode.actions.append(action)
        episode.log_probs.append(float(logits[action]))
        episode.values.append(float(critic(seen)))
        observation, reward, terminated, truncated, _ = env.step(np.array([action]))
        episode.rewards.append(float(reward[0]) / REWARD_SCALE)
        if terminated[0] or truncated[0]:
            after = torch.from_numpy(np.asarray(observation, np.float32))
            last = 0.0 if terminated[0] else float(critic(after))
            begun, *_ = env.step(np.array([0]))  # next-step autoreset: this begins the next episode
            return episode, begun, last


def _learn(
    episodes: list[tuple[Episode, float]], actor: nn.Module, critic: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Five epochs of clipped PPO; advantages normalised over the iteration."""
    parts = [episode.targets(last) for episode, last in episodes]
    observations = torch.stack([seen for episode, _ in episodes for seen in episode.observations])
    actions = torch.tensor([action for episode, _ in episodes for action in episode.actions])
    old = torch.tensor([value for episode, _ in episodes for value in episode.log_probs])
    advantages = torch.tensor([value for part in parts for value in part[0]])
    togo = torch.tensor([value for part in parts for value in part[1]])
    advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-5)
    for _ in range(EPOCHS):
        for index in torch.randperm(len(actions)).split(MINIBATCH):
            logits = actor(observations[index]).log_softmax(-1)
            ratio = (logits.gather(1, actions[index, None])[:, 0] - old[index]).exp()
            gain = torch.minimum(ratio * advantages[index], ratio.clamp(1 - CLIP, 1 + CLIP) * advantages[index]).mean()
            entropy = -(logits.exp() * logits).sum(-1).mean()
            error = F.mse_loss(critic(observations[index])[:, 0], togo[index])
            optimizer.zero_grad()
            (-gain - ENTROPY * entropy + 0.5 * error).backward()
            optimizer.step()


def level_means(returns: list[float]) -> list[float]:
    """Mean return of each of the ten levels."""
    return [float(np.mean(part)) for part in np.array_split(np.array(returns), LEVELS)]


def table() -> str:
    """A line a life: mean over the life, and level by level."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        life = json.loads(path.read_text())
        means = " ".join(f"{value:.0f}" for value in level_means(life["returns"]))
        rows.append(f"{path.stem:24} {np.mean(life['returns']):7.1f}   {means}")
    return "\n".join(rows)


def main(options: Options) -> None:
    """Lives what is missing."""
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    if options.table:
        print(table())
        return
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    for seed in options.seeds:
        kept = RESULTS / f"{options.env}-{options.optimizer}-seed{seed}.json"
        if kept.exists():
            continue
        started = time.perf_counter()
        returns = live(options, seed)
        command = (
            f"python -m benchmarks.trac_control --optimizer {options.optimizer} --env {options.env} --seeds {seed}"
        )
        record = {
            "command": command,
            "commit": commit.stdout.strip(),
            "torch": torch.__version__,
            "seconds": round(time.perf_counter() - started, 1),
            "returns": [round(value, 3) for value in returns],
        }
        kept.write_text(json.dumps(record) + "\n")
        print(kept.name, round(float(np.mean(returns)), 1), [round(v) for v in level_means(returns)], flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
