"""RecurrentSAC learns from the right losses: judged step by step, and by what it can learn."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from torch import Tensor

from nl_agents.sb3 import RecurrentSAC
from nl_agents.sb3.recurrent_sac import SACLosses
from nl_agents.sb3.sequence_replay import SequenceBatch
from tests.sb3.small_sac import batch_of, model_of


class Cue(gym.Env[Any, Any]):
    """The first observation shows -1 or 1; seven steps pay for an action of that sign, up to 1."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.clock, self.cue = 0, float(self.np_random.choice([-1, 1]))
        return np.array([self.cue, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        reward = float(np.clip(action[0] * self.cue, -1, 1))
        return np.array([0, self.clock / 10], np.float32), reward, self.clock >= 7, False, {}


def in_double(model: RecurrentSAC, batch: SequenceBatch) -> SequenceBatch:
    """Turns all to float64."""
    model.policy.double()
    for net in (model.actor, model.critic, model.critic_target):
        net.extract_features = lambda obs, extractor: extractor(obs)
    assert model.log_ent_coef is not None
    model.log_ent_coef = torch.tensor([-0.7], dtype=torch.float64, requires_grad=True)
    return SequenceBatch(*(leaf.double() if leaf.is_floating_point() else leaf for leaf in batch))


def step_by_step(net: Any, batch: SequenceBatch, stored: Tensor, burn_in: int) -> list[list[Tensor]]:
    """Read-outs of each window by steps of one row; an episode's first step is given a newborn memory by hand."""
    windows = []
    for m in range(batch.is_first.shape[1]):
        state, reads = net.cell.unpack(stored[m : m + 1]), []
        never = torch.zeros(1, 1, dtype=torch.bool)
        for t in range(len(batch.is_first)):
            if t == burn_in:
                state = type(state)(*(leaf.detach() for leaf in state))
            if bool(batch.is_valid[t, m]):
                if bool(batch.is_first[t, m]):
                    state = type(state)(*(torch.zeros_like(leaf) for leaf in state))
                x = net.features_extractor(batch.observations[t, m : m + 1])
                read, state = net.cell.run(x.unsqueeze(0), state, never)
                reads.append(torch.cat((read[0, 0], x[0])))
            else:
                reads.append(torch.zeros(net.cell.core.width + 3, dtype=torch.float64))
        windows.append(reads)
    return windows


def by_hand(model: RecurrentSAC, batch: SequenceBatch, noise: Tensor) -> SACLosses:
    """The losses, written out for one number after the other; ``noise`` [L + 1, m, A]."""
    b, length, size = model.burn_in, len(noise) - 1, model.actor.cell.state_size
    stored_pi, stored_vf = batch.memory[:, :size], batch.memory[:, size:]
    alpha = float(model.log_ent_coef.detach().exp())
    pi = step_by_step(model.actor, batch, stored_pi, b)
    vf = step_by_step(model.critic, batch, stored_vf, b)
    with torch.no_grad():
        later = step_by_step(model.critic_target, batch, stored_vf, b)
    drawn, said = {}, {}
    for m in range(batch.is_first.shape[1]):
        for t in range(length + 1):
            latent = model.actor.latent_pi(pi[m][b + t])
            mean, log_std = model.actor.mu(latent), model.actor.log_std(latent).clamp(-20, 2)
            raw = mean + log_std.exp() * noise[t, m]
            normal = -0.5 * ((raw - mean) / log_std.exp()) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
            drawn[t, m] = raw.tanh()
            said[t, m] = (normal - (1 - raw.tanh() ** 2 + 1e-6).log()).sum()

    def least(net: Any, read: Tensor, action: Tensor) -> Tensor:
        return torch.minimum(*(head(torch.cat((read, action))) for head in net.q_networks)).squeeze()

    critic, actor, surprise = [], [], []
    for m in range(batch.is_first.shape[1]):
        for t in range(length):
            row = b + t
            if not (batch.is_valid[row, m] and batch.is_paid[row, m]):
                continue
            actor.append(alpha * said[t, m] - least(model.critic, vf[m][row].detach(), drawn[t, m]))
            surprise.append(said[t, m].detach() + model.target_entropy)
            if batch.terminated[row, m]:
                target = batch.rewards[row, m]
            elif batch.is_first[row + 1, m] or not batch.is_valid[row + 1, m]:
                continue
            else:
                ahead = least(model.critic_target, later[m][row + 1], drawn[t + 1, m]) - alpha * said[t + 1, m]
                target = batch.rewards[row, m] + model.gamma * ahead.detach()
            heads = [head(torch.cat((vf[m][row], batch.actions[row, m]))) for head in model.critic.q_networks]
            critic.append(sum(0.5 * (value - target) ** 2 for value in heads).squeeze())
    assert 0 < len(critic) < len(actor) < length * batch.is_first.shape[1]
    temperature = -(model.log_ent_coef * torch.stack(surprise)).mean()
    return SACLosses(torch.stack(critic).mean(), torch.stack(actor).mean(), temperature)


@pytest.mark.parametrize("core", ["gru", "lstm"])
def test_losses_and_gradients_are_those_of_a_loop_by_hand(core: str) -> None:
    """Over episode ends of either kind, with steps that are not finite, from memories that are stored."""
    model = model_of(core, toy={"length": 6, "bad": (4, "obs")}, learning_starts=10_000, target_entropy=-1.3).learn(150)
    other = model_of(core, toy={"length": 5, "truncates": True, "bad": (2, "reward")}, learning_starts=10_000).learn(
        150
    )
    one, two = batch_of(model, 3), batch_of(other, 3)
    joined = [torch.cat(leaves, dim=1) for leaves in zip(one[:-1], two[:-1], strict=True)]
    batch = SequenceBatch(*joined, torch.cat((one.memory, two.memory)))
    with torch.no_grad():
        for parameter in model.critic_target.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = in_double(model, batch)
    torch.manual_seed(5)
    losses = model.losses(batch)
    torch.manual_seed(5)
    noise = torch.normal(torch.zeros(9 * 6, 2, dtype=torch.float64), torch.ones(9 * 6, 2, dtype=torch.float64))
    judge = by_hand(model, batch, noise.view(9, 6, 2))
    owners = {
        "actor": [*model.actor.parameters()],
        "critic": [*model.critic.parameters()],
        "ent_coef": [model.log_ent_coef],
    }
    for name, parameters in owners.items():
        fast, slow = getattr(losses, name), getattr(judge, name)
        torch.testing.assert_close(fast, slow, atol=1e-10, rtol=1e-10)
        gradients = (torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (fast, slow))
        for one, two in zip(*gradients, strict=True):
            torch.testing.assert_close(one, two, atol=1e-10, rtol=1e-8)
    leaks = torch.autograd.grad(losses.actor, [*model.critic.cell.parameters()], allow_unused=True)
    assert all(leak is None for leak in leaks)


def test_gradients_end_where_the_burn_in_does() -> None:
    """What is seen in the burn-in moves the losses and gets no gradient; what is seen behind it does."""
    model = model_of(toy={"length": 1_000}, learning_starts=10_000).learn(100)
    batch = batch_of(model)
    for burn_in in (0, model.burn_in):
        seen = batch.observations.clone().requires_grad_()
        stored = batch.memory.clone().requires_grad_()
        model.burn_in = burn_in
        losses = model.losses(batch._replace(observations=seen, memory=stored))
        for loss in (losses.actor, losses.critic):
            along, into = torch.autograd.grad(loss, (seen, stored), retain_graph=True, allow_unused=True)
            reached = along.flatten(1).abs().sum(1) > 0
            assert not reached[:burn_in].any() and bool(reached[burn_in:-1].all())
            assert (into is None) == (burn_in > 0)
        moved = batch.observations.clone()
        moved[0] += 1
        torch.manual_seed(0)
        before = model.losses(batch).critic
        torch.manual_seed(0)
        assert not torch.equal(before, model.losses(batch._replace(observations=moved)).critic)


def test_one_update_moves_each_part_by_its_own_loss() -> None:
    model = model_of(learning_starts=10_000, toy={"truncates": True}, target_update_interval=2, tau=0.25).learn(150)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    torch.manual_seed(1)
    np.random.seed(1)
    model.train(1, 32)
    after = deepcopy(model.policy.state_dict())
    for key, value in before.items():
        if key.startswith("critic_target."):
            twin = after[key.replace("critic_target", "critic")]
            torch.testing.assert_close(after[key], 0.75 * value + 0.25 * twin)
        elif "weight" in key:
            assert not torch.equal(value, after[key]), key
    model.train(1, 32)
    for key, value in model.policy.state_dict().items():
        assert torch.equal(value, after[key]) or "target" not in key
    assert model._n_updates == 2


@pytest.mark.parametrize("core", ["gru", pytest.param("hope", marks=pytest.mark.slow)])
def test_it_learns_what_needs_memory(core: str) -> None:
    """Seven steps pay for the sign that the first one showed: about 1 without memory, 7 with it."""
    options = {"learning_starts": 300, "learning_rate": 3e-3, "gamma": 0.5, "ent_coef": 0.02, "batch_size": 128}
    model = model_of(core, env=make_vec_env(Cue, 4, seed=0), **options, buffer_size=20_000, tau=0.02).learn(
        2_500 if core == "gru" else 4_000
    )
    returns, _ = evaluate_policy(model, make_vec_env(Cue, 1, seed=9), 20, return_episode_rewards=True, warn=False)
    assert np.mean(returns) > 5.5
