"""RecurrentSAC: what it learns from, judged step by step; that it remembers; that it is saved."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor

from nl_agents.errors import ConfigError, StateMismatchError
from nl_agents.sb3 import RecurrentDQN, RecurrentSAC, evaluate_policy_lifelong
from nl_agents.sb3.recurrent_sac import SACLosses
from nl_agents.sb3.sequence_replay import SequenceBatch, SequenceReplay
from tests.sb3.small import POLICY_KWARGS, Toy

SHORT: dict[str, Any] = {
    "learning_starts": 40,
    "batch_size": 32,
    "burn_in": 3,
    "train_length": 8,
    "buffer_size": 2_000,
    "train_freq": 4,
    "device": "cpu",
    "seed": 0,
}
BOX = spaces.Box(np.array([-1, 0], np.float32), np.array([3, 1], np.float32))
KWARGS = {name: {**kwargs, "net_arch": [16]} for name, kwargs in POLICY_KWARGS.items()}


def toys(num_envs: int = 2, **toy: Any) -> VecEnv:
    return make_vec_env(Toy, num_envs, seed=0, env_kwargs={"space": BOX, **toy})


def model_of(core: str = "gru", num_envs: int = 2, policy: str = "HopePolicy", **options: Any) -> RecurrentSAC:
    env = options.pop("env", None) or toys(num_envs, **options.pop("toy", {}))
    kwargs = {**KWARGS[core], **options.pop("policy_kwargs", {})}
    return RecurrentSAC(policy, env, **{**SHORT, **options}, policy_kwargs=kwargs)


def finite(model: RecurrentSAC) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in model.policy.parameters())


def batch_of(model: RecurrentSAC, windows: int = 6) -> SequenceBatch:
    assert model.replay_buffer is not None
    batch = model.replay_buffer.windows(windows)
    assert batch is not None
    return batch


# -------------------------------------------------------------------- what is learnt


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
    parts = [(model, batch_of(model, 3)), (other, batch_of(other, 3))]
    batch = SequenceBatch(*(torch.cat(leaves, dim=0 if leaves[0].dim() == 2 and leaves[0].shape[0] == 3 else 1)
                            for leaves in zip(parts[0][1], parts[1][1], strict=True)))  # fmt: skip
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


# -------------------------------------------------------------------- live


@pytest.mark.parametrize("core", KWARGS)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_it_runs_and_the_stored_memory_is_that_of_who_acted(core: str, num_envs: int) -> None:
    bad = (4, "reward" if num_envs == 1 else "obs")
    model = model_of(core, num_envs, toy={"truncates": True, "bad": bad}, learning_starts=10_000).learn(60 * num_envs)
    batch = batch_of(model, 12)  # nothing has been learnt: a window's read-outs are those that acted
    for net, stored in zip((model.actor, model.critic), model.policy.split(batch.memory), strict=True):
        together, state = net.read_behind(batch, stored, model.burn_in), net.cell.unpack(stored.clone())
        for t in range(len(batch.is_first)):
            rows = slice(t, t + 1)
            read, state = net.read_step(batch.observations[t], state, batch.is_first[rows], batch.is_valid[rows])
            if t >= model.burn_in:
                valid = batch.is_valid[t]
                torch.testing.assert_close(read[valid], together[t - model.burn_in][valid], atol=1e-5, rtol=1e-4)
    assert finite(model_of(core, num_envs, toy={"truncates": True}).learn(60 * num_envs))


def test_memory_of_scope_episode_begins_anew_and_of_scope_never_goes_on() -> None:
    """After steps in an episode of length 7: step 8 is an episode's first."""
    for scope in ("episode", "never"):
        kwargs = {"core": "diagonal", "core_kwargs": {"scope": scope}}
        model = model_of(policy_kwargs=kwargs, learning_starts=10_000, train_freq=1).learn(14)
        obs, is_first, _ = model._look()
        assert bool(is_first.all())
        kept, _ = model.actor.read_step(obs, deepcopy(model.memory.pi), is_first, None)
        fresh = model.actor.newborn(obs)
        assert torch.allclose(kept, fresh, atol=1e-6) == (scope == "episode")


