"""RecurrentDQN: what its replay hands out, what it learns from, that it remembers, that it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy

from nl_agents.errors import ConfigError
from nl_agents.sb3 import HopePolicy, RecurrentDQN
from nl_agents.sb3.sequence_replay import SequenceReplay
from tests.sb3.small import POLICY_KWARGS, Toy

SHORT: dict[str, Any] = {
    "learning_starts": 40,
    "batch_size": 32,
    "burn_in": 3,
    "train_length": 8,
    "buffer_size": 2_000,
    "device": "cpu",
    "seed": 0,
}


def model_of(core: str = "gru", num_envs: int = 2, policy: str = "HopePolicy", **options: Any) -> RecurrentDQN:
    env = options.pop("env", None) or make_vec_env(Toy, num_envs, seed=0, env_kwargs=options.pop("toy", {}))
    return RecurrentDQN(policy, env, **{**SHORT, **options}, policy_kwargs=POLICY_KWARGS[core])


def finite(model: RecurrentDQN) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in model.policy.parameters())


def test_windows_are_what_was_lived_in_its_order() -> None:
    """Rows that count: each says its clock, and memories say the clock before them."""
    space, streams = spaces.Box(-np.inf, np.inf, (1,), np.float32), 3
    replay = SequenceReplay(3 * 40, space, spaces.Discrete(2), n_envs=streams, stride=4, window=7, memory_size=2)
    replay.start(10)
    for clock in range(10, 10 + 95):
        row = np.arange(streams) * 1_000 + clock
        memory = torch.from_numpy(row[:, None].repeat(2, 1)).float() if replay.wants_memory else None
        flags = (row % 5 == 0, row % 7 == 0, row % 11 != 0)
        replay.put(row[:, None].astype(np.float32), row % 2, row * 2.0, *flags, memory)
    assert [replay.starts()[0], replay.starts()[-1]] == [68, 96] and replay.full
    for _ in range(20):
        batch = replay.windows(16)
        assert batch is not None
        row = batch.observations[..., 0]
        assert bool((row[1:] - row[:-1] == 1).all()) and len(row) == 8
        assert bool((row[0] % 1_000 % 4 == 0).all()) and row[0].min() % 1_000 >= 68
        torch.testing.assert_close(batch.memory, row[0].unsqueeze(1).expand(-1, 2))
        assert bool((batch.actions == row % 2).all()) and bool((batch.rewards == row * 2).all())
        assert bool((batch.terminated == (row % 5 == 0)).all()) and bool((batch.is_first == (row % 7 == 0)).all())
        assert bool((batch.is_valid == (row % 11 != 0)).all())


@pytest.mark.parametrize("core", POLICY_KWARGS)
@pytest.mark.parametrize("truncates", [False, True])
def test_it_runs_and_the_stored_memory_is_that_of_who_acted(core: str, truncates: bool) -> None:
    model = model_of(core, toy={"truncates": truncates}, learning_starts=10_000).learn(200)
    batch = model.replay_buffer.windows(12)  # nothing has been learnt: a window's values are those that acted
    net = model.policy.q_net
    state = net.cell.unpack(batch.memory)
    together = model._values(net, batch)
    for t in range(12):
        read, state = net.read_step(batch.observations[t], state, batch.is_first[t : t + 1], None)
        if t >= model.burn_in:
            torch.testing.assert_close(net.q_net(read), together[t - model.burn_in], atol=1e-5, rtol=1e-4)
    assert finite(model_of(core, toy={"truncates": truncates}).learn(200))


def test_the_loss_is_that_of_every_row_by_hand() -> None:
    model = model_of(toy={"length": 5, "truncates": True}, double_q=False, learning_starts=10_000).learn(150)
    batch = model.replay_buffer.windows(6)
    values, after = (model._values(net, batch).detach() for net in (model.q_net, model.q_net_target))
    total, count = 0.0, 0
    for t in range(model.train_length):
        for m in range(6):
            row = model.burn_in + t
            if batch.is_first[row + 1, m] and not batch.terminated[row, m]:
                continue  # cut by time: what it led to is not in the window
            ahead = 0.0 if batch.terminated[row, m] else model.gamma * float(after[t + 1, m].max())
            off = abs(float(values[t, m, batch.actions[row, m]]) - float(batch.rewards[row, m]) - ahead)
            total, count = total + (0.5 * off * off if off < 1 else off - 0.5), count + 1
    assert 0 < count < 6 * model.train_length
    assert float(model._loss(batch).detach()) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("core", ["gru", "hope"])
def test_it_learns_what_needs_memory(core: str) -> None:
    """Seven steps pay for the action that the first one showed: 3.5 without memory, 7 with it."""
    options = {"learning_starts": 500, "exploration_fraction": 0.5, "learning_rate": 3e-3, "gamma": 0.5}
    model = model_of(core, num_envs=4, **options, target_update_interval=200, buffer_size=20_000).learn(8_000)
    returns, _ = evaluate_policy(model, make_vec_env(Toy, 1, seed=9), 20, return_episode_rewards=True, warn=False)
    assert np.mean(returns) > 6.0


def test_memory_goes_on_where_an_action_is_drawn_at_random() -> None:
    model = model_of(learning_starts=10_000).learn(40)
    assert model.clock == 20 and model.policy.q_net.cell.pack(model.memory).abs().max() > 0
    model.exploration_rate = 1.0
    obs, state = model.env.reset(), None
    for _ in range(3):
        _, state = model.predict(obs, state)
    greedy = None
    for _ in range(3):
        _, greedy = model.predict(obs, greedy, deterministic=True)
    assert np.array_equal(state[0], greedy[0])


def test_saved_models_go_on(tmp_path: Path) -> None:
    env = make_vec_env(Toy, 2, seed=0)
    model = model_of("hope", env=env).learn(203)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay")
    later = RecurrentDQN.load(tmp_path / "model", env=env, force_reset=False)
    later.load_replay_buffer(tmp_path / "replay")
    for one, other in zip(model.memory, later.memory, strict=True):
        assert torch.equal(one, other)
    assert later.clock == model.clock == later.replay_buffer.clock and later.train_length == 8
    later.learn(100, reset_num_timesteps=False)
    assert finite(later) and later.num_timesteps >= 303
    with pytest.warns(UserWarning, match="saved with 2 streams and the environment has 3: every memory is newborn"):
        newborn = RecurrentDQN.load(tmp_path / "model", env=make_vec_env(Toy, 3))
    assert newborn.clock == 0 and not newborn.policy.q_net.cell.pack(newborn.memory).any()
    obs = model.env.reset()
    policy = type(model.policy).load(tmp_path / "policy") if model.policy.save(tmp_path / "policy") else None
    assert policy is None or np.array_equal(policy.predict(obs)[0], model.policy.predict(obs)[0])


@pytest.mark.parametrize("policy", ["HopePolicy", "HopeCnnPolicy", "HopeMultiInputPolicy"])
def test_images_dicts_one_stream_and_normalised_observations(policy: str) -> None:
    kind = {"HopePolicy": "box", "HopeCnnPolicy": "image", "HopeMultiInputPolicy": "dict"}[policy]
    env: Any = make_vec_env(Toy, 1, env_kwargs={"kind": kind, "truncates": True})
    if kind == "box":
        env = VecNormalize(env)
    assert finite(model_of(policy=policy, env=env).learn(120))


@pytest.mark.parametrize(("policy", "kind"), [("HopePolicy", "multi"), ("HopeMultiInputPolicy", "multi-dict")])
def test_multidiscrete_observations(policy: str, kind: str) -> None:
    assert finite(model_of(policy=policy, env=make_vec_env(Toy, 2, env_kwargs={"kind": kind})).learn(60))


@pytest.mark.parametrize("what", ["obs", "reward"])
def test_what_is_not_finite_is_not_learnt_from(what: str) -> None:
    model = model_of("hope", toy={"bad": (3, what)}).learn(200)
    assert finite(model) and model.nonfinite > 0
    assert bool(torch.isfinite(model.policy.q_net.cell.pack(model.memory)).all())


def test_the_same_seed_gives_the_same_weights() -> None:
    one, other = (model_of("hope").learn(150).policy.state_dict() for _ in range(2))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_wrong_uses_are_told() -> None:
    with pytest.raises(ConfigError, match="multiple of the core's clock, 8 steps"):
        model_of("hope", train_length=12)
    with pytest.raises(ConfigError, match="takes no n_steps"):
        model_of(n_steps=3)
    with pytest.raises(ConfigError, match="need at least 76"):
        model_of(buffer_size=70)
    for option, wrong in (("burn_in", -1), ("burn_in", 1.5), ("train_length", 2.5), ("batch_size", 0)):
        with pytest.raises(ConfigError, match=f"{option} must be .*an integer >= [01] .*, got {wrong}"):
            model_of(**{option: wrong})
    for policy in (HopePolicy, DQNPolicy):
        with pytest.raises(ConfigError, match=rf"cannot run a {policy.__name__}: use one of HopePolicy, .*QPolicy"):
            RecurrentDQN(policy, Toy())
    assert model_of(train_length=None).train_length == 16
