"""Advantages and V-trace against slow loops, hand-computed blocks, and the law that invalid steps are not there."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nl_agents.rl.returns import generalised_advantages, reverse_scan, vtrace

GAMMA, LAMBDA = 0.9, 0.8


def random_block(steps: int, streams: int, seed: int, invalid: bool = True) -> dict[str, Tensor]:
    """A rollout in which about a third of the steps end an episode or are invalid."""
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, streams)
    chance = torch.rand(shape, generator=generator)
    block = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name in ("rewards", "values", "behaviour_log_probs", "target_log_probs")
    }
    block["terminated"], block["truncated"] = chance < 0.1, (chance > 0.1) & (chance < 0.2)
    block["valid"] = ~((chance > 0.2) & (chance < 0.35)) if invalid else torch.ones(shape, dtype=torch.bool)
    after = torch.randn(shape, generator=generator, dtype=torch.float64)
    follow = torch.cat((block["values"][1:], after[-1:]))
    block["bootstrap_values"] = torch.where(block["truncated"], after, follow)
    return block


def only(block: dict[str, Tensor], *more: str) -> dict[str, Any]:
    names = ("rewards", "values", "bootstrap_values", "terminated", "truncated", "valid", *more)
    return {name: block[name] for name in names}


def slow_advantages(block: dict[str, Tensor], gamma: float, lambda_: float) -> Tensor:
    """Judge: for each step, walk forward and add discounted errors until an end; skip what is invalid."""
    r, v, nxt = block["rewards"].tolist(), block["values"].tolist(), block["bootstrap_values"].tolist()
    term, trunc, valid = block["terminated"].tolist(), block["truncated"].tolist(), block["valid"].tolist()
    steps, streams = block["rewards"].shape
    out = torch.zeros(steps, streams, dtype=torch.float64)
    for b in range(streams):
        for t in range(steps):
            weight, total = 1.0, 0.0
            for i in range(t, steps) if valid[t][b] else ():
                if valid[i][b]:
                    total += weight * (r[i][b] + gamma * (0.0 if term[i][b] else nxt[i][b]) - v[i][b])
                    weight *= gamma * lambda_
                if term[i][b] or trunc[i][b]:
                    break
            out[t, b] = total
    return out


def slow_targets(block: dict[str, Tensor], gamma: float, lambda_: float, rho_bar: float, c_bar: float) -> Tensor:
    """Judge: Espeholt et al. 2018, Eq. 1, as the double sum it is written as."""
    ratio = (block["target_log_probs"] - block["behaviour_log_probs"]).exp()
    steps, streams = ratio.shape
    out = block["values"].clone()
    for b in range(streams):
        for s in range(steps):
            product = 1.0
            for t in range(s, steps) if bool(block["valid"][s, b]) else ():
                if bool(block["valid"][t, b]):
                    future = 0.0 if bool(block["terminated"][t, b]) else float(block["bootstrap_values"][t, b])
                    error = float(block["rewards"][t, b]) + gamma * future - float(block["values"][t, b])
                    out[s, b] += product * min(rho_bar, float(ratio[t, b])) * error
                    product *= gamma * lambda_ * min(c_bar, float(ratio[t, b]))
                if bool(block["terminated"][t, b] | block["truncated"][t, b]):
                    break
    return out


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 16, 37])
def test_scan_equals_the_loop(steps: int) -> None:
    increments, decays = torch.randn(2, steps, 3, dtype=torch.float64)
    carry, expected = torch.zeros(3, dtype=torch.float64), list[Tensor]()
    for t in reversed(range(steps)):
        carry = increments[t] + decays[t] * carry
        expected.insert(0, carry)
    torch.testing.assert_close(reverse_scan(increments, decays), torch.stack(expected))


@pytest.mark.parametrize("steps", [1, 5, 24])
@pytest.mark.parametrize("invalid", [False, True])
def test_advantages_equal_the_slow_judge(steps: int, invalid: bool) -> None:
    block = random_block(steps, 6, seed=steps, invalid=invalid)
    advantages, returns = generalised_advantages(**only(block), gamma=GAMMA, lambda_=LAMBDA)
    expected = slow_advantages(block, GAMMA, LAMBDA)
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, expected + block["values"])


def test_advantages_by_hand() -> None:
    # One stream: step, terminated step, dummy reset, step, truncated step (final value 4); gamma .5, lambda .5.
    block = {
        "rewards": [1.0, 2.0, 99.0, 3.0, 5.0],
        "values": [10.0, 20.0, 77.0, 30.0, 40.0],
        "bootstrap_values": [20.0, 88.0, 30.0, 40.0, 4.0],
        "terminated": [False, True, False, False, False],
        "truncated": [False, False, False, False, True],
        "valid": [True, True, False, True, True],
    }
    given = {name: torch.tensor(column)[:, None] for name, column in block.items()}
    advantages, returns = generalised_advantages(**given, gamma=0.5, lambda_=0.5)
    # delta: 1+10-10=1, 2-20=-18, -, 3+20-30=-7, 5+2-40=-33
    assert advantages[:, 0].tolist() == [1.0 - 0.25 * 18.0, -18.0, 0.0, -7.0 - 0.25 * 33.0, -33.0]
    assert returns[:, 0].tolist() == [6.5, 2.0, 77.0, 14.75, 7.0]


def test_with_lambda_one_returns_are_discounted_rewards() -> None:
    rewards, values = torch.ones(4, 1), torch.randn(4, 1)
    ends = torch.tensor([[False], [False], [False], [True]])
    never = torch.zeros_like(ends)
    nxt = torch.cat((values[1:], torch.full((1, 1), 1e6)))
    _, returns = generalised_advantages(rewards, values, nxt, ends, never, ~never, 0.5, 1.0)
    torch.testing.assert_close(returns[:, 0], torch.tensor([1.875, 1.75, 1.5, 1.0]))


def without_invalid(block: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same single stream with its invalid steps cut out, as SAME_STEP would have given it."""
    keep = block["valid"][:, 0]
    return {name: column[keep] for name, column in block.items()}