def test_memory_goes_on_where_an_action_is_drawn_at_random() -> None:
    model = model_of(learning_starts=10_000).learn(40)
    assert model.clock == 20 and all(leaf.abs().max() > 0 for part in model.memory for leaf in part)


def test_it_is_evaluated_from_its_live_memory() -> None:
    for model in (
        model_of().learn(60),
        RecurrentDQN("HopePolicy", make_vec_env(Toy, 2), **SHORT, policy_kwargs=POLICY_KWARGS["gru"]).learn(60),
    ):
        (kept,) = model.memory_state()
        assert kept.shape[0] == 2 and np.abs(kept).max() > 0
        env = make_vec_env(Toy, 3, env_kwargs={"space": model.action_space})
        lived = evaluate_policy_lifelong(model, env, 3)  # three streams take turns with two memories
        assert len(lived.returns) == 3 and lived.memory[0].shape == (3, kept.shape[1])
        assert np.array_equal(model.memory_state()[0], kept)


def test_actions_are_within_bounds_and_stored_as_the_heads_give_them() -> None:
    model = model_of(action_noise=NormalActionNoise(np.zeros(2), np.full(2, 2.0))).learn(120)
    assert isinstance(model.replay_buffer, SequenceReplay)
    taken = model.replay_buffer.taken[:60]
    assert taken.shape == (60, 2, 2) and np.abs(taken).max() == 1
    obs, state = model.env.reset(), None
    for _ in range(5):
        actions, state = model.predict(obs, state, np.zeros(2, np.bool_))
        assert actions.shape == (2, 2) and all(BOX.contains(action) for action in actions)
    single, _ = model.predict(obs[0], None, np.ones(1, np.bool_), deterministic=True)
    assert BOX.contains(single)
    again, _ = model.predict(obs[:1], (state[0][:1],), np.ones(1, np.bool_), deterministic=True)
    assert np.allclose(single, again[0], atol=1e-6)  # an episode's first step asks no memory


def test_saved_models_go_on_to_the_last_bit(tmp_path: Path) -> None:
    """The same life, once in one go and once over a save: weights, entropy coefficient, optimizers, memory, replay."""
    lives = []
    for cut in (False, True):
        env = toys()
        model = model_of("hope", env=env).learn(106)
        if cut:
            model.save(tmp_path / "model")
            model.save_replay_buffer(tmp_path / "replay")
            model = RecurrentSAC.load(tmp_path / "model", env=env, force_reset=False)
            model.load_replay_buffer(tmp_path / "replay")
        model.set_random_seed(3)
        lives.append(model.learn(100, reset_num_timesteps=False))
    one, two = lives
    assert one.num_timesteps == two.num_timesteps and one.clock == two.clock and one._n_updates == two._n_updates > 0
    assert torch.equal(one.log_ent_coef, two.log_ent_coef) and one.target_entropy == two.target_entropy == -2
    for key, value in one.policy.state_dict().items():
        assert torch.equal(value, two.policy.state_dict()[key]), key
    assert torch.equal(one.policy.pack_memory(one.memory), two.policy.pack_memory(two.memory))


def test_a_fixed_coefficient_and_the_policy_alone_are_saved_too(tmp_path: Path) -> None:
    model = model_of(ent_coef=0.1, policy_kwargs={"n_critics": 3}).learn(60)
    model.save(tmp_path / "model")
    later = RecurrentSAC.load(tmp_path / "model", env=toys(3))
    assert later.ent_coef_optimizer is None and float(later._alpha()) == pytest.approx(0.1)
    assert later.clock == 0 and not later.policy.pack_memory(later.memory).any()  # another number of streams: newborn
    model.policy.save(tmp_path / "policy")
    policy, obs = type(model.policy).load(tmp_path / "policy"), model.env.reset()
    assert np.array_equal(policy.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])


