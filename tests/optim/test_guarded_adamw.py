"""AdamW with a guard: torch's own steps where all is finite, none where something is not."""

from __future__ import annotations

import copy

import torch

from nl_agents.optim import GuardedAdamW


def pair() -> tuple[torch.nn.Linear, torch.nn.Linear]:
    torch.manual_seed(0)
    one, other = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    other.load_state_dict(one.state_dict())
    return one, other


def test_equals_fused_adamw_bit_for_bit() -> None:
    mine, theirs = pair()
    guarded = GuardedAdamW(mine.parameters(), lr=1e-2, weight_decay=0.1)
    plain = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
    for _ in range(20):
        x = torch.randn(5, 4)
        for model, optimizer in ((mine, guarded), (theirs, plain)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    assert int(guarded.refused_steps) == 0


def test_refuses_for_all_parameters_and_counts() -> None:
    model, _ = pair()
    optimizer = GuardedAdamW(model.parameters(), lr=1e-2)
    before = [parameter.clone() for parameter in model.parameters()]
    model(torch.ones(1, 4)).sum().backward()
    assert model.bias.grad is not None
    model.bias.grad[0] = torch.inf
    optimizer.step(learn_memory=True)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert int(optimizer.statistics()["refused_steps"]) == 1 and not optimizer.state


def test_state_goes_on_in_another_object() -> None:
    one, other = pair()
    first = GuardedAdamW(one.parameters(), lr=1e-2)
    for model, optimizer in ((one, first),):
        model(torch.ones(1, 4)).square().sum().backward()
        optimizer.step()
    other.load_state_dict(one.state_dict())
    second = GuardedAdamW(other.parameters(), lr=1e-2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for model, optimizer in ((one, first), (other, second)):
        optimizer.zero_grad()
        model(torch.full((1, 4), 2.0)).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
