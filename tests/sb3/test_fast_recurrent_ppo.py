"""FastRecurrentPPO: learns what RecurrentPPO learns, keeps its memory, and survives awkward sizes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from nl_agents import envs
from nl_agents.errors import ConfigError
from nl_agents.optim import DeepMomentum
from nl_agents.sb3 import FastRecurrentPPO
from tests.sb3.small import CRITICS, POLICY_KWARGS, Toy

SHORT: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "device": "cpu", "seed": 0}

EPISODIC: dict[str, dict[str, Any]] = {
    "lstm": POLICY_KWARGS["lstm"],
    "gru": POLICY_KWARGS["gru"],
    "gated-delta": {"core": "gated-delta", "core_kwargs": {"scope": "episode", "heads": 2}, "lstm_hidden_size": 16},
}


def finite(model: Any) -> bool:
    return all(bool(value.isfinite().all()) for value in model.policy.state_dict().values())


def weights(model: Any) -> list[Tensor]:
    return [value.clone() for value in model.policy.state_dict().values()]


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Doubled(FlattenExtractor):
    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).double()


def test_it_takes_what_recurrent_ppo_takes() -> None:
    options = list(inspect.signature(RecurrentPPO.__init__).parameters)[3:-1]
    defaults = {name: inspect.signature(RecurrentPPO.__init__).parameters[name].default for name in options}
    model = FastRecurrentPPO("MlpLstmPolicy", Toy(), *defaults.values())
    assert model.n_steps == 128 and model.n_epochs == 10 and model.rollout_buffer.chunk_steps == 64
    assert (
        inspect.signature(FastRecurrentPPO.learn).parameters.keys()
        == inspect.signature(RecurrentPPO.learn).parameters.keys()
    )


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("core", POLICY_KWARGS)
def test_it_learns_with_every_critic(core: str, critic: str) -> None:
    env = make_vec_env(Toy, 3, env_kwargs={"truncates": True})
    model = FastRecurrentPPO("HopePolicy", env, **SHORT, policy_kwargs={**POLICY_KWARGS[core], **CRITICS[critic]})
    before = weights(model)
    model.learn(96)
    assert finite(model) and not same(before, weights(model))
    scores, lengths = evaluate_policy(model, env, n_eval_episodes=3, return_episode_rewards=True, warn=False)
    assert lengths == [7, 7, 7] and len(scores) == 3


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("core", EPISODIC)
def test_one_update_on_everything_equals_recurrent_ppos(
    core: str, critic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One minibatch of whole streams: both take the same gradient, so the same weights come out (float64).

    Where a level outlives episodes ours also follows its gradient over their starts, which RecurrentPPO cannot.
    """
    monkeypatch.setattr(np.random, "randint", lambda high: 0)  # RecurrentPPO cuts its rollout at no further place
    kwargs = {**EPISODIC[core], **CRITICS[critic], "features_extractor_class": Doubled}
    results, rollouts = [], []
    for kind in (RecurrentPPO, FastRecurrentPPO):
        env = make_vec_env(Toy, 3, seed=1, env_kwargs={"truncates": True, "length": 5})
        options: dict[str, Any] = {"n_steps": 24, "batch_size": 72, "n_epochs": 2, "seed": 3, "device": "cpu"}
        options |= {"clip_range_vf": 0.2, "ent_coef": 0.01, "chunk_steps": 24}
        if kind is RecurrentPPO:
            del options["chunk_steps"]
        model = kind("HopePolicy", env, **options, policy_kwargs=kwargs)
        model.policy.double()
        model.policy.optimizer = torch.optim.SGD(model.policy.parameters(), lr=0.1)
        if kind is FastRecurrentPPO:
            model.reset_memory()  # in float64
            model.rollout_buffer.memory = model.rollout_buffer.memory.double()
        _, callback = model._setup_learn(72)
        model.set_logger(configure(None, []))
        torch.manual_seed(0)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 24)
        figures = ("advantages", "returns", "values", "log_probs")
        rollouts.append([torch.as_tensor(getattr(model.rollout_buffer, name)).clone() for name in figures])
        if kind is FastRecurrentPPO:  # equal but for float32's last bits; freeze one of the two
            for name, stock, ours in zip(figures, *rollouts, strict=True):
                torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-5, msg=name)
                getattr(model.rollout_buffer, name).copy_(stock)
        model.train()
        results.append(weights(model))
    for stock, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, stock, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(("n_steps", "batch_size", "chunk"), [(65, 64, None), (5, 1, None), (13, 4, 3), (7, None, 5)])
