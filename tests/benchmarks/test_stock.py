"""RecurrentPPO on our worlds: the adapter keeps SB3's contract, the fused policy learns what the stock one learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("sb3_contrib")

from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy

from benchmarks.opponents.settings import Settings
from benchmarks.opponents.stock import FusedPolicy, Sb3World, make_recurrent_ppo, run
from benchmarks.opponents.worlds import CartPole, Outcome

SMALL = Settings(num_envs=4, num_steps=32, width=8, num_epochs=2, num_minibatches=2)


class TwoStepWorld:
    """Every episode has two steps; odd streams time out, even streams terminate."""

    observation_size, num_actions, num_envs = 1, 2, 3

    def reset(self) -> np.ndarray:
        self.clock = 0
        return np.zeros((3, 1), np.float32)

    def step_same(self, actions: np.ndarray) -> tuple[Outcome, np.ndarray | None]:
        self.clock += 1
        ended = np.full(3, self.clock % 2 == 0)
        timeout = ended & (np.arange(3) % 2 == 1)
        final = np.full((3, 1), self.clock, np.float32)
        obs = np.zeros((3, 1), np.float32) if ended.all() else final
        return Outcome(obs, np.ones(3, np.float32), ended & ~timeout, timeout), final if ended.all() else None


def test_the_adapter_hands_out_last_observations_and_timeouts() -> None:
    env = Sb3World(TwoStepWorld())
    env.reset()
    _, _, ended, infos = env.step(np.zeros(3, int))
    assert not ended.any()
    assert infos == [{}, {}, {}]
    obs, rewards, ended, infos = env.step(np.zeros(3, int))
    assert ended.all()
    assert not obs.any(), "the observation is already that of the next episode"
    assert [float(info["terminal_observation"][0]) for info in infos] == [2.0, 2.0, 2.0]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True, False]
    assert rewards.sum() == 3


def test_the_adapter_refuses_what_a_world_cannot_do() -> None:
    env = Sb3World(TwoStepWorld())
    assert env.get_attr("num_actions") == [2, 2, 2]
    assert env.env_is_wrapped(object) == [False] * 3
    with pytest.raises(AttributeError, match="cannot set 'gravity'"):
        env.set_attr("gravity", 1)
    with pytest.raises(AttributeError, match="cannot call 'render'"):
        env.env_method("render")


@pytest.mark.parametrize("first", [[0, 0, 0], [1, 0, 1], [1, 1, 1]])
@pytest.mark.parametrize("length", [1, 9])
def test_one_call_a_sequence_gives_the_outputs_of_the_step_loop(first: list[int], length: int) -> None:
    torch.manual_seed(0)
    lstm, features = torch.nn.LSTM(5, 7), torch.randn(3 * length, 5)
    starts = torch.zeros(3, length)
    starts[:, 0] = torch.tensor(first)
    states = (torch.randn(1, 3, 7), torch.randn(1, 3, 7))
    results = []
    for policy in (RecurrentActorCriticPolicy, FusedPolicy):
        output, (hidden, cell) = policy._process_sequence(features, states, starts.flatten(), lstm)
        gradients = torch.autograd.grad(output.square().sum(), list(lstm.parameters()))
        results.append([output, hidden, cell, *gradients])
    for stock, fused in zip(*results, strict=True):
        torch.testing.assert_close(stock, fused, rtol=1e-4, atol=1e-5)


def test_a_start_inside_a_sequence_is_still_respected() -> None:
    torch.manual_seed(0)
    lstm, features, starts = torch.nn.LSTM(5, 7), torch.randn(6, 5), torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    states = (torch.randn(1, 2, 7), torch.randn(1, 2, 7))
    stock, _ = RecurrentActorCriticPolicy._process_sequence(features, states, starts, lstm)
    fused, _ = FusedPolicy._process_sequence(features, states, starts, lstm)
    torch.testing.assert_close(stock, fused)


@pytest.mark.parametrize("critic_lstm", [True, False])
def test_after_two_updates_stock_and_fused_hold_the_same_weights(critic_lstm: bool) -> None:
    nets = []
    for fused in (False, True):
        model = make_recurrent_ppo(CartPole(4, 0), SMALL, fused=fused, critic_lstm=critic_lstm)
        model.learn(2 * 4 * 32)
        nets.append(model.policy.state_dict())
        assert (model.policy.lstm_critic is not None) == critic_lstm
    for name, stock in nets[0].items():
        torch.testing.assert_close(nets[1][name], stock, rtol=1e-3, atol=1e-4)


def test_it_reports_after_each_update() -> None:
    class EnoughError(Exception):
        pass

    reports: list[int] = []

    def report(steps: int) -> None:
        reports.append(steps)
        if len(reports) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        run(make_recurrent_ppo(CartPole(4, 0), SMALL, fused=True), report)
    assert reports == [128, 256]
