"""Ad-hoc level stacking: a trained Stable-Baselines3 policy whose blocks become memory levels of different periods.

    python examples/05_stack_levels.py

PPO learns CartPole, then pole and cart change. The same policy goes on plainly, with levels of rate 0 (the same to the
last bit), and with levels that write beside PPO's own optimizer. So short a run shows the calls, not what is better.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from nl_agents.learning import stack_levels
from nl_agents.types import format_levels

PERIODS: dict[Any, int] = {"mlp_extractor.policy_net": 4, "mlp_extractor.value_net": 1, "action_net": 16}


def shifted() -> gym.Env[Any, Any]:
    """CartPole with a pole of three times the length on a cart of twice the mass."""
    env = gym.make("CartPole-v1")
    env.unwrapped.length, env.unwrapped.masscart = 1.5, 2.0
    env.unwrapped.total_mass, env.unwrapped.polemass_length = 2.1, 0.15
    return env


def go_on(weights: dict[str, Any], steps: int, rate: float | None) -> tuple[PPO, float]:
    """Takes up the trained weights on the shifted task; returns the model and its return after ``steps`` env steps."""
    model = PPO("MlpPolicy", make_vec_env(shifted, 4, seed=1), n_steps=64, batch_size=64, seed=1, device="cpu")
    model.set_parameters(deepcopy(weights))  # torch's optimizers would go on writing into the given moments
    if rate is not None:
        adam = partial(torch.optim.Adam, eps=1e-5)
        levels = stack_levels(model.policy, PERIODS, rate=rate, optimizer=adam).attach(model.policy.optimizer)
        print(format_levels(levels.levels()) if rate else "rate 0 ...")
    model.learn(steps)
    if rate is not None:
        levels.remove()  # the plain policy again, with what it learnt
    return model, float(evaluate_policy(model, make_vec_env(shifted, 1, seed=2), 10)[0])  # type: ignore[arg-type]


def main(steps: int = 8_000, rate: float = 3e-4) -> dict[str, tuple[PPO, float]]:
    """Returns, for each way to go on, the model and its mean return over 10 episodes of the shifted task."""
    trained = PPO("MlpPolicy", make_vec_env("CartPole-v1", 4, seed=0), n_steps=64, batch_size=64, seed=0, device="cpu")
    weights = trained.learn(steps).get_parameters()
    lives = {name: go_on(weights, steps, own) for name, own in (("plain", None), ("rate 0", 0.0), ("levels", rate))}
    for name, (_, score) in lives.items():
        print(f"{name:8} return on the shifted task {score:.0f}")
    return lives


if __name__ == "__main__":
    main()