def test_awkward_sizes_bring_no_nan(n_steps: int, batch_size: int | None, chunk: int | None, num_envs: int) -> None:
    model = FastRecurrentPPO(
        "HopePolicy",
        make_vec_env(Toy, num_envs),
        n_steps=n_steps,
        batch_size=batch_size,
        chunk_steps=chunk,
        n_epochs=2,
        device="cpu",
        policy_kwargs=POLICY_KWARGS["hope"],
    )
    model.learn(2 * n_steps * num_envs)
    assert finite(model) and model.refused_steps == 0 and model.num_timesteps == 2 * n_steps * num_envs


def test_every_row_trains_once_an_epoch_and_padding_never() -> None:
    model = FastRecurrentPPO("MlpLstmPolicy", make_vec_env(Toy, 3), n_steps=10, batch_size=8, chunk_steps=4)
    model.learn(30)
    buffer = model.rollout_buffer
    batches = list(buffer.batches(8))
    trains = [slice(None) if batch.trains is None else batch.trains for batch in batches]
    returns = torch.cat([batch.returns[rows] for batch, rows in zip(batches, trains, strict=True)])
    assert len(returns) == 30 and len(batches) == 5
    assert sorted(returns.tolist()) == pytest.approx(sorted(buffer.returns[:10].flatten().tolist()))
    assert not buffer.trains[10:].any() and not buffer.is_valid[10:].any()


