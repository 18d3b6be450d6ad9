"""Blocks of a trained model as CMS levels: rate 0 changes nothing, periods hold, the plain model comes back."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.learning import StackedLevels, stack_levels

PERIODS: dict[Any, int] = {"body": 1, "heads.policy": 3, "heads.value": 4}


class Pretrained(nn.Module):
    """A body and two heads, as policies have them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
        self.heads = nn.ModuleDict({"policy": nn.Linear(8, 2), "value": nn.Linear(8, 1)})
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        return torch.cat((self.scale * self.heads["policy"](hidden), self.heads["value"](hidden)), -1)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    yield


def loss_of(model: nn.Module, update: int) -> Tensor:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(update))
    out: Tensor = model(x)
    return (out - x).square().mean()


def train(
    model: nn.Module, host: torch.optim.Optimizer | None, updates: int, levels: StackedLevels | None = None
) -> None:
    for update in range(updates):
        model.zero_grad()
        loss_of(model, update).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        if levels is not None:
            levels.update()
        if host is not None:
            host.step()


def weights(model: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in model.state_dict().values()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


OPTIMIZERS = [
    torch.optim.SGD,
    functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=0.1),
    torch.optim.Adam,
    functools.partial(torch.optim.AdamW, weight_decay=0.1),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("host", [torch.optim.Adam, functools.partial(torch.optim.SGD, momentum=0.9)])
def test_rate_zero_is_the_original_training_bit_for_bit(optimizer: Any, host: Any) -> None:
    plain = Pretrained()
    stacked = copy.deepcopy(plain)
    levels = stack_levels(stacked, PERIODS, rate=0.0, optimizer=optimizer)
    x = torch.randn(5, 3)
    assert torch.equal(plain(x), stacked(x))
    one, other = host(plain.parameters(), lr=0.01), host(stacked.parameters(), lr=0.01)
    levels.attach(other)
    train(plain, one, 24)
    train(stacked, other, 24)
    assert equal(weights(plain), weights(stacked))
    assert torch.equal(plain(x), stacked(x))
    gradients = zip(plain.parameters(), stacked.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in gradients)  # type: ignore[arg-type]
    assert repr(one.state_dict()) == repr(other.state_dict())


def test_rate_zero_and_a_host_that_holds_keeps_the_blocks_and_trains_the_rest() -> None:
    frozen, stacked = Pretrained(), Pretrained()
    stacked.load_state_dict(frozen.state_dict())
    before = weights(stacked.body)
    levels = stack_levels(stacked, {"body": 2}, rate=0.0, host="holds")
    frozen.body.requires_grad_(False)
    for model, own in ((frozen, None), (stacked, levels)):
        host = torch.optim.Adam(model.parameters(), lr=0.01)
        for update in range(10):  # without a common clip of the norm, in which held gradients would count
            model.zero_grad()
            loss_of(model, update).backward()
            if own is not None:
                own.update()
            host.step()
    assert equal(weights(stacked.body), before)
    assert equal(weights(stacked), weights(frozen))


def test_period_one_with_the_hosts_own_optimizer_is_ordinary_training() -> None:
    plain, stacked = Pretrained(), Pretrained()
    stacked.load_state_dict(plain.state_dict())
    train(plain, torch.optim.SGD(plain.parameters(), lr=0.1), 10)
    levels = stack_levels(stacked, {"body": 1, "heads.policy": 1}, rate=0.1, host="holds")
    train(stacked, torch.optim.SGD(stacked.parameters(), lr=0.1), 10, levels)
    assert equal(weights(plain), weights(stacked))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_level_moves_at_its_boundaries_only_by_the_sum_of_its_gradients(reduction: Any) -> None:
    """Eq. 71 with C terms, at t = C, 2 C, ... and never between; not at the first update."""
    model = Pretrained()
    levels = stack_levels(model, PERIODS, rate=0.05, host="holds", reduction=reduction)
    host = torch.optim.SGD([model.scale], lr=0.0)
    blocks = {name: dict(model.named_modules())[name] for name in PERIODS}
    summed = {name: [torch.zeros_like(weight) for weight in block.parameters()] for name, block in blocks.items()}
    for update in range(1, 13):
        before = {name: weights(block) for name, block in blocks.items()}
        model.zero_grad()
        loss_of(model, update).backward()
        for name, block in blocks.items():
            summed[name] = [a + b.grad for a, b in zip(summed[name], block.parameters(), strict=True)]  # type: ignore[operator]
        levels.update()
        host.step()
        for name, block in blocks.items():
            if update % PERIODS[name]:
                assert equal(weights(block), before[name])
                continue
            share = 0.05 / PERIODS[name] if reduction == "mean" else 0.05
            for old, new, total in zip(before[name], weights(block), summed[name], strict=True):
                assert not torch.equal(old, new)
                torch.testing.assert_close(new, old - share * total)
            summed[name] = [torch.zeros_like(total) for total in summed[name]]


def test_a_host_that_holds_sees_no_gradient_of_a_level() -> None:
    model = Pretrained()
    levels = stack_levels(model, {"body": 2}, rate=0.1, host="holds")
    loss_of(model, 0).backward()
    levels.update()
    assert all(weight.grad is None for weight in model.body.parameters())
    assert all(weight.grad is not None for weight in model.heads.parameters())


def test_levels_write_beside_a_host_that_trains() -> None:
    plain, stacked = Pretrained(), Pretrained()
    stacked.load_state_dict(plain.state_dict())
    levels = stack_levels(stacked, {"heads.policy": 2}, rate=0.1)
    hosts = [torch.optim.SGD(model.parameters(), lr=0.01) for model in (plain, stacked)]
    train(plain, hosts[0], 1)
    train(stacked, hosts[1], 1, levels)
    assert equal(weights(plain), weights(stacked)), "before the first boundary they are one"
    train(stacked, hosts[1], 1, levels)
    assert levels.distance()["heads.policy"] > 0.0


def test_functions_choose_blocks() -> None:
    model = Pretrained()
    levels = stack_levels(
        model, {lambda name, block: isinstance(block, nn.Linear) and block.out_features < 8: 5}, rate=0.1
    )
    assert levels.scheduler.periods() == {"heads.policy": 5, "heads.value": 5}
    assert [(row.name, row.stores, row.period, row.unit, row.scope) for row in levels.levels()] == [
        ("heads.policy", "18 weights", 5, "learner update", "life"),
        ("heads.value", "9 weights", 5, "learner update", "life"),
    ]


def test_the_plain_model_comes_back() -> None:
    model = Pretrained()
    before, names = weights(model), list(model.state_dict())
    host = torch.optim.SGD(model.parameters(), lr=0.0)
    levels = stack_levels(model, PERIODS, rate=0.1, host="holds").attach(host)
    train(model, host, 12)
    assert not equal(weights(model), before) and list(model.state_dict()) == names
    assert equal(weights(pickle.loads(pickle.dumps(model))), weights(model))
    assert levels.remove(keep=False) is model
    assert equal(weights(model), before)
    train(model, host, 3)
    assert equal(weights(model), before), "the hook is off"
    assert all(weight.grad is not None for weight in model.parameters())
    with pytest.raises(RuntimeError, match="were removed"):
        levels.update()


def test_what_levels_learnt_may_be_kept() -> None:
    model = Pretrained()
    levels = stack_levels(model, {"body": 2}, rate=0.1)
    train(model, None, 4, levels)
    after = weights(model)
    with pytest.raises(ConfigError, match="keep=False needs host='holds'"):
        levels.remove(keep=False)
    assert equal(weights(levels.remove()), after)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_steps_nothing(bad: float) -> None:
    model = Pretrained()
    levels = stack_levels(model, PERIODS, rate=0.1)
    before = weights(model)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, bad)
    for _ in range(12):
        levels.update()
    assert equal(weights(model), before)
    assert not model.scale.grad.isfinite().any()  # type: ignore[union-attr]