def test_a_replay_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = model_of("hope", train_freq=1, learning_starts=10_000).learn(60)
    model.save_replay_buffer(tmp_path / "replay")
    with pytest.raises(StateMismatchError, match=r"= \(8, 11, 2, .*and the model \(16, 19, 2"):
        model_of("hope", train_length=16).load_replay_buffer(tmp_path / "replay")
    other, before = model_of("hope"), model.replay_buffer.clock
    own = other.replay_buffer
    with pytest.raises(StateMismatchError, match=f"{before % 8} of 8 steps apart"):
        other.load_replay_buffer(tmp_path / "replay")
    assert other.replay_buffer is own
    model.load_replay_buffer(tmp_path / "replay")
    assert model.replay_buffer.clock == before


# -------------------------------------------------------------------- what else it is given


@pytest.mark.parametrize("policy", ["HopePolicy", "HopeCnnPolicy", "HopeMultiInputPolicy"])
def test_images_dicts_one_stream_and_normalised_observations(policy: str) -> None:
    kind = {"HopePolicy": "box", "HopeCnnPolicy": "image", "HopeMultiInputPolicy": "dict"}[policy]
    env: Any = toys(1, kind=kind, truncates=True)
    shared = {"policy_kwargs": {"share_features_extractor": kind == "dict"}}
    if kind == "box":
        env = VecNormalize(env)
    assert finite(model_of(policy=policy, env=env, **shared, train_freq=16).learn(90))


def test_noise_by_state_and_steps_counted_by_episodes() -> None:
    model = model_of(num_envs=1, use_sde=True, use_sde_at_warmup=True, train_freq=(1, "episode"), gradient_steps=-1)
    assert finite(model.learn(80)) and model._n_updates > 20


@pytest.mark.parametrize("what", ["obs", "reward"])
def test_what_is_not_finite_is_not_learnt_from(what: str) -> None:
    model = model_of("hope", toy={"bad": (3, what)}).learn(150)
    assert finite(model) and model.nonfinite > 0
    assert bool(torch.isfinite(model.policy.pack_memory(model.memory)).all())


def test_predict_takes_an_observation_that_is_not_finite_as_nothing() -> None:
    for kind, policy in (("box", "HopePolicy"), ("dict", "HopeMultiInputPolicy")):
        model = model_of(policy=policy, toy={"kind": kind})
        obs = model.env.reset()
        _, state = model.predict(obs)
        (obs["a"] if kind == "dict" else obs)[1, 0] = np.nan
        actions, after = model.predict(obs, state)
        assert np.isfinite(actions).all()
        assert np.array_equal(after[0][1], state[0][1]) and not np.array_equal(after[0][0], state[0][0])


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    model = model_of(learning_starts=10_000).learn(60)
    before = deepcopy(model.critic.state_dict())
    losses = model.losses(batch_of(model))
    model._update(losses._replace(critic=losses.critic * float("nan")))
    assert all(torch.equal(value, model.critic.state_dict()[key]) for key, value in before.items())
    assert finite(model)


def test_the_same_seed_gives_the_same_weights() -> None:
    one, other = (model_of("hope").learn(100).policy.state_dict() for _ in range(2))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_wrong_uses_are_told() -> None:
    with pytest.raises(ConfigError, match="multiple of the core's clock, 8 steps"):
        model_of("hope", train_length=12)
    with pytest.raises(ConfigError, match="RecurrentSAC has a replay of its own and takes no n_steps"):
        model_of(n_steps=3)
    with pytest.raises(ConfigError, match="need at least 76"):
        model_of(buffer_size=70)
    with pytest.raises(ConfigError, match="burn_in >= 0"):
        model_of(burn_in=-1)
    with pytest.raises(AssertionError, match="Box"):
        model_of(env=make_vec_env(Toy, 1))
    assert model_of(train_length=None).train_length == 16