@pytest.mark.parametrize(
    ("n_steps", "num_envs", "batch_size", "chunk", "expected"),
    [
        (128, 16, 128, None, 16),
        (128, 16, 96, None, 32),
        (128, 16, 96, 32, 22),
        (65, 16, 128, None, 16),
        (65, 16, 128, 33, 11),
    ],
)
def test_an_epoch_takes_as_many_steps_as_the_docs_say(
    n_steps: int, num_envs: int, batch_size: int, chunk: int | None, expected: int
) -> None:
    options: dict[str, Any] = {"n_steps": n_steps, "batch_size": batch_size, "chunk_steps": chunk, "device": "cpu"}
    model = FastRecurrentPPO("MlpLstmPolicy", make_vec_env(Toy, num_envs), **options)
    length = model.rollout_buffer.chunk_steps
    assert -(-(-(-n_steps // length) * num_envs) // max(1, batch_size // length)) == expected
    model.rollout_buffer.finish(0.9, 0.9)
    assert sum(1 for _ in model.rollout_buffer.batches(batch_size)) == expected


@pytest.mark.parametrize("core", ["hope", "gru"])
def test_the_stored_memory_is_that_of_the_acting_policy(core: str) -> None:
    env = make_vec_env(Toy, 2)
    model = FastRecurrentPPO("HopePolicy", env, **SHORT, chunk_steps=5, policy_kwargs=POLICY_KWARGS[core])
    model.train = lambda: None  # type: ignore[method-assign]
    model.learn(64)
    buffer = model.rollout_buffer
    assert buffer.memory[0].abs().max() > 0, "the second rollout goes on with the memory of the first"
    for batch in buffer.batches(5):
        memory = model.policy.unpack_memory(batch.memory)
        flags = nl_flags(batch)
        values, log_probs, _ = model.policy.evaluate_sequence(batch.observations, batch.actions, memory, flags)
        rows = slice(None) if batch.trains is None else batch.trains
        torch.testing.assert_close(values[rows], batch.old_values[rows], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(log_probs[rows], batch.old_log_probs[rows], atol=1e-5, rtol=1e-4)


def nl_flags(batch: Any) -> Any:
    from nl_agents.sb3.policies import SequenceFlags

    return SequenceFlags(batch.is_first, batch.is_valid, batch.phase)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, DeepMomentum])
@pytest.mark.parametrize("core", ["hope", "lstm"])
def test_a_saved_life_goes_on_to_the_last_bit(core: str, optimizer: Any, tmp_path: Path) -> None:
    kwargs = {**POLICY_KWARGS[core], "optimizer_class": optimizer}

    def born() -> tuple[Any, Any]:
        env = make_vec_env(Toy, 2, seed=4)
        return env, FastRecurrentPPO("HopePolicy", env, **SHORT, policy_kwargs=kwargs)

    _, whole = born()
    whole.learn(128)
    env, part = born()
    part.learn(64)
    part.save(tmp_path / "part")
    torch.rand(7), np.random.rand(7)  # whoever draws between saving and loading
    loaded = FastRecurrentPPO.load(tmp_path / "part", env=env, device="cpu", force_reset=False)
    assert same([loaded.collector.packed()], [part.collector.packed()])
    loaded.learn(64, reset_num_timesteps=False)
    assert loaded.num_timesteps == 128 and same(weights(loaded), weights(whole))
    assert same([loaded.collector.packed()], [whole.collector.packed()])


def test_a_seed_that_is_given_after_loading_is_taken(tmp_path: Path) -> None:
    env = make_vec_env(Toy, 2, seed=4)
    FastRecurrentPPO("HopePolicy", env, **SHORT, policy_kwargs=POLICY_KWARGS["gru"]).learn(32).save(tmp_path / "model")

    def goes_on(given: int | None, later: int | None) -> list[Tensor]:
        options = {} if given is None else {"seed": given}
        env.seed(9)
        model = FastRecurrentPPO.load(tmp_path / "model", env=env, device="cpu", **options)
        if later is not None:
            model.set_random_seed(later)
        env.seed(9)
        return weights(model.learn(32, reset_num_timesteps=False))

    saved, given, later = goes_on(None, None), goes_on(5, None), goes_on(None, 5)
    assert same(saved, goes_on(None, None)) and same(given, goes_on(5, None)) and same(later, goes_on(None, 5))
    assert not same(saved, given) and not same(saved, later) and not same(given, goes_on(6, None))


def test_two_calls_of_learn_equal_one() -> None:
    results = []
    for parts in ([96], [32, 64]):
        model = FastRecurrentPPO(
            "HopePolicy", make_vec_env(Toy, 2, seed=4), **SHORT, policy_kwargs=POLICY_KWARGS["gru"]
        )
        for index, steps in enumerate(parts):
            model.learn(steps, reset_num_timesteps=index == 0)
        results.append(weights(model))
    assert same(*results)


def test_memory_goes_with_the_model_and_another_number_of_streams_is_told(tmp_path: Path) -> None:
    kwargs = {"core": "gru", "core_kwargs": {"scope": "never"}, "lstm_hidden_size": 8}
    model = FastRecurrentPPO("HopePolicy", make_vec_env(Toy, 2), **SHORT, policy_kwargs=kwargs).learn(32)
    model.save(tmp_path / "model")
    alone = FastRecurrentPPO.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(alone.memory_state(), model.memory_state())
    seen = np.ones((2, 3), np.float32)
    lived, _ = model.predict(seen, model.memory_state(), np.array([True, True]), deterministic=True)
    assert lived.shape == (2,)
    with pytest.warns(UserWarning, match="saved with 2 streams and the environment has 3: every memory is newborn"):
        wider = FastRecurrentPPO.load(tmp_path / "model", env=make_vec_env(Toy, 3), device="cpu")
    assert not wider.collector.packed().any()
    wider.learn(48)
    wider.reset_memory()
    assert not wider.collector.packed().any()


@pytest.mark.parametrize("what", ["obs", "reward"])
@pytest.mark.parametrize("at", [0, 3, 7])
@pytest.mark.parametrize("truncates", [False, True])
def test_what_is_not_finite_is_refused_and_counted(what: str, at: int, truncates: bool) -> None:
    env = make_vec_env(Toy, 2, env_kwargs={"bad": (at, what), "truncates": truncates})
    model = FastRecurrentPPO("HopePolicy", env, **SHORT, policy_kwargs=POLICY_KWARGS["hope"]).learn(64)
    assert finite(model) and model.refused_steps == 0
    assert bool(torch.isfinite(model.collector.packed()).all())
    if at or what == "obs":
        expected = at < 7 or truncates or what == "reward"  # the last observation of a finished episode is never used
        assert (model.collector.nonfinite > 0) == expected


@pytest.mark.parametrize("policy", ["HopePolicy", "MlpLstmPolicy"])
def test_a_memory_that_was_handed_out_stays_as_it_was(policy: str) -> None:
    """Acting changes the live memory where it lies."""
    model = FastRecurrentPPO(policy, make_vec_env(Toy, 2), **SHORT, policy_kwargs={"lstm_hidden_size": 16}).learn(16)
    handed, packed = model.memory_state(), model.collector.packed()
    kept = [part.copy() for part in handed]
    before = packed.clone()
    model.learn(32, reset_num_timesteps=False)
    assert all(np.array_equal(one, other) for one, other in zip(handed, kept, strict=True))
    assert torch.equal(packed, before) and not torch.equal(model.collector.packed(), before)


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    model = FastRecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs=POLICY_KWARGS["gru"])
    before = weights(model)
    model.policy.value_net.register_forward_hook(
        lambda module, given, value: value * torch.nan if torch.is_grad_enabled() else value
    )
    model.learn(16)
    assert same(before, weights(model)) and model.refused_steps == 2


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)],
    ids=lambda space: type(space).__name__,
)
def test_every_action_space(space: Any) -> None:
    env = make_vec_env(Toy, 2, env_kwargs={"space": space})
    assert finite(FastRecurrentPPO("HopePolicy", env, **SHORT, policy_kwargs=POLICY_KWARGS["gru"]).learn(64))


