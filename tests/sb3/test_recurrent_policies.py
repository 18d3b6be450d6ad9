"""Our policies in unmodified sb3-contrib RecurrentPPO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

import nl_agents.sb3
from nl_agents.errors import ConfigError, SpaceNotSupportedError, StateMismatchError, UnknownNameError
from nl_agents.memory import CORES, make_core
from nl_agents.optim import DeepMomentum
from nl_agents.sb3 import RecurrentDQN
from nl_agents.sb3.policies import FastLstmPolicy, HopePolicy
from tests.sb3.small import CRITICS, POLICY_KWARGS, SMALL_HOPE, Toy

SHORT: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "device": "cpu", "seed": 0}


def finite(model: Any) -> bool:
    return all(bool(value.isfinite().all()) for value in model.policy.state_dict().values())


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("core", POLICY_KWARGS)
def test_it_learns_with_every_critic(core: str, critic: str) -> None:
    env = make_vec_env(Toy, 2)
    model = RecurrentPPO("HopePolicy", env, **SHORT, policy_kwargs={**POLICY_KWARGS[core], **CRITICS[critic]})
    before = [value.clone() for value in model.policy.parameters()]
    model.learn(64)
    assert finite(model)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    assert (model.policy.lstm_critic is not None) == (critic == "own")
    scores, lengths = evaluate_policy(model, env, n_eval_episodes=3, return_episode_rewards=True, warn=False)
    assert lengths == [7, 7, 7] and len(scores) == 3


@pytest.mark.parametrize("core", CORES)
def test_every_core_runs(core: str) -> None:
    model = RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs={"core": core, "lstm_hidden_size": 16})
    model.learn(32)
    assert finite(model)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Box(-1, 1, (2,), np.float32),
        spaces.MultiDiscrete([2, 3]),
    ],  # its own MultiBinary fails: bits of type int8
    ids=lambda space: type(space).__name__,
)
def test_every_action_space(space: Any) -> None:
    env = make_vec_env(Toy, 2, env_kwargs={"space": space})
    model = RecurrentPPO("HopePolicy", env, **SHORT, policy_kwargs=POLICY_KWARGS["gru"]).learn(32)
    action, state = model.predict(env.reset())
    assert all(space.contains(one) for one in action) and state is not None


def test_images_and_dicts() -> None:
    for name, kind in (("HopeCnnPolicy", "image"), ("HopeMultiInputPolicy", "dict")):
        env = make_vec_env(Toy, 2, env_kwargs={"kind": kind})
        model = RecurrentPPO(name, env, **SHORT, policy_kwargs=POLICY_KWARGS["hope"]).learn(32)
        assert finite(model)


def test_sde_normalised_observations_and_cut_episodes() -> None:
    box = spaces.Box(-1, 1, (2,), np.float32)
    env = VecNormalize(make_vec_env(Toy, 2, env_kwargs={"space": box, "truncates": True}))
    model = RecurrentPPO("HopePolicy", env, **SHORT, use_sde=True, policy_kwargs=POLICY_KWARGS["hope"]).learn(64)
    assert finite(model)


@pytest.mark.parametrize("core", POLICY_KWARGS)
def test_saved_models_and_policies_keep_their_sizes(core: str, tmp_path: Path) -> None:
    kwargs = {**POLICY_KWARGS[core], "shared_lstm": True, "enable_critic_lstm": False}
    model = RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs=kwargs).learn(32)
    model.save(tmp_path / "model")
    model.policy.save(str(tmp_path / "policy"))
    loaded = RecurrentPPO.load(tmp_path / "model", device="cpu")
    policy = HopePolicy.load(str(tmp_path / "policy"), device="cpu")
    observation, state = np.zeros((2, 3), np.float32), None
    for _ in range(3):
        action, after = model.predict(observation, state, deterministic=True)
        for other in (loaded, policy):
            again, theirs = other.predict(observation, state, deterministic=True)
            np.testing.assert_array_equal(action, again)
            np.testing.assert_array_equal(after, theirs)
        state = after


def test_never_levels_outlive_an_episode_and_episode_levels_do_not() -> None:
    observation = np.ones((1, 3), np.float32)
    for scope in ("episode", "never"):
        kwargs = {"core": "gru", "core_kwargs": {"scope": scope}, "lstm_hidden_size": 16}
        model = RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs=kwargs)
        _, lived = model.predict(observation, None, np.array([True]))
        _, fresh = model.predict(observation, None, np.array([True]))
        _, after = model.predict(observation, lived, np.array([True]))
        assert np.array_equal(after, fresh) == (scope == "episode")
    model = RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs=POLICY_KWARGS["hope"]).learn(32)
    cell = model.policy.lstm_actor
    memory = cell.from_host(model._last_lstm_states.pi, torch.float32)
    assert memory.phase.tolist() == [32 % 8], "the clock goes on over episodes"
    assert memory.delta[:, 1].abs().max() > 0


def test_the_default_state_is_small() -> None:
    model = RecurrentPPO("HopePolicy", "CartPole-v1", n_steps=8, device="cpu")
    assert model.policy.lstm_actor.state_size <= 8192
    assert {row.name for row in model.policy.levels()} >= {"actor.memory.never", "critic.memory.episode"}


def test_a_number_that_is_not_finite_never_enters_memory() -> None:
    model = RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs=POLICY_KWARGS["hope"])
    good, bad = np.ones((1, 3), np.float32), np.full((1, 3), np.nan, np.float32)
    _, state = model.predict(good)
    action, after = model.predict(bad, state)
    assert model.action_space.contains(int(action[0])) and np.isfinite(after).all()
    cell = model.policy.lstm_actor
    one, other = (cell.from_host(tuple(map(torch.from_numpy, s)), torch.float32) for s in (state, after))
    torch.testing.assert_close(one.level_key, other.level_key, rtol=0, atol=0)
    env = make_vec_env(Toy, 2, env_kwargs={"bad": (3, "obs")})
    for critic in CRITICS.values():
        kwargs = {**POLICY_KWARGS["hope"], **critic}
        assert finite(RecurrentPPO("HopePolicy", env, **SHORT, policy_kwargs=kwargs).learn(64))


def test_deep_optimizer_as_optimizer_class(tmp_path: Path) -> None:
    kwargs = {**POLICY_KWARGS["gru"], "optimizer_class": DeepMomentum}
    model = RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs=kwargs).learn(32)
    assert isinstance(model.policy.optimizer, DeepMomentum) and finite(model)
    model.save(tmp_path / "model")
    loaded = RecurrentPPO.load(tmp_path / "model", env=Toy(), device="cpu")
    loaded.learn(32)
    assert finite(loaded)


def test_wrong_options_are_told() -> None:
    with pytest.raises(ConfigError, match=r"no lstm_kwargs and no n_lstm_layers.*core=.*FastLstmPolicy"):
        RecurrentPPO("HopePolicy", Toy(), policy_kwargs={"n_lstm_layers": 2, "lstm_kwargs": {}})
    with pytest.raises(UnknownNameError, match="did you mean 'gru'"):
        RecurrentPPO("HopePolicy", Toy(), policy_kwargs={"core": "gruu"})
    with pytest.raises(ConfigError, match=r"core must be a name .* or a callable core\(input_size=, width=\), got 3"):
        RecurrentPPO("HopePolicy", Toy(), policy_kwargs={"core": 3})
    with pytest.raises(AttributeError, match="it has FastLstmCnnPolicy"):
        _ = nl_agents.sb3.HopPolicy


def test_a_policy_that_cannot_see_a_space_names_the_one_that_can() -> None:
    with pytest.raises(SpaceNotSupportedError, match=r"HopePolicy cannot see the Dict .* 'HopeMultiInputPolicy'"):
        RecurrentPPO("HopePolicy", Toy(kind="dict"))
    with pytest.raises(SpaceNotSupportedError, match=r"HopeCnnPolicy cannot see the Dict .*'HopeMultiInputPolicy'"):
        RecurrentPPO("HopeCnnPolicy", Toy(kind="dict"))
    with pytest.raises(SpaceNotSupportedError, match=r"expects a Dict and .* take 'HopePolicy' for vectors"):
        RecurrentPPO("HopeMultiInputPolicy", Toy())
    with pytest.raises(SpaceNotSupportedError, match=r"FastLstmPolicy cannot see the Dict .*'FastLstmMulti"):
        RecurrentPPO("FastLstmPolicy", Toy(kind="dict"))
    with pytest.raises(SpaceNotSupportedError, match=r"RecurrentQPolicy cannot see the Dict .*'HopeMultiInputPolicy'"):
        RecurrentDQN("HopePolicy", Toy(kind="dict"))
    with pytest.raises(SpaceNotSupportedError, match=r"expects a Dict and .* take 'HopePolicy' for vectors"):
        RecurrentDQN("HopeMultiInputPolicy", Toy())


def test_predict_is_told_of_as_many_streams_as_it_remembers() -> None:
    small: dict[str, Any] = {"policy_kwargs": POLICY_KWARGS["gru"], "device": "cpu"}
    for model in (
        RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs=POLICY_KWARGS["gru"]),
        RecurrentDQN("HopePolicy", Toy(), **small),
    ):
        _, state = model.predict(np.zeros((3, 3), np.float32))
        for shown in (np.zeros(3, np.float32), np.zeros((1, 3), np.float32), np.zeros((6, 3), np.float32)):
            with pytest.raises(StateMismatchError, match=r"given \d observations and a state of 3 streams: give"):
                model.predict(shown, state)


def test_without_contrib_the_names_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nl_agents.sb3, "_has_contrib", lambda: False)
    with pytest.raises(ModuleNotFoundError, match=r"needs sb3-contrib.*pip install 'nl-agents\[sb3\]'"):
        _ = nl_agents.sb3.FastRecurrentPPO


def test_a_core_may_be_given_as_a_callable() -> None:
    def narrow(input_size: int, width: int) -> Any:
        return make_core("gated-delta", input_size=input_size, width=width, heads=2)

    model = RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs={"core": narrow, "lstm_hidden_size": 8})
    assert finite(model.learn(16))


# ------------------------------------------------------------------ one call equals the steps


class StepByStep(HopePolicy):
    """The judge: the memory goes one step at a time, as in collection."""

    def _run(self, cell: Any, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        reads = []
        for t in range(x.shape[0]):
            part = slice(t, t + 1)
            y, state = cell.run(x[part], state, is_first[part], None if is_valid is None else is_valid[part])
            reads.append(y)
        return torch.cat(reads), state


class StockLstm(RecurrentActorCriticPolicy):
    @staticmethod
    def _process_sequence(features: Tensor, states: Any, starts: Tensor, lstm: nn.LSTM) -> Any:
        doubled = (states[0].double(), states[1].double())
        return RecurrentActorCriticPolicy._process_sequence(features, doubled, starts, lstm)


class Doubled(FlattenExtractor):
    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).double()


def after_one_update(policy: Any, kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """Parameters in float64 after one update on a rollout that all policies share."""
    kwargs = {**kwargs, "features_extractor_class": Doubled}
    env = make_vec_env(Toy, 3, seed=1, env_kwargs={"truncates": True, "length": 5})
    model = RecurrentPPO(policy, env, n_steps=24, batch_size=40, n_epochs=2, seed=3, device="cpu", policy_kwargs=kwargs)
    model.policy.double()
    model.policy.optimizer = torch.optim.Adam(model.policy.parameters(), lr=1e-3)
    _, callback = model._setup_learn(72)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 24)
    np.random.seed(5)
    model.train()
    return {name: value.detach().clone() for name, value in model.policy.state_dict().items()}


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("core", POLICY_KWARGS)
def test_one_call_a_batch_equals_the_steps_after_an_update(core: str, critic: str) -> None:
    kwargs = {**POLICY_KWARGS[core], **CRITICS[critic]}
    fused, steps = after_one_update(HopePolicy, kwargs), after_one_update(StepByStep, kwargs)
    for name, value in steps.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_fused_lstm_equals_the_stock_one_after_an_update(layers: int, critic: str) -> None:
    kwargs = {"lstm_hidden_size": 12, "n_lstm_layers": layers, **CRITICS[critic]}
    fused, stock = after_one_update(FastLstmPolicy, kwargs), after_one_update(StockLstm, kwargs)
    assert list(fused) == list(stock)
    for name, value in stock.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-9, atol=1e-10, msg=name)


def test_the_fused_lstm_lives_the_life_of_the_stock_one() -> None:
    lives = []
    for policy in ("MlpLstmPolicy", "FastLstmPolicy"):
        model = RecurrentPPO(policy, make_vec_env("CartPole-v1", 2, seed=0), **SHORT).learn(128)
        lives.append(model.policy.state_dict())
    for name, stock in lives[0].items():
        torch.testing.assert_close(lives[1][name], stock, rtol=1e-3, atol=1e-4)


def test_our_lstm_core_is_torchs_lstm() -> None:
    stock = RecurrentPPO("MlpLstmPolicy", Toy(), **SHORT, policy_kwargs={"lstm_hidden_size": 16}).policy
    ours = RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs=POLICY_KWARGS["lstm"]).policy
    weights = {name.replace("lstm_actor.", "lstm_actor.core.rnn.").replace("lstm_critic.", "lstm_critic.core.rnn."): v
               for name, v in stock.state_dict().items()}  # fmt: skip
    ours.load_state_dict(weights)
    state = None
    for starts in ([True, True], [False, False], [True, False]):
        observation = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
        actions, after = stock.predict(observation, state, np.array(starts), deterministic=True)
        same, theirs = ours.predict(observation, state, np.array(starts), deterministic=True)
        np.testing.assert_array_equal(actions, same)
        np.testing.assert_allclose(after, theirs, atol=1e-6)
        state = after


def test_padding_reaches_nothing() -> None:
    model = RecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs={"core_kwargs": SMALL_HOPE})
    policy, cell = model.policy, model.policy.lstm_actor
    features, starts = torch.randn(2, 9, cell.input_size), torch.zeros(2, 9)
    states = (torch.zeros(1, 2, cell.hidden_size), torch.zeros(1, 2, cell.hidden_size))
    reads = []
    for filler in (0.0, 7.0):
        features[1, 5:] = filler
        y, _ = policy._process_sequence(features.flatten(0, 1), states, starts.flatten(), cell)
        reads.append(y.view(2, 9, -1))
    assert torch.equal(reads[0][0], reads[1][0]) and torch.equal(reads[0][1, :5], reads[1][1, :5])


def test_recurrent_ppo_with_our_lstm_is_recurrent_ppo_with_its_own() -> None:
    """From the same first values and random numbers: the same rollouts, and weights equal to rounding.

    Timeouts are among them, and sequences that begin within episodes.
    """
    models = []
    for policy, kwargs in (("MlpLstmPolicy", {}), ("HopePolicy", {"core": "lstm"})):
        env = VecNormalize(make_vec_env("CartPole-v1", 4, seed=3, env_kwargs={"max_episode_steps": 21}))
        kwargs = {"ortho_init": False, "lstm_hidden_size": 16, "net_arch": [16], **kwargs}
        options = {"n_steps": 32, "batch_size": 128, "n_epochs": 10, "seed": 3, "device": "cpu"}
        models.append(RecurrentPPO(policy, env, **options, policy_kwargs=kwargs))
    stock, ours = models
    first = {name: value.clone() for name, value in stock.policy.state_dict().items()}
    ours.policy.load_state_dict({name: first[name.replace(".core.rnn.", ".")] for name in ours.policy.state_dict()})
    for model in models:
        torch.manual_seed(0)
        np.random.seed(0)
        model.learn(5 * 128)
    assert 21 in [episode["l"] for episode in ours.ep_info_buffer]
    one, other = stock.rollout_buffer, ours.rollout_buffer
    for name in ("observations", "actions", "episode_starts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("rewards", "values", "log_probs", "advantages", "hidden_states_pi", "cell_states_vf"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0.0, atol=1e-6)
    after = stock.policy.state_dict()
    for name, value in ours.policy.state_dict().items():
        torch.testing.assert_close(value, after[name.replace(".core.rnn.", ".")], rtol=0.0, atol=1e-6, msg=name)
        assert not torch.equal(value, first[name.replace(".core.rnn.", ".")]), name