def test_a_summed_gradient_is_bounded() -> None:
    model = Pretrained()
    levels = stack_levels(model, {"body": 2}, rate=1.0, max_norm=0.25)
    for _ in range(2):
        for weight in model.parameters():
            weight.grad = torch.full_like(weight, 10.0)
        levels.update()
    assert levels.distance()["body"] == pytest.approx(0.25, abs=1e-5)


def test_saved_levels_go_on_alike() -> None:
    one = Pretrained()
    adam = torch.optim.Adam
    mine = stack_levels(one, PERIODS, rate=0.01, optimizer=adam, host="holds")
    train(one, None, 5, mine)
    other = Pretrained()
    theirs = stack_levels(other, PERIODS, rate=0.01, optimizer=adam, host="holds")
    other.load_state_dict(one.state_dict())
    theirs.load_state_dict(copy.deepcopy(mine.state_dict()))
    train(one, None, 11, mine)
    train(other, None, 11, theirs)
    assert equal(weights(one), weights(other)) and mine.distance() == theirs.distance()


NEST: dict[Any, int] = {"body": 1, "heads.policy": 2, "heads.value": 6}


def life(nested: float | None, updates: int) -> tuple[Pretrained, list[list[list[Tensor]]]]:
    """A model and, for each update, the weights of its three levels after it."""
    torch.manual_seed(4)
    model = Pretrained()
    levels = stack_levels(model, NEST, rate=0.05, host="holds", nested=nested)
    blocks = [dict(model.named_modules())[name] for name in NEST]
    states = [[weights(block) for block in blocks]]
    for update in range(updates):
        model.zero_grad()
        loss_of(model, update).backward()
        levels.update()
        states.append([weights(block) for block in blocks])
    return model, states