@pytest.mark.parametrize("name", ["HopeCnnPolicy", "CnnLstmPolicy", "HopeMultiInputPolicy", "MultiInputLstmPolicy"])
def test_images_and_dicts(name: str) -> None:
    env = make_vec_env(Toy, 2, env_kwargs={"kind": "image" if "Cnn" in name else "dict", "truncates": True})
    assert finite(FastRecurrentPPO(name, env, **SHORT, policy_kwargs={"lstm_hidden_size": 16}).learn(64))


def test_sde_squashed_actions_and_normalised_observations() -> None:
    box = spaces.Box(-2, 2, (2,), np.float32)
    env = VecNormalize(make_vec_env(Toy, 2, env_kwargs={"space": box, "truncates": True}))
    for options in ({"use_sde": True, "sde_sample_freq": 4}, {"use_sde": True}):
        kwargs = {**POLICY_KWARGS["gru"], "squash_output": "sde_sample_freq" not in options}
        assert finite(FastRecurrentPPO("HopePolicy", env, **SHORT, **options, policy_kwargs=kwargs).learn(64))


def test_callbacks_see_what_recurrent_ppo_shows_them() -> None:
    class Looks(BaseCallback):
        def _on_step(self) -> bool:
            assert {"new_obs", "rewards", "dones", "infos", "actions", "values"} <= self.locals.keys()
            return self.n_calls < 5

    model = FastRecurrentPPO("HopePolicy", make_vec_env(Toy, 2), **SHORT, policy_kwargs=POLICY_KWARGS["gru"])
    model.learn(64, callback=Looks())
    assert model.num_timesteps == 10 and model.collector.clock == 5
    model.learn(64, callback=EvalCallback(make_vec_env(Toy, 1), eval_freq=8, n_eval_episodes=1, verbose=0, warn=False))
    model.learn(32, reset_num_timesteps=False)
    assert model.collector.clock == 5 + 32 + 16