def test_invalid_steps_are_as_if_they_were_not_there() -> None:
    block = random_block(40, 1, seed=5)
    keep = block["valid"][:, 0]
    dense = without_invalid(block)
    advantages, _ = generalised_advantages(**only(block), gamma=GAMMA, lambda_=LAMBDA)
    expected, _ = generalised_advantages(**only(dense), gamma=GAMMA, lambda_=LAMBDA)
    torch.testing.assert_close(advantages[keep], expected)
    names = ("behaviour_log_probs", "target_log_probs")
    full = vtrace(**only(block, *names), gamma=GAMMA)
    short = vtrace(**only(dense, *names), gamma=GAMMA)
    torch.testing.assert_close(full.targets[keep], short.targets)
    torch.testing.assert_close(full.advantages[keep], short.advantages)


def test_what_lies_at_ignored_places_may_be_nan() -> None:
    block = random_block(20, 4, seed=9)
    names = ("behaviour_log_probs", "target_log_probs")
    clean, _ = generalised_advantages(**only(block), gamma=GAMMA, lambda_=LAMBDA)
    clean_vtrace = vtrace(**only(block, *names), gamma=GAMMA)
    dirty = dict(block)
    for name in ("rewards", "values", *names):
        dirty[name] = block[name].masked_fill(~block["valid"], math.nan)
    dirty["bootstrap_values"] = block["bootstrap_values"].masked_fill(~block["valid"] | block["terminated"], math.nan)
    advantages, _ = generalised_advantages(**only(dirty), gamma=GAMMA, lambda_=LAMBDA)
    torch.testing.assert_close(advantages, clean)
    dirty_vtrace = vtrace(**only(dirty, *names), gamma=GAMMA)
    torch.testing.assert_close(dirty_vtrace.advantages, clean_vtrace.advantages)
    torch.testing.assert_close(dirty_vtrace.targets[block["valid"]], clean_vtrace.targets[block["valid"]])


