"""RecurrentSAC lives, remembers and is saved; what it is given and what it refuses."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize

from nl_agents.errors import ConfigError, StateMismatchError
from nl_agents.sb3 import RecurrentDQN, RecurrentSAC, evaluate_policy_lifelong
from nl_agents.sb3.sequence_replay import SequenceReplay
from tests.sb3.small import POLICY_KWARGS, Toy
from tests.sb3.small_sac import BOX, KWARGS, SHORT, batch_of, finite, model_of, toys

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


def test_a_step_after_which_a_callback_stops_is_kept_too() -> None:
    """Else the replay's clock would fall behind the memory's."""

    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 5

    model = model_of("hope", learning_starts=10_000).learn(100, callback=Stop())
    assert model.clock == model.replay_buffer.clock == 5
    model.learn(80, reset_num_timesteps=False)
    batch = batch_of(model, 12)
    stored, _ = model.policy.split(batch.memory)
    assert model.clock == model.replay_buffer.clock == 45
    assert np.flatnonzero(model.replay_buffer.begins[:, 0]).tolist() == list(range(0, 45, 7))  # the episode went on
    assert bool((model.policy.actor.cell.unpack(stored).phase % 8 == 0).all())


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
    with pytest.warns(UserWarning, match="every memory is newborn"):
        later = RecurrentSAC.load(tmp_path / "model", env=toys(3))
    assert later.ent_coef_optimizer is None and float(later._alpha()) == pytest.approx(0.1)
    assert later.clock == 0 and not later.policy.pack_memory(later.memory).any()  # another number of streams: newborn
    model.policy.save(tmp_path / "policy")
    policy, obs = type(model.policy).load(tmp_path / "policy"), model.env.reset()
    assert np.array_equal(policy.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])


def test_a_replay_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = model_of("hope", train_freq=1, learning_starts=10_000).learn(60)
    model.save_replay_buffer(tmp_path / "replay")
    other, before = model_of("hope", train_length=16), model.replay_buffer.clock
    own = other.replay_buffer
    with pytest.raises(StateMismatchError, match=r"= \(8, 11, 2, .*and the model \(16, 19, 2"):
        other.load_replay_buffer(tmp_path / "replay")
    assert other.replay_buffer is own
    model.load_replay_buffer(tmp_path / "replay")
    assert model.replay_buffer.clock == before


def test_the_replay_of_another_life_is_learnt_from_and_the_memory_keeps_its_clock(tmp_path: Path) -> None:
    model = model_of("hope", learning_starts=10_000).learn(120)
    model.save_replay_buffer(tmp_path / "replay")
    other = model_of("hope", learning_starts=10_000)
    other.load_replay_buffer(tmp_path / "replay")
    replay = other.replay_buffer
    assert model.clock == 60 and other.clock == 0 and replay.clock == 64
    assert not replay.sound[60:64].any() and replay.begins[60:64].all() and replay.sound[:60].all()
    other.learn(60)
    assert other.clock == 32 and replay.clock == 96 and replay.sound[64:96].all()
    stored, _ = other.policy.split(replay.windows(50).memory)
    assert bool((other.policy.actor.cell.unpack(stored).phase % 8 == 0).all())
    gru = model_of(learning_starts=10_000).learn(60)
    gru.save_replay_buffer(tmp_path / "gru")
    later = model_of()
    later.load_replay_buffer(tmp_path / "gru")
    assert later.replay_buffer.clock == 33, "one step at least lies between, as nothing leads from life to life"


@pytest.mark.parametrize("core", KWARGS)
def test_a_checkpoint_holds_the_step_that_callbacks_are_told_of(core: str, tmp_path: Path) -> None:
    env = toys()
    checkpoints = CheckpointCallback(32, str(tmp_path), save_replay_buffer=True)
    model = model_of(core, env=env, learning_starts=10_000).learn(64, callback=checkpoints)
    assert model.clock == model.replay_buffer.clock == 32, "stored once"
    later = RecurrentSAC.load(tmp_path / "rl_model_64_steps", env=env, force_reset=False)
    later.load_replay_buffer(tmp_path / "rl_model_replay_buffer_64_steps")
    assert later.clock == later.replay_buffer.clock == 32 and later.replay_buffer.sound[:32].all()
    assert np.array_equal(later._last_obs, model._last_obs)
    assert np.array_equal(later.replay_buffer.begins, model.replay_buffer.begins)
    later.learn(80, reset_num_timesteps=False)
    assert later.clock == later.replay_buffer.clock == 72
    assert np.flatnonzero(later.replay_buffer.begins[:, 0]).tolist() == list(range(0, 72, 7))


def test_a_step_that_an_error_broke_off_is_left_out_of_the_replay() -> None:
    model = model_of("hope", learning_starts=10_000, train_freq=1).learn(20)
    step = model.env.step
    model.env.step = lambda actions: 1 / 0
    with pytest.raises(ZeroDivisionError):
        model.learn(20, reset_num_timesteps=False)
    model.env.step = step
    model.learn(20, reset_num_timesteps=False)
    assert model.clock == model.replay_buffer.clock == 21
    assert np.flatnonzero(~model.replay_buffer.sound[:21, 0]).tolist() == [10]


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


@pytest.mark.parametrize(("policy", "kind"), [("HopePolicy", "multi"), ("HopeMultiInputPolicy", "multi-dict")])
def test_multidiscrete_observations(policy: str, kind: str) -> None:
    assert finite(model_of(policy=policy, env=toys(2, kind=kind)).learn(60))


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
    with pytest.raises(ConfigError, match="burn_in must be an integer >= 0"):
        model_of(burn_in=-1)
    with pytest.raises(AssertionError, match="Box"):
        model_of(env=make_vec_env(Toy, 1))
    assert model_of(train_length=None).train_length == 16