def test_early_stopping_and_what_is_logged(tmp_path: Path) -> None:
    kwargs = POLICY_KWARGS["gru"]
    options = {**SHORT, "n_epochs": 5, "target_kl": 1e-9, "clip_range_vf": 0.1}
    model = FastRecurrentPPO("HopePolicy", Toy(), **options, policy_kwargs=kwargs)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(48)
    model.logger.close()
    head = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    assert {"train/approx_kl", "train/clip_range_vf", "train/refused_steps", "train/loss"} <= set(head)
    assert model._n_updates == 6, "each of three rollouts stopped in its second epoch"


def test_our_sequences_are_lived_in() -> None:
    env = envs.to_sb3(envs.AugmentObservation(envs.make_sequence("cartpole-flip", num_envs=4, seed=0)))
    model = FastRecurrentPPO("HopeMultiInputPolicy", env, **SHORT, policy_kwargs=POLICY_KWARGS["hope"]).learn(128)
    assert finite(model)


def test_wrong_uses_are_told() -> None:
    with pytest.raises(ConfigError, match="RecurrentActorCriticPolicy cannot: use one of HopePolicy"):
        FastRecurrentPPO(RecurrentActorCriticPolicy, Toy())
    with pytest.raises(ConfigError, match="chunk_steps must be None or an integer >= 1"):
        FastRecurrentPPO("HopePolicy", Toy(), chunk_steps=0)
    for wrong in (2.5, "4"):
        with pytest.raises(ConfigError, match=rf"chunk_steps must be None or an integer >= 1 .*, got '?{wrong}"):
            FastRecurrentPPO("HopePolicy", Toy(), chunk_steps=wrong)  # type: ignore[arg-type]
    for option in ("n_steps", "batch_size"):
        with pytest.raises(ConfigError, match=rf"{option} must be .*an integer >= 1 .*, got 0"):
            FastRecurrentPPO("HopePolicy", Toy(), **{option: 0})
    with pytest.warns(UserWarning, match="chunk_steps=128 is lowered to 64, as a chunk lies in a rollout of n_"):
        model = FastRecurrentPPO("MlpLstmPolicy", Toy(), n_steps=256, batch_size=64, chunk_steps=128)
    assert model.rollout_buffer.chunk_steps == 64
    with pytest.raises(ConfigError, match="clip_range_vf must be > 0, got -1"):
        FastRecurrentPPO("MlpLstmPolicy", Toy(), clip_range_vf=-1)


def test_a_model_goes_from_one_algorithm_to_the_other(tmp_path: Path) -> None:
    """Weights and optimizer; the live memory only where who loads knows it."""
    for one, other in ((FastRecurrentPPO, RecurrentPPO), (RecurrentPPO, FastRecurrentPPO)):
        model = one("HopePolicy", make_vec_env(Toy, 2), **SHORT, policy_kwargs=POLICY_KWARGS["gru"]).learn(32)
        model.save(tmp_path / "model")
        loaded = other.load(tmp_path / "model", env=make_vec_env(Toy, 2), device="cpu")
        assert same(weights(model), weights(loaded))
        assert finite(loaded.learn(32, reset_num_timesteps=False))


def test_generators_of_cuda_go_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from nl_agents.sb3.random_state import random_state, set_random_state

    held, set_to = [torch.arange(8, dtype=torch.uint8), torch.ones(8, dtype=torch.uint8)], []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: held)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", set_to.extend)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    state = random_state()
    set_random_state(state)
    assert all(torch.equal(one, other) for one, other in zip(held, set_to, strict=True))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    set_random_state(state)
    assert len(set_to) == 2, "a machine without those devices has nothing to set"
