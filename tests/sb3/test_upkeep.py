"""Upkeep in Stable-Baselines3's PPO, by hooks on its optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC

from nl_agents.errors import ConfigError
from nl_agents.optim import ElementAdamW, TracAdamW
from nl_agents.sb3.upkeep import UpkeepCallback, policy_units
from nl_agents.upkeep import ContinualBackprop, InitialPull, ReDo, ShrinkPerturb, Upkeep, attach

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


def test_an_interrupted_call_of_learn_leaves_no_second_hook() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", **SMALL)
    callback = UpkeepCallback(lambda model: [InitialPull(model.policy.parameters(), 1e-3)])
    train, model.train = model.train, lambda: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        model.learn(64, callback=callback)
    seen: list[int] = []
    model.train = lambda: (seen.append(len(model.policy.optimizer._optimizer_step_pre_hooks)), train())
    model.learn(64, callback=callback)
    assert seen == [1] and not model.policy.optimizer._optimizer_step_pre_hooks


def test_an_algorithm_of_several_optimizers_takes_upkeep_for_each() -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=10, batch_size=8, buffer_size=100, device="cpu", seed=0)
    counted: dict[str, int] = {"actor": 0, "critic": 0}

    class Counts(Upkeep):
        def __init__(self, name: str) -> None:
            self.name = name

        def after_step(self) -> None:
            counted[self.name] += 1

    def of(name: str) -> UpkeepCallback:
        return UpkeepCallback(lambda model: [Counts(name)], optimizer=lambda model: getattr(model, name).optimizer)

    model.learn(15, callback=[of("actor"), of("critic")])
    assert counted == {"actor": 5, "critic": 5}
    with pytest.raises(ConfigError, match=r"SACPolicy has no optimizer of its own.*optimizer=lambda model"):
        model.learn(5, callback=UpkeepCallback(lambda model: []))


def test_trac_is_an_optimizer_class() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"optimizer_class": TracAdamW}, **SMALL).learn(256)
    assert float(model.policy.optimizer.scale) > 0.0


def test_policies_without_those_layers_are_told() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", device="cpu", learning_starts=1)
    with pytest.raises(ConfigError, match=r"has no mlp_extractor; build the layers with nl_agents\.upkeep\.chain"):
        policy_units(model.policy)