def test_invalid_step_that_ends_an_episode_cuts_the_chain() -> None:
    valid = torch.tensor([[True], [False], [True]])
    ends = torch.tensor([[False], [True], [False]])
    values = torch.zeros(3, 1)
    advantages, _ = generalised_advantages(
        torch.tensor([[1.0], [50.0], [100.0]]), values, values, ends, ~valid & ~ends, valid, 1.0, 1.0
    )
    assert advantages[:, 0].tolist() == [1.0, 0.0, 100.0]


@pytest.mark.parametrize(("lambda_", "rho_bar", "c_bar"), [(1.0, 1.0, 1.0), (0.9, 1.5, 0.7), (0.0, 1.0, 1.0)])
def test_vtrace_equals_the_slow_judge(lambda_: float, rho_bar: float, c_bar: float) -> None:
    block = random_block(15, 5, seed=3)
    names = ("behaviour_log_probs", "target_log_probs")
    out = vtrace(**only(block, *names), gamma=GAMMA, lambda_=lambda_, rho_bar=rho_bar, c_bar=c_bar)
    torch.testing.assert_close(out.targets, slow_targets(block, GAMMA, lambda_, rho_bar, c_bar))


def test_vtrace_advantage_uses_the_next_target() -> None:
    block = random_block(15, 5, seed=4, invalid=False)
    out = vtrace(**only(block, "behaviour_log_probs", "target_log_probs"), gamma=GAMMA)
    following = torch.cat((out.targets[1:], block["bootstrap_values"][-1:]))
    following = torch.where(block["truncated"], block["bootstrap_values"], following)
    following = following.masked_fill(block["terminated"], 0.0)
    rho = (block["target_log_probs"] - block["behaviour_log_probs"]).exp().clamp(max=1.0)
    torch.testing.assert_close(out.ratios, rho)
    torch.testing.assert_close(out.advantages, rho * (block["rewards"] + GAMMA * following - block["values"]))


def test_on_policy_vtrace_is_gae_with_lambda_one() -> None:
    block = random_block(30, 4, seed=8)
    block["behaviour_log_probs"] = block["target_log_probs"]
    out = vtrace(**only(block, "behaviour_log_probs", "target_log_probs"), gamma=GAMMA)
    advantages, returns = generalised_advantages(**only(block), gamma=GAMMA, lambda_=1.0)
    torch.testing.assert_close(out.advantages, advantages)
    torch.testing.assert_close(out.targets, returns)


def test_targets_are_constants_and_keep_float32() -> None:
    raw = random_block(6, 2, 0)
    block = {name: x.float() if x.is_floating_point() else x for name, x in raw.items()}
    block["values"].requires_grad_()
    advantages, returns = generalised_advantages(**only(block), gamma=GAMMA, lambda_=LAMBDA)
    out = vtrace(**only(block, "behaviour_log_probs", "target_log_probs"), gamma=GAMMA)
    for tensor in (advantages, returns, *out):
        assert tensor.dtype == torch.float32
        assert not tensor.requires_grad


def test_bad_arguments_are_refused() -> None:
    block = random_block(4, 2, 0)
    names = ("behaviour_log_probs", "target_log_probs")
    with pytest.raises(ValueError, match=r"gamma and lambda_ must lie in \[0, 1\], got 1.1 and 0.8"):
        generalised_advantages(**only(block), gamma=1.1, lambda_=LAMBDA)
    with pytest.raises(ValueError, match=r"one shape \[T, B\], got \[\(3, 2\), \(4, 2\)\]"):
        generalised_advantages(**{**only(block), "rewards": block["rewards"][:3]}, gamma=GAMMA, lambda_=LAMBDA)
    with pytest.raises(ValueError, match=r"rho_bar and c_bar must be > 0, got 0\.0 and 1\.0"):
        vtrace(**only(block, *names), gamma=GAMMA, rho_bar=0.0)
