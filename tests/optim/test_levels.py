"""What optimizers remember, as rows of a nest."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from nl_agents.optim import DeepMomentum, GuardedAdamW, MemoryOptions, delta_gradient_level, optimizer_levels


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4))]


@pytest.mark.parametrize("kind", [Adam, AdamW, GuardedAdamW])
def test_adam_is_two_memories_of_gradients(kind: type[Adam]) -> None:
    optimizer = kind(parameters(), lr=1e-3, betas=(0.95, 0.99))
    momentum, scale = optimizer_levels(optimizer)
    assert (momentum.name, scale.name) == ("optimizer.0.momentum.1", "optimizer.0.scale")
    assert momentum.stores == "mean of about 20 gradients, 10 floats and 2 clocks"
    assert scale.stores == "mean of about 100 squares, 10 floats"
    assert all((row.period, row.unit, row.scope) == (1, "learner update", "life") for row in (momentum, scale))


def test_deep_momentum_is_a_nest_of_its_own_fastest_first() -> None:
    groups = [{"params": parameters(), "name": "fast"}, {"params": parameters(), "name": "slow", "fresh_only": False}]
    optimizer = DeepMomentum(groups, periods=(1, 5, 50), options=MemoryOptions(learn_period=3))
    rows = optimizer.levels()
    parts = ["momentum.1", "scale", "memory", "gate", "momentum.5", "momentum.50"]
    assert [row.name for row in rows] == [f"optimizer.{name}.{part}" for name in ("fast", "slow") for part in parts]
    assert [row.period for row in rows[:6]] == [1, 1, 3, 3, 5, 50]
    assert rows[2].context.startswith("first-epoch gradients") and rows[8].context.startswith("gradients of its")
    assert "next gradient" in rows[2].objective and "30 floats" in rows[2].stores


def test_rows_hold_what_the_state_holds() -> None:
    own = parameters()
    optimizer = DeepMomentum(own)
    for parameter in own:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    sizes = {key: value.numel() for key, value in optimizer.state[own[0]].items() if isinstance(value, torch.Tensor)}
    assert sizes == {"step": 1, "exp_avg": 6, "exp_avg_sq": 6, "slow": 12, "gram": 9, "cross": 3, "weights": 3,
                     "odds": 1, "graft": 1, "errors": 2}  # fmt: skip


def test_with_the_memory_off_it_is_adamw() -> None:
    names = [row.name for row in DeepMomentum(parameters(), memory="off").levels()]
    assert (
        names
        == ["optimizer.0.momentum.1", "optimizer.0.scale"]
        == [row.name for row in GuardedAdamW(parameters()).levels()]
    )


def test_a_matrix_under_delta_gradient_descent_is_a_level() -> None:
    row = delta_gradient_level("layer", torch.zeros(5, 3))
    assert (row.name, row.stores, row.period) == ("layer", "5 x 3 matrix, 15 weights", 1)
    assert "Eq. 54" in row.objective


def test_an_unknown_optimizer_is_told() -> None:
    with pytest.raises(TypeError, match=r"expected AdamW or an optimizer of .*, got SGD: give it a method"):
        optimizer_levels(SGD(parameters(), lr=0.1))
