"""Upkeep in Stable-Baselines3's PPO, by hooks on its optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3 import DQN, PPO

from nl_agents.errors import ConfigError
from nl_agents.optim import ElementAdamW, TracAdamW
from nl_agents.sb3.upkeep import UpkeepCallback, policy_units
from nl_agents.upkeep import ContinualBackprop, InitialPull, ReDo, ShrinkPerturb, attach

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "device": "cpu", "seed": 0}


def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_every_kind_runs_in_ppo() -> None:
    options = {"optimizer_class": ElementAdamW, "net_arch": [8, 8], "activation_fn": torch.nn.ReLU}
    model = PPO("MlpPolicy", "CartPole-v1", policy_kwargs=options, **SMALL)

    def parts(model: Any) -> list[Any]:
        units, optimizer = policy_units(model.policy), model.policy.optimizer
        assert [layer.size for layer in units] == [8, 8, 8, 8]
        return [
            InitialPull(model.policy.parameters(), 1e-3),
            ShrinkPerturb(model.policy.parameters(), 1e-4, 1e-4, chance()),
            ReDo(units, optimizer, 4, 0.5, chance()),
            ContinualBackprop(units, optimizer, 0.05, 2, 0.9, chance()),
        ]

    callback = UpkeepCallback(parts)
    model.learn(256, callback=callback)
    assert callback.parts is not None
    recycled, replaced = (part.metrics()["recycled_units"] for part in callback.parts[2:])
    assert recycled > 0 and replaced > 0
    assert all(bool(p.isfinite().all()) for p in model.policy.parameters())
    model.learn(64, callback=callback, reset_num_timesteps=False)
    assert not model.policy.optimizer._optimizer_step_post_hooks, "taken off when learning ends"


def test_the_hook_adds_the_penaltys_gradient() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    part = InitialPull([weight], 0.5)
    with torch.no_grad():
        weight += 2.0
    optimizer = torch.optim.SGD([weight], lr=0.1)
    detach = attach(optimizer, [part])
    weight.grad = torch.tensor([1.0])
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(3.0 - 0.1 * (1.0 + 0.5 * 2 * 2.0))
    detach()
    weight.grad = torch.tensor([0.0])
    before = float(weight.detach())
    optimizer.step()
    assert float(weight.detach()) == before


def test_trac_is_an_optimizer_class() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"optimizer_class": TracAdamW}, **SMALL).learn(256)
    assert float(model.policy.optimizer.scale) > 0.0


def test_policies_without_those_layers_are_told() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", device="cpu", learning_starts=1)
    with pytest.raises(ConfigError, match=r"has no mlp_extractor; build the layers with nl_agents\.upkeep\.chain"):
        policy_units(model.policy)
