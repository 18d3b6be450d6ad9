"""Memory for PPO, DQN and SAC: a core reads the last 16 steps.

    python examples/07_sb3_window.py

A few hundred steps show how it is called, not who is better.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3 import DQN, PPO, SAC

from nl_agents.optim import DeepMomentum
from nl_agents.sb3 import HopeWindowExtractor, history_env


def main(steps: int = 600) -> list[Any]:
    """Learns with three algorithms that have no memory of their own."""

    def window(**options: Any) -> dict[str, Any]:
        return {"features_extractor_class": HopeWindowExtractor, **options}

    small = {"features_extractor_kwargs": {"core": "gru", "features_dim": 32}}
    ppo = PPO("MlpPolicy", history_env("CartPole-v1", 16), policy_kwargs=window(), n_steps=256, device="cpu")
    dqn = DQN("MlpPolicy", history_env("CartPole-v1", 16), policy_kwargs=window(**small), device="cpu")
    sac = SAC("MlpPolicy", history_env("Pendulum-v1", 8), policy_kwargs=window(**small), device="cpu")
    deep = PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"optimizer_class": DeepMomentum}, n_steps=256, device="cpu")
    models: list[Any] = [ppo, dqn, sac, deep]
    for model in models:
        model.learn(steps)
        print(type(model).__name__, type(model.policy.optimizer if model is deep else model.policy).__name__)
    return models


if __name__ == "__main__":
    main()