def test_nested_levels_go_back_to_their_start_where_the_slower_one_steps() -> None:
    """Eq. 72 with share 0: every boundary of the next slower level brings the trained weights back, none other does."""
    _, states = life(0.0, 24)
    for level, (period, outer) in enumerate(((1, 2), (2, 6))):
        for t in range(25):
            assert equal(states[t][level], states[0][level]) == (t % outer < period), (level, t)
    assert not equal(states[24][2], states[0][2]), "nobody re-initialises the slowest"


def test_nested_with_the_whole_share_is_sequential_bit_for_bit() -> None:
    one, other = life(1.0, 13)[0], life(None, 13)[0]
    assert equal(weights(one), weights(other))


def test_the_start_moves_by_its_share() -> None:
    _, free = life(None, 2)
    _, states = life(0.3, 2)
    for first, end, start in zip(free[0][0], free[2][0], states[2][0], strict=True):
        torch.testing.assert_close(start, first + 0.3 * (end - first))


def test_saved_nested_levels_go_on_alike() -> None:
    one, other = Pretrained(), Pretrained()
    mine, theirs = (stack_levels(model, NEST, rate=0.05, host="holds", nested=0.3) for model in (one, other))
    train(one, None, 5, mine)
    other.load_state_dict(one.state_dict())
    theirs.load_state_dict(copy.deepcopy(mine.state_dict()))
    train(one, None, 13, mine)
    train(other, None, 13, theirs)
    assert equal(weights(one), weights(other))


@pytest.mark.parametrize(("periods", "options", "error", "message"), [
    ({"body": 2, "heads.value": 4}, {"nested": 0.5}, ConfigError, "would undo the host's steps: add host='holds'"),
    ({"body": 2, "heads.value": 3}, {"nested": 0.5, "host": "holds"}, ConfigError,
     "3 learner updates is no multiple of 2; take for example 4"),
    ({"body": 2, "heads.value": 2}, {"nested": 0.5, "host": "holds"}, ConfigError, r"two periods or more .* got \[2\]"),
    ({"body": 2, "heads.value": 4}, {"nested": 1.5, "host": "holds"}, ConfigError, "share between 0 and 1, got 1.5"),
    ({"boddy": 1}, {}, UnknownNameError, "unknown block 'boddy': did you mean 'body'"),
    ({"body.1": 1}, {}, ConfigError, "'body.1' has no trainable weights"),
    ({"body": 1, "body.0": 2}, {}, ConfigError, "'body.0' and 'body' share weights"),
    ({"body": 0}, {}, ValueError, r"period of 'body' must be an integer >= 1 \(learner updates\), got 0"),
    ({"body": 1.5}, {}, ValueError, "period of 'body' must be an integer"),
    ({}, {}, ConfigError, "no block was named"),
    ({lambda name, block: False: 1}, {}, ConfigError, "chose none of the model's"),
    ({"body": 1}, {"rate": -1.0}, ConfigError, "rate must be >= 0, got -1.0"),
    ({"body": 1}, {"max_norm": 0.0}, ConfigError, "max_norm must be > 0, got 0.0; math.inf bounds nothing"),
    ({"body": 1}, {"max_norm": math.nan}, ConfigError, "max_norm must be > 0, got nan"),
    ({"body": 1}, {"host": "sleeps"}, ConfigError, "host must be 'trains' or 'holds'"),
    ({"body": 1}, {"reduction": "max"}, ConfigError, "reduction must be 'sum' or 'mean'"),
])  # fmt: skip
def test_bad_options_say_what_was_expected(periods: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        stack_levels(Pretrained(), periods, **{"rate": 0.1, **options})


def test_a_closure_is_refused_before_anything_moves() -> None:
    model = Pretrained()
    host = torch.optim.SGD(model.parameters(), 0.1)
    stack_levels(model, PERIODS, rate=0.0, host="holds").attach(host)
    before = copy.deepcopy(weights(model))

    def closure() -> float:
        loss_of(model, 0).backward()
        return 0.0

    for step in (lambda: host.step(closure), lambda: host.step(closure=closure)):
        with pytest.raises(ConfigError, match=r"call loss.backward\(\) and then step\(\) without a closure"):
            step()
    assert equal(weights(model), before)
    host.step(None)


def test_levels_are_attached_once() -> None:
    model = Pretrained()
    host = torch.optim.SGD(model.parameters(), 0.1)
    levels = stack_levels(model, PERIODS, rate=0.1).attach(host)
    with pytest.raises(ConfigError, match="attached to an optimizer already, and would be stepped twice"):
        levels.attach(host)


def test_the_periods_of_nested_levels_stand() -> None:
    levels = stack_levels(Pretrained(), NEST, rate=0.1, host="holds", nested=0.5)
    with pytest.raises(ConfigError, match="the period of nested level 'body' cannot change: remove the levels"):
        levels.scheduler.set_period("body", 3)
