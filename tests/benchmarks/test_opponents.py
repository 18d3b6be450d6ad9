"""The opponents do what they claim: fair fights only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.opponents.hand_loop import (
    FeedForwardNet,
    HandLoop,
    RecurrentNet,
    advantages,
    unroll_by_steps,
    unroll_by_stretches,
)
from benchmarks.opponents.settings import Settings
from benchmarks.opponents.worlds import WORLDS, Flags, Floats, Outcome

SMALL = Settings(num_envs=4, num_steps=32, width=8, num_epochs=2, num_minibatches=2)


class CountingWorld:
    """Observations name stream, episode and step; stream i has episodes of 3 + i steps, every second one timed out."""

    observation_size, num_actions = 3, 2

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.clock, self.episode = np.zeros(num_envs, int), np.zeros(num_envs, int)
        self.late = np.zeros(num_envs, bool)

    def _obs(self) -> Floats:
        return np.stack([np.arange(self.num_envs), self.episode, self.clock], 1).astype(np.float32)

    def reset(self) -> Floats:
        return self._obs()

    def _renew(self, streams: Flags) -> None:
        self.clock[streams] = 0
        self.episode[streams] += 1
        self.late[streams] = False

    def step(self, actions: np.ndarray) -> Outcome:
        resets = self.late.copy()
        self.clock[~resets] += 1
        self._renew(resets)
        ended = self.clock >= 3 + np.arange(self.num_envs)
        self.late = ended.copy()
        timeout = ended & (self.episode % 2 == 1)
        return Outcome(self._obs(), (~resets).astype(np.float32), ended & ~timeout, timeout)

    def step_same(self, actions: np.ndarray) -> tuple[Outcome, Floats | None]:
        outcome = self.step(actions)
        ended = outcome.terminated | outcome.truncated
        if not ended.any():
            return outcome, None
        self._renew(ended)
        return outcome._replace(obs=self._obs()), outcome.obs


def sequences(
    starts: list[tuple[int, int]],
) -> tuple[nn.LSTM, torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    is_first = torch.zeros(12, 3, dtype=torch.bool)
    for step, stream in starts:
        is_first[step, stream] = True
    return nn.LSTM(5, 7), torch.randn(12, 3, 5), (torch.randn(3, 7), torch.randn(3, 7)), is_first


@pytest.mark.parametrize("starts", [[], [(0, 1)], [(0, 0), (0, 1), (0, 2)], [(4, 1), (5, 1), (5, 2), (11, 0)]])
def test_both_ways_to_unroll_the_lstm_agree_in_values_and_gradients(starts: list[tuple[int, int]]) -> None:
    lstm, x, state, is_first = sequences(starts)
    results = []
    for unroll in (unroll_by_steps, unroll_by_stretches):
        output, (hidden, cell) = unroll(lstm, x, state, is_first)
        gradients = torch.autograd.grad(output.square().sum() + cell.sum(), list(lstm.parameters()))
        results.append([output, hidden, cell, *gradients])
    for by_steps, by_stretches in zip(*results, strict=True):
        torch.testing.assert_close(by_steps, by_stretches, rtol=1e-4, atol=1e-5)


def test_a_reset_forgets_its_stream_and_no_other() -> None:
    lstm, x, state, is_first = sequences([(6, 1)])
    output, _ = unroll_by_steps(lstm, x, state, is_first)
    fresh, _ = unroll_by_steps(lstm, x[6:], (torch.zeros(3, 7), torch.zeros(3, 7)), is_first[6:])
    torch.testing.assert_close(output[6:, 1], fresh[:, 1])
    untouched, _ = unroll_by_steps(lstm, x, state, torch.zeros_like(is_first))
    torch.testing.assert_close(output[:, [0, 2]], untouched[:, [0, 2]])
    assert not torch.allclose(output[6:, 1], untouched[6:, 1])


def test_acting_step_by_step_equals_the_whole_rollout() -> None:
    torch.manual_seed(1)
    net, x = RecurrentNet(5, 3, 8), torch.randn(12, 3, 5)
    is_first = torch.rand(12, 3) < 0.2
    state = start = net.initial_state(3, "cpu")
    logits, values = net(x, start, is_first)
    for t in range(12):
        logits_t, values_t, state = net.act(x[t], state, is_first[t])
        torch.testing.assert_close(logits_t, logits[t])
        torch.testing.assert_close(values_t, values[t])


@pytest.mark.parametrize("recurrent", [True, False])
def test_a_rollout_marks_first_steps_and_reset_transitions(recurrent: bool) -> None:
    loop = HandLoop(CountingWorld(4), SMALL, recurrent=recurrent)
    loop.collect()
    loop.collect()
    rollout = loop.rollout
    stream, step = rollout.obs[..., 0], rollout.obs[..., 2]
    assert torch.equal(rollout.is_first, step == 0)
    assert torch.equal(rollout.is_reset, step == 3 + stream)
    assert loop.steps == 2 * 4 * 32 - sum(64 // (4 + index) for index in range(4))


@pytest.mark.parametrize("recurrent", [True, False])
def test_before_the_first_update_the_ratio_is_one(recurrent: bool) -> None:
    loop = HandLoop(CountingWorld(4), SMALL, recurrent=recurrent)
    for _ in range(2):
        loop.collect()
    rollout = loop.rollout
    logits, values = loop.net(rollout.obs[:-1], loop.start_state, rollout.is_first[:-1])
    log_probs = torch.log_softmax(logits, -1).gather(-1, rollout.actions.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(log_probs, rollout.log_probs)
    torch.testing.assert_close(values, rollout.values)


def test_advantages_equal_those_of_each_episode_alone() -> None:
    loop = HandLoop(CountingWorld(4), SMALL, recurrent=False)
    last_value = loop.collect()
    rollout, gamma, lambda_ = loop.rollout, 0.9, 0.8
    result = advantages(rollout, last_value, gamma, lambda_)
    values = torch.cat([rollout.values, last_value.unsqueeze(0)])
    checked = 0
    for stream in range(4):
        episode: list[int] = []
        for t in range(32):
            if rollout.is_reset[t, stream]:
                episode = []
                continue
            episode.append(t)
            if not rollout.is_reset[t + 1, stream]:
                continue
            timed_out = rollout.obs[t, stream, 1] % 2 == 1
            running = 0.0
            for index in reversed(episode):
                bootstrap = 0.0 if index == t and not timed_out else float(values[index + 1, stream])
                running = 1.0 + gamma * bootstrap - float(values[index, stream]) + gamma * lambda_ * running
                assert result[index, stream] == pytest.approx(running, abs=1e-5)
                checked += 1
    assert checked > 80


def test_reset_transitions_do_not_reach_the_loss() -> None:
    loop = HandLoop(CountingWorld(4), SMALL, recurrent=False)
    last_value = loop.collect()
    before = [parameter.clone() for parameter in loop.net.parameters()]
    loop.rollout.host["rewards"][loop.rollout.host["is_reset"][:-1]] = 1e6
    torch.manual_seed(3)
    loop.learn(last_value)
    assert any(not torch.equal(old, new) for old, new in zip(before, loop.net.parameters(), strict=True))
    other = HandLoop(CountingWorld(4), SMALL, recurrent=False)
    other_value = other.collect()
    torch.manual_seed(3)
    other.learn(other_value)
    for spoilt, clean in zip(loop.net.parameters(), other.net.parameters(), strict=True):
        torch.testing.assert_close(spoilt, clean)


def test_both_nets_share_everything_but_the_memory() -> None:
    recurrent, plain = RecurrentNet(5, 3, 8), FeedForwardNet(5, 3, 8)
    assert recurrent.heads.weight.shape == plain.heads.weight.shape == (4, 8)
    assert recurrent.initial_state(2, "cpu")[0].shape == (2, 8)
    assert plain.initial_state(2, "cpu")[0].shape == (2, 0)


@pytest.mark.parametrize("name", ["cartpole", "doorkey", "doorkey-python"])
def test_a_world_resets_late_or_at_once(name: str) -> None:
    if name == "doorkey":
        pytest.importorskip("envpool")
    steps = 260 if "doorkey" in name else 120
    late, same = WORLDS[name](4, 0), WORLDS[name](4, 0)
    actions = np.random.default_rng(0).integers(late.num_actions, size=(steps, 4))
    assert late.reset().shape == same.reset().shape == (4, late.observation_size)
    ends, previous = 0, np.zeros(4, bool)
    for action in actions:
        outcome = late.step(action)
        assert outcome.obs.dtype == outcome.rewards.dtype == np.float32
        assert not (outcome.terminated | outcome.truncated)[previous].any()
        assert not outcome.rewards[previous].any()
        previous = outcome.terminated | outcome.truncated
        at_once, final = same.step_same(action)
        ended = at_once.terminated | at_once.truncated
        assert (final is not None) == ended.any()
        if final is not None:
            ends += int(ended.sum())
            np.testing.assert_array_equal(at_once.obs[~ended], final[~ended])
            assert (at_once.obs[ended] != final[ended]).any(1).all()
            if name == "cartpole":
                assert np.abs(at_once.obs[ended]).max() <= 0.05
    assert ends >= 4
