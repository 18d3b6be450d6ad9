"""The sizes that every contestant of the speed benchmark shares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """One row of the benchmark.

    Attributes:
        num_envs: streams B.
        num_steps: rollout length T, env steps a stream; also the length of back-propagation through time.
        width: units of the encoder and of the memory.
        num_epochs: passes over a rollout.
        num_minibatches: minibatches a pass: of whole streams where there is a memory, of transitions where not.
        learning_rate: of (Fused) Adam(W); measured speeds depend on it only through how long episodes become.
        gamma: discount.
        gae_lambda: decay of the advantage estimate.
        clip: PPO's ratio bound.
        entropy_weight: weight of the entropy bonus.
        value_weight: weight of the value loss.
        max_grad_norm: global bound of the gradient norm.
        seed: of nets, actions and environment.
        device: "cpu" or "cuda".
    """

    num_envs: int = 16
    num_steps: int = 128
    width: int = 128
    num_epochs: int = 4
    num_minibatches: int = 4
    learning_rate: float = 1e-3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_weight: float = 0.01
    value_weight: float = 0.5
    max_grad_norm: float = 0.5
    seed: int = 0
    device: str = "cpu"
