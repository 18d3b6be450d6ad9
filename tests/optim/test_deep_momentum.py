"""DeepMomentum as an optimizer: AdamW bit for bit without memory, the slow judge with it, and torch's own manners."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils._python_dispatch import TorchDispatchMode

from nl_agents.optim import DeepMomentum, MemoryOptions
from nl_agents.optim.reference import ReferenceDeepMomentum
from tests.optim.gradients import equal, give_grads, make_params

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


def test_a_closed_gate_is_adamw_to_rounding() -> None:
    ours, theirs = make_params(dtype=torch.float64), make_params(dtype=torch.float64)
    mine = DeepMomentum(ours, lr=1e-2, weight_decay=0.1, options=MemoryOptions(gate=1e-12))
    torchs = AdamW(theirs, lr=1e-2, weight_decay=0.1, foreach=True)
    for step in range(60):
        give_grads(ours, step)
        give_grads(theirs, step)
        mine.step()
        torchs.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


# --------------------------------------------------------------------- refusal


@pytest.mark.parametrize("memory", ["off", "linear"])
@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(memory: Any, flag: bool, poison: float) -> None:
    params = make_params()
    optimizer = DeepMomentum(params, lr=1e-2, weight_decay=0.1, memory=memory, periods=(1, 2, 3))
    optimizer._always_flag = flag
    for step in range(14):
        give_grads(params, step)
        optimizer.step()
    before = copy.deepcopy(optimizer.state_dict()["state"])
    kept = [param.detach().clone() for param in params]
    for count in range(1, 7):
        give_grads(params, 20 + count)
        params[2].grad[17, 1] = poison
        optimizer.step()
        assert int(optimizer.refused_steps) == count
    assert all(torch.equal(param, old) for param, old in zip(params, kept, strict=True))
    after = optimizer.state_dict()["state"]
    for index, state in before.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                assert torch.equal(after[index][key], value), key
    give_grads(params, 99)
    optimizer.step()
    assert all(torch.isfinite(param).all() for param in params)
    assert not torch.equal(params[0], kept[0])


def test_masked_adamw_agrees_with_adamw() -> None:
    ours, theirs = make_params(), make_params()
    mine, torchs = DeepMomentum(ours, lr=1e-2, memory="off", weight_decay=0.1), AdamW(theirs, lr=1e-2, weight_decay=0.1)
    mine._always_flag = True
    for step in range(30):
        give_grads(ours, step)
        give_grads(theirs, step)
        mine.step()
        torchs.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)  # its clocks are float32


class HostReads(TorchDispatchMode):
    """Counts the calls by which the host reads a device figure."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "_local_scalar_dense" in str(func) or "nonzero" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("memory", ["off", "linear"])
def test_on_the_device_road_the_host_reads_nothing(memory: Any) -> None:
    params = make_params()
    optimizer = DeepMomentum(params, memory=memory, weight_decay=0.1, periods=(1, 2, 3))
    optimizer._always_flag = True
    for step in range(3):
        give_grads(params, step)
        optimizer.step()
    with HostReads() as reads:
        for step in range(3, 24):
            give_grads(params, step)
            optimizer.step()
            optimizer.statistics()
    assert reads.count == 0


# ---------------------------------------------------------------- slow levels


def test_a_parameter_without_gradient_is_left_alone_and_keeps_its_clock() -> None:
    """A level of period 4 inside one group: as an optimizer of its own that steps every fourth time."""
    together, alone = make_params(dtype=torch.float64), make_params(dtype=torch.float64)
    one = DeepMomentum(together, lr=1e-2, periods=(1, 2, 3))
    fast, slow = (
        DeepMomentum(alone[:3], lr=1e-2, periods=(1, 2, 3)),
        DeepMomentum(alone[3:], lr=1e-2, periods=(1, 2, 3)),
    )
    for step in range(48):
        for params in (together, alone):
            give_grads(params, step)
            if step % 4 != 3:
                for param in params[3:]:
                    param.grad = None
        one.step()
        fast.step()
        if step % 4 == 3:
            slow.step()
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert [int(one.state[param]["step"]) for param in together] == [48, 48, 48, 12, 12, 12]


