"""The lifelong return of anything that acts: a rule, a Stable-Baselines3 model that learns, an agent of ours.

    python examples/04_evaluate_any_agent.py

A few thousand steps show how it is called, not who is better.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO

from nl_agents import agents, envs
from nl_agents.evaluation import Lifetime, compare, lifelong_metrics, run_lifetime
from nl_agents.tasks import Cyclic


def lean(observation: NDArray[Any]) -> NDArray[Any]:
    """A fixed rule: push to where the pole leans. Right in one task, wrong in the other."""
    return np.asarray(observation[:, 2] > 0, np.int64)


def main(steps: int = 12_000) -> dict[str, Lifetime]:
    """Lives three lives on one schedule and prints their figures."""

    def life_of_tasks() -> Any:
        return envs.make_sequence("cartpole-flip", num_envs=4, seed=0, schedule=Cyclic(every=4_000))

    reference = {"standard": {"random": 22.0, "expert": 500.0}, "flipped": {"random": 43.0, "expert": 500.0}}
    model = PPO("MlpPolicy", envs.to_sb3(life_of_tasks()), n_steps=64, device="cpu", seed=0)
    config = agents.config("rl2")
    config.memory.width, config.ppo.num_steps = 32, 64
    agent = agents.make("rl2", life_of_tasks(), seed=0, device="cpu", config=config)
    lives = {
        "rule": run_lifetime(lean, life_of_tasks(), steps, learn=False),  # parameters fixed (it has none)
        "sb3 ppo": run_lifetime(model, life_of_tasks(), steps),  # its own learn() runs the life
        "rl2": run_lifetime(agent, agent.env, steps),  # ours live on the sequence they were made with
    }
    for name, life in lives.items():
        figures = lifelong_metrics(life, reference)
        print(f"{name:8} normalised lifelong return {figures['normalised_return']:.3f}, {len(life)} episodes")
    rows = compare({name: [life] for name, life in lives.items()}, reference=reference)
    print("best first:", ", ".join(row["agent"] for row in rows))
    return lives


if __name__ == "__main__":
    main()
