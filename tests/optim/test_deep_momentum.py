"""DeepMomentum as an optimizer: AdamW bit for bit without memory, the slow judge with it, and torch's own manners."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from nl_agents.optim import DeepMomentum, MemoryOptions
from nl_agents.optim.reference import ReferenceDeepMomentum

SHAPES = [(7, 5), (7,), (300, 3), (), (2, 3, 4), (257,)]


def make_params(seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [nn.Parameter(tensor.to(device, dtype)) for tensor in tensors]


def give_grads(params: list[nn.Parameter], step: int, absent: bool = False) -> None:
    """Sets reproducible gradients with a drifting mean; with ``absent`` some are None at some steps."""
    generator = torch.Generator().manual_seed(1000 + step)
    for index, param in enumerate(params):
        noise = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        trend = torch.sin(torch.arange(param.numel(), dtype=torch.float64) + step / 30).view(param.shape)
        missing = absent and (index + step) % 3 == 0
        param.grad = None if missing else (0.3 * noise + trend).to(param)


def equal(ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# ------------------------------------------------------------------ memory off


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_without_memory_it_is_adamw_bit_for_bit(weight_decay: float, absent: bool) -> None:
    ours, theirs = make_params(), make_params()
    groups = [slice(0, 3), slice(3, None)]
    mine = DeepMomentum(
        [{"params": ours[groups[0]], "lr": 1e-2}, {"params": ours[groups[1]], "betas": (0.8, 0.95)}],
        weight_decay=weight_decay,
        memory="off",
    )
    torchs = AdamW(
        [{"params": theirs[groups[0]], "lr": 1e-2}, {"params": theirs[groups[1]], "betas": (0.8, 0.95)}],
        lr=3e-4,
        weight_decay=weight_decay,
        foreach=True,
    )
    schedules = [torch.optim.lr_scheduler.StepLR(o, step_size=7, gamma=0.5) for o in (mine, torchs)]
    for step in range(40):
        give_grads(ours, step, absent)
        give_grads(theirs, step, absent)
        mine.step()
        torchs.step()
        for schedule in schedules:
            schedule.step()
        assert equal(ours, theirs), f"differs at step {step}"


def test_without_memory_states_are_exchangeable_with_adamw() -> None:
    ours, theirs = make_params(), make_params()
    mine, torchs = DeepMomentum(ours, memory="off"), AdamW(theirs, lr=3e-4, weight_decay=0.0, foreach=True)
    for step in range(5):
        give_grads(theirs, step)
        torchs.step()
    with torch.no_grad():
        torch._foreach_copy_(ours, theirs)
    mine.load_state_dict(torchs.state_dict())
    assert mine.param_groups[0]["memory"] == "off"
    for step in range(5, 10):
        give_grads(ours, step)
        give_grads(theirs, step)
        mine.step()
        torchs.step()
    assert equal(ours, theirs)


# ------------------------------------------------------------ against the judge


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("flag", [False, True])
def test_fast_equals_the_slow_judge(weight_decay: float, absent: bool, flag: bool) -> None:
    options = MemoryOptions(learn_period=2, gate=0.4, slow_decay=0.8)
    fast, slow = make_params(dtype=torch.float64), [p.detach() for p in make_params(dtype=torch.float64)]
    settings: dict[str, Any] = {"lr": 1e-2, "weight_decay": weight_decay, "periods": (1, 3, 12), "options": options}
    optimizer, judge = DeepMomentum(fast, **settings), ReferenceDeepMomentum(slow, **settings)
    optimizer._always_flag = flag
    for step in range(120):
        give_grads(fast, step, absent)
        if step == 50 and not flag:  # by flag a refusal shifts the periods, which the host counts
            fast[0].grad = torch.full_like(fast[0], float("nan"))
        judge.step([p.grad for p in fast], learn=step % 5 != 0)
        optimizer.step(learn_memory=step % 5 != 0)
        for ours, theirs in zip(fast, slow, strict=True):
            torch.testing.assert_close(ours.detach(), theirs, rtol=1e-9, atol=1e-10)
    assert int(optimizer.refused_steps) == judge.refused == (0 if flag else 1)
    weights = torch.stack([optimizer.state[p]["weights"] for p in fast])
    assert (weights - torch.tensor([1.0, 0, 0])).abs().max() > 0.1, "the memory must have learned for this to say much"
