"""What outlives a step of DeepMomentum: saving, copying, joining groups, converting, switching its memory."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from nl_agents.optim import DeepMomentum, MemoryOptions
from tests.optim.gradients import equal, give_grads, make_params


def advance(optimizer: DeepMomentum, params: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        give_grads(params, step, absent=True)
        optimizer.step(learn_memory=step % 3 != 1)


def twin_of(params: list[nn.Parameter]) -> list[nn.Parameter]:
    return [nn.Parameter(param.detach().clone()) for param in params]


@pytest.mark.parametrize("memory", ["off", "linear"])
@pytest.mark.parametrize("way", ["state_dict", "torch.save", "deepcopy", "pickle"])
def test_resume_is_bit_exact(way: str, memory: Any, tmp_path: Any) -> None:
    params = make_params()
    optimizer = DeepMomentum(params, lr=1e-2, memory=memory, options=MemoryOptions(learn_period=2))
    advance(optimizer, params, range(33))
    if way in ("deepcopy", "pickle"):
        copied = copy.deepcopy(optimizer) if way == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
        others = copied.param_groups[0]["params"]
    else:
        others = twin_of(params)
        copied = DeepMomentum(others, lr=1.0, memory=memory, options=MemoryOptions(learn_period=2))
        saved = optimizer.state_dict()
        if way == "torch.save":
            torch.save(saved, tmp_path / "state.pt")
            saved = torch.load(tmp_path / "state.pt", weights_only=True)
        copied.load_state_dict(saved)
    assert equal(params, others) and params[0] is not others[0]
    advance(optimizer, params, range(33, 80))
    advance(copied, others, range(33, 80))
    assert equal(params, others)
    for param, other in zip(params, others, strict=True):
        for key, value in optimizer.state[param].items():
            same = torch.equal(copied.state[other][key], value) if isinstance(value, Tensor) else True
            assert same, key


def test_a_saved_state_is_a_snapshot_with_memory_of_its_own() -> None:
    params = make_params()
    optimizer = DeepMomentum(params, lr=1e-2)
    advance(optimizer, params, range(12))
    saved = optimizer.state_dict()
    frozen = copy.deepcopy(saved)
    advance(optimizer, params, range(12, 30))
    tensors = [value for state in saved["state"].values() for value in state.values() if isinstance(value, Tensor)]
    assert all(tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size() for tensor in tensors)
    for index, state in frozen["state"].items():
        assert all(torch.equal(saved["state"][index][k], v) for k, v in state.items() if isinstance(v, Tensor))


def test_a_group_can_join_later() -> None:
    params = make_params()
    optimizer = DeepMomentum(params[:2], lr=1e-2)
    for step in range(5):
        give_grads(params, step)
        optimizer.step()
    optimizer.add_param_group({"params": params[2:], "lr": 1e-3})
    before = [param.detach().clone() for param in params]
    for step in range(5, 10):
        give_grads(params, step)
        optimizer.step()
    assert not any(torch.equal(param, old) for param, old in zip(params, before, strict=True))
    assert [int(optimizer.state[param]["step"]) for param in params] == [10, 10, 5, 5, 5, 5]


def test_closure_and_scheduler_work_as_in_torch() -> None:
    param = nn.Parameter(torch.tensor([3.0]))
    optimizer = DeepMomentum([param], lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 9.0
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.05
    before = param.item()
    optimizer.step(closure)
    assert before - param.item() == pytest.approx(0.05, rel=0.05), "Adam's step is about the learning rate"


def test_a_running_adamw_converts_and_converts_back() -> None:
    ours, theirs = make_params(dtype=torch.float64), make_params(dtype=torch.float64)
    running, reference = (AdamW(p, lr=1e-2, weight_decay=0.1, foreach=True) for p in (ours, theirs))
    for step in range(10):
        give_grads(ours, step, absent=True)
        give_grads(theirs, step, absent=True)
        running.step()
        reference.step()
    mine = DeepMomentum(ours, lr=1.0).convert_from(running)
    assert mine.param_groups[0]["lr"] == 1e-2 and mine.param_groups[0]["weight_decay"] == 0.1
    give_grads(ours, 10)
    give_grads(theirs, 10)
    mine.step(learn_memory=False)
    reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)  # untaught, it continues AdamW's life
    back = mine.to_adamw()
    for step in range(11, 15):
        give_grads(ours, step)
        give_grads(theirs, step)
        back.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_conversion_refuses_what_it_cannot_keep() -> None:
    params = make_params()
    with pytest.raises(ValueError, match="over the same parameters in the same groups"):
        DeepMomentum(params).convert_from(AdamW(params[:2]))
    with pytest.raises(ValueError, match="amsgrad and maximize have no counterpart"):
        DeepMomentum(params).convert_from(AdamW(params, amsgrad=True))


def test_memory_switches_off_and_on_inside_a_life() -> None:
    ours, theirs = make_params(), make_params()
    mine, torchs = DeepMomentum(ours, lr=1e-2, memory="linear"), AdamW(theirs, lr=1e-2, weight_decay=0.0, foreach=True)
    for step in range(10):
        give_grads(ours, step)
        mine.step()
    with torch.no_grad():
        torch._foreach_copy_(theirs, ours)
    mine.switch_memory("off")
    for param, twin in zip(ours, theirs, strict=True):
        torchs.state[twin] = {key: value.clone() for key, value in mine.state[param].items()}
    for step in range(10, 20):
        give_grads(ours, step)
        give_grads(theirs, step)
        mine.step()
        torchs.step()
    assert equal(ours, theirs)
    mine.switch_memory("linear")
    give_grads(ours, 20)
    mine.step()
    assert int(mine.state[ours[0]]["step"]) == 21 and "weights" in mine.state[ours[0]]


def test_a_memory_is_hot_loaded_between_two_steps() -> None:
    params = make_params()
    optimizer = DeepMomentum(params, lr=1e-2)
    advance(optimizer, params, range(9))
    moments = optimizer.state[params[1]]["exp_avg"].clone()
    optimizer.load_memory({"version": 1, "prior": torch.tensor([0.5, 0.3, 0.2])})
    assert torch.equal(optimizer.state[params[1]]["exp_avg"], moments)
    assert torch.equal(optimizer.memory_state()["prior"], torch.tensor([0.5, 0.3, 0.2]))
    advance(optimizer, params, range(9, 12))
    optimizer.load_memory(optimizer.memory_state(), reset_state=True)
    give_grads(params, 0)
    optimizer.step()
    assert int(optimizer.state[params[0]]["step"]) == 1
    torch.testing.assert_close(optimizer.state[params[0]]["weights"], torch.tensor([0.5, 0.3, 0.2]))
    with pytest.raises(ValueError, match="version 1, got 7"):
        optimizer.load_memory({"version": 7})
    with pytest.raises(ValueError, match="a prior of 3 weights"):
        optimizer.load_memory({"version": 1, "prior": torch.ones(2)})


def test_a_memory_of_another_version_starts_untaught_with_a_warning() -> None:
    params = make_params()
    optimizer = DeepMomentum(params)
    advance(optimizer, params, range(9))
    saved = optimizer.state_dict()
    saved["nl_memory"]["version"] = 99
    with pytest.warns(UserWarning, match="version 1, got 99"):
        optimizer.load_state_dict(saved)
    assert set(optimizer.state[params[0]]) == {"step", "exp_avg", "exp_avg_sq"}