def test_only_fresh_minibatches_teach_unless_the_group_says_otherwise() -> None:
    params = make_params()
    groups = [{"params": params[:3]}, {"params": params[3:], "fresh_only": False}]
    optimizer = DeepMomentum(groups, options=MemoryOptions(learn_period=1))
    for step in range(20):
        optimizer.observe_fresh = step % 4 == 0
        give_grads(params, step)
        optimizer.step()
    optimizer.state_dict()
    assert [optimizer.state[param]["lessons"] for param in params] == [5, 5, 5, 20, 20, 20]
    optimizer.step(learn_memory=True)
    optimizer.state_dict()
    assert optimizer.state[params[0]]["lessons"] == 6


def test_the_memory_speaks_before_it_hears() -> None:
    """Causality: the odds after a lesson depend on weights from before it, so a first lesson cannot move them."""
    params = make_params()
    optimizer = DeepMomentum(params, options=MemoryOptions(learn_period=1))
    for step in range(2):
        give_grads(params, step)
        optimizer.step()
        # until a lesson has been solved the proposal is the anchor, so that no evidence can favour it
        assert all(abs(float(optimizer.state[param]["odds"])) < 1e-5 for param in params)
    give_grads(params, 2)
    optimizer.step()
    assert any(float(optimizer.state[param]["weights"][0]) != 1 for param in params)


# ----------------------------------------------------------------- bad options


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lr": -1.0}, "lr must be >= 0, got -1"),
        ({"betas": (0.9, 1.0)}, r"betas must lie in \[0, 1\)"),
        ({"eps": 0.0}, "eps must be above 0 with memory='linear'"),
        ({"weight_decay": -0.1}, "eps and weight_decay must be >= 0"),
        ({"memory": "mlp"}, "memory must be 'linear' or 'off', got 'mlp'"),
        ({"periods": (2, 10)}, "integers that ascend from 1"),
        ({"periods": (1, 10, 10)}, "integers that ascend from 1"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DeepMomentum(make_params(), **options)


def test_half_precision_needs_memory_off() -> None:
    params = make_params(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"needs float32 or float64 parameters, got torch\.bfloat16"):
        DeepMomentum(params)
    optimizer = DeepMomentum(params, memory="off")
    give_grads(params, 0)
    optimizer.step()


def test_sparse_gradients_are_refused() -> None:
    param = nn.Parameter(torch.ones(3, 2))
    param.grad = torch.ones(3, 2).to_sparse()
    with pytest.raises(ValueError, match="expected dense gradients, got a sparse one"):
        DeepMomentum([param]).step()


def test_statistics_name_what_is_logged() -> None:
    params = make_params()
    optimizer = DeepMomentum(params, lr=1e-2)
    assert optimizer.statistics() == {}
    for step in range(60):
        give_grads(params, step)
        optimizer.step()
    figures = {name: float(value) for name, value in optimizer.statistics().items()}
    assert set(figures) == {
        "gate", "cosine_to_anchor", "relative_length", "error_memory", "error_momentum", "refused_steps",
    }  # fmt: skip
    assert 0 < figures["gate"] < 1 and 0.7 < figures["cosine_to_anchor"] <= 1.0001
    assert 0.5 <= figures["relative_length"] <= 1.6 and 0 < figures["error_memory"] < figures["error_momentum"] * 1.2
    assert DeepMomentum(make_params(), memory="off").statistics() == {}


# ------------------------------------------------------------------------ CUDA


@pytest.mark.gpu
@pytest.mark.parametrize("memory", ["off", "linear"])
def test_on_cuda_it_steps_without_waiting_and_refuses_what_is_not_finite(memory: Any) -> None:
    device, host = make_params(device="cuda"), make_params()
    options: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1, "memory": memory}
    there, here = DeepMomentum(device, **options), DeepMomentum(host, **options)
    capturable = AdamW(make_params(device="cuda"), lr=1e-2, weight_decay=0.1, foreach=True, capturable=True)
    twins = capturable.param_groups[0]["params"]
    for step in range(40):
        for params in (device, host, twins):
            give_grads(params, step)
        torch.cuda.set_sync_debug_mode("error" if step > 0 else "default")  # buckets are founded at the first step
        there.step()
        torch.cuda.set_sync_debug_mode("default")
        here.step()
        capturable.step()
    for one, other in zip(device, host, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-3, atol=1e-4)
    if memory == "off":
        assert equal(device, twins)
    device[0].grad.fill_(float("nan"))
    kept = [param.detach().clone() for param in device]
    there.step()
    assert int(there.refused_steps) == 1 and equal(device, kept)  # type: ignore[arg-type]
