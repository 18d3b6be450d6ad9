"""Memory on disk, evaluation with memory, levels and switches in the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from nl_agents import envs
from nl_agents.errors import CheckpointError, ConfigError, StateMismatchError
from nl_agents.sb3 import (
    FastRecurrentPPO,
    LevelMonitorCallback,
    LifelongEvalCallback,
    MemoryCallback,
    RecurrentDQN,
    RecurrentSAC,
    TaskSwitchCallback,
    evaluate_policy_lifelong,
    live_memory,
    load_memory,
    save_memory,
)
from nl_agents.tasks import Cyclic
from tests.sb3.small import CRITICS, POLICY_KWARGS, Toy
from tests.sb3.small_sac import BOX
from tests.sb3.small_sac import SHORT as OFF_POLICY

SHORT: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu", "seed": 0}
ALGORITHMS = [RecurrentPPO, FastRecurrentPPO]


def never(algorithm: Any = RecurrentPPO, num_envs: int = 2, critic: str = "own") -> Any:
    kwargs = {"core": "gru", "core_kwargs": {"scope": "never"}, "lstm_hidden_size": 8, **CRITICS[critic]}
    return algorithm("HopePolicy", make_vec_env(Toy, num_envs), **SHORT, policy_kwargs=kwargs)


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_memory_survives_the_process(algorithm: Any, critic: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "memory.safetensors"
    first = never(algorithm, critic=critic).learn(32, callback=MemoryCallback(path, save_every=10))
    lived = live_memory(first)
    assert lived is not None and np.abs(lived[0]).max() > 0

    second, seen = never(algorithm, critic=critic), []
    callback = MemoryCallback(path)
    callback._on_rollout_start = lambda: seen.append(live_memory(second))  # type: ignore[method-assign]
    second.learn(32, callback=callback)
    np.testing.assert_array_equal(seen[0], lived)
    assert not np.array_equal(live_memory(second), lived)
    load_memory(second, save_memory(first, tmp_path / "again.safetensors"))
    np.testing.assert_array_equal(live_memory(second), lived)
    assert list(tmp_path.glob("*.partial")) == []


def off_policy(algorithm: Any, core: str = "hope", num_envs: int = 2) -> Any:
    space = {"space": BOX} if algorithm is RecurrentSAC else {}
    env = make_vec_env(Toy, num_envs, seed=0, env_kwargs=space)
    return algorithm("HopePolicy", env, **OFF_POLICY, policy_kwargs={**POLICY_KWARGS[core]})


@pytest.mark.parametrize("algorithm", [RecurrentDQN, RecurrentSAC])
def test_the_memory_of_off_policy_algorithms_survives_too(algorithm: Any, tmp_path: Path) -> None:
    path = tmp_path / "memory.safetensors"
    first = off_policy(algorithm).learn(40, callback=MemoryCallback(path, save_every=3))
    second, seen = off_policy(algorithm), []
    callback = MemoryCallback(path)
    callback._on_rollout_start = lambda: seen.append((second.packed(), second.clock))  # type: ignore[method-assign]
    second.learn(40, callback=callback)
    assert seen[0][1] == first.clock == 20 and torch.equal(seen[0][0], first.packed())
    assert second.clock == second.replay_buffer.clock == 40
    load_memory(second, path)
    assert second.clock == second.replay_buffer.clock == 40, "what it wrote last"
    load_memory(second, save_memory(first, tmp_path / "first.safetensors"))
    assert second.clock == 20 and second.replay_buffer.clock == 44 and torch.equal(second.packed(), first.packed())


@pytest.mark.parametrize("algorithm", [RecurrentDQN, RecurrentSAC])
def test_levels_of_off_policy_algorithms_reach_the_log(algorithm: Any) -> None:
    model, callback = off_policy(algorithm, "gru"), LevelMonitorCallback()
    model.learn(40, callback=callback)
    norms = callback.level_norms()
    assert set(norms) == ({"actor.gru", "critic.gru"} if algorithm is RecurrentSAC else {"q_net.gru"})
    name, (_, state) = next(iter(model.policy.living(model.memory).items()))
    assert norms[f"{name}.gru"] == pytest.approx(float(torch.cat(state, dim=1).norm(dim=1).mean()), rel=1e-5)
    assert model.logger.name_to_value[f"memory/{name}.gru/norm"] > 0


def test_a_model_without_memory_is_told_before_it_learns(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", Toy(), n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(StateMismatchError, match=r"PPO keeps no memory between steps; RecurrentPPO, .*RecurrentSAC do"):
        model.learn(8, callback=MemoryCallback(tmp_path / "memory.safetensors"))
    assert model.num_timesteps == 0


def test_memory_files_that_do_not_fit_are_told(tmp_path: Path) -> None:
    path = save_memory(never(), tmp_path / "memory.safetensors")
    with pytest.raises(StateMismatchError, match="same core, sizes, critic and number of streams"):
        load_memory(never(num_envs=3), path)
    with pytest.raises(StateMismatchError, match="PPO keeps no memory"):
        save_memory(PPO("MlpPolicy", Toy(), device="cpu"), path)
    with pytest.raises(CheckpointError, match="no memory can be read"):
        load_memory(never(), tmp_path / "missing.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing of ours")
    with pytest.raises(CheckpointError, match="no memory can be read"):
        load_memory(never(), tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="save_every must be None or an integer >= 1"):
        MemoryCallback(path, save_every=0)
    with pytest.raises(ValueError, match=r"eval_every must be an integer >= 1 \(vector steps\), got 0"):
        LifelongEvalCallback(Toy(), eval_every=0)
    with pytest.raises(ConfigError, match=r"the environment has none: learn in envs\.to_sb3"):
        never().learn(16, callback=TaskSwitchCallback())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evaluation_begins_with_the_memory_it_is_given(algorithm: Any) -> None:
    model = never(algorithm).learn(32)
    seen: list[Any] = []
    predict = model.policy.predict

    def watch(observation: Any, state: Any = None, *rest: Any) -> Any:
        seen.append(state)
        return predict(observation, state, *rest)

    model.predict = watch
    live = live_memory(model)
    assert live is not None
    result = evaluate_policy_lifelong(model, make_vec_env(Toy, 3, seed=0), n_eval_episodes=4)
    np.testing.assert_array_equal(seen[0][0], live[0][:, [0, 1, 0]])
    assert result.lengths == [7] * 4 and len(result.returns) == 4 and result.memory[0].shape == (1, 3, live[0].shape[2])
    np.testing.assert_array_equal(live_memory(model), live)
    seen.clear()
    evaluate_policy_lifelong(model, make_vec_env(Toy, 3, seed=0), 1, memory=result.memory)
    np.testing.assert_array_equal(seen[0], result.memory)
    seen.clear()
    newborn = evaluate_policy_lifelong(model, make_vec_env(Toy, 2, seed=0), 4, memory="newborn")
    assert seen[0] is None
    del model.predict
    stock, _ = evaluate_policy(model, make_vec_env(Toy, 2, seed=0), 4, return_episode_rewards=True)
    assert sorted(newborn.returns) == sorted(stock)
    with pytest.raises(StateMismatchError, match="PPO has no live memory"):
        evaluate_policy_lifelong(PPO("MlpPolicy", Toy(), device="cpu"), make_vec_env(Toy, 1))
    with pytest.raises(StateMismatchError, match="must be 'live', 'newborn'"):
        evaluate_policy_lifelong(model, make_vec_env(Toy, 1), memory="liev")
    with pytest.raises(ValueError, match="n_eval_episodes must be an integer >= 1"):
        evaluate_policy_lifelong(model, make_vec_env(Toy, 1), 0)


@pytest.mark.filterwarnings("ignore:a task lasts about 40 env steps")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("policy", ["HopePolicy", "FastLstmPolicy"])
def test_levels_switches_and_evaluation_reach_the_log(algorithm: Any, policy: str, tmp_path: Path) -> None:
    sequence = envs.make_sequence("cartpole-flip", num_envs=2, seed=0, schedule=Cyclic(every=40))
    kwargs = POLICY_KWARGS["hope"] if policy == "HopePolicy" else {"lstm_hidden_size": 8}
    model = algorithm(policy, VecMonitor(envs.to_sb3(sequence)), **SHORT, policy_kwargs=kwargs)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    switches = TaskSwitchCallback()
    evaluation = LifelongEvalCallback(make_vec_env("CartPole-v1", 1), eval_every=20, n_eval_episodes=1)
    model.learn(128, callback=[LevelMonitorCallback(), switches, evaluation])
    model.logger.close()
    head = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    level = "actor.memory.never" if policy == "HopePolicy" else "actor.lstm"
    assert {f"memory/{level}/norm", f"memory/{level.replace('actor', 'critic')}/norm", "task/index"} <= set(head)
    assert switches.switches == sequence.task_log and len(switches.switches) == 4
    assert len(evaluation.returns) == 3 and "eval/lifelong_return_mean" in head


def test_a_single_environment_is_evaluated_too() -> None:
    model = never(num_envs=1)
    assert evaluate_policy_lifelong(model, Toy(), 2).lengths == [7, 7]
    evaluation = LifelongEvalCallback(Toy(), eval_every=10, n_eval_episodes=1)
    model.learn(16, callback=evaluation)
    assert len(evaluation.returns) == 1


def test_evaluation_sees_what_is_normalised_as_the_model_does() -> None:
    model = FastRecurrentPPO(
        "HopePolicy", VecNormalize(make_vec_env(Toy, 2)), **SHORT, policy_kwargs=POLICY_KWARGS["gru"]
    )
    own = VecNormalize(make_vec_env(Toy, 1), training=False)
    model.learn(32, callback=LifelongEvalCallback(own, eval_every=16, n_eval_episodes=1))
    np.testing.assert_array_equal(own.obs_rms.mean, model.env.obs_rms.mean)
    assert own.ret_rms.count == model.env.ret_rms.count > 16


def test_level_norms_are_those_of_the_memory() -> None:
    model = never()
    callback = LevelMonitorCallback()
    model.learn(32, callback=callback)
    hidden = np.concatenate(live_memory(model), axis=2)[0]  # type: ignore[arg-type]
    assert callback.level_norms()["actor.gru"] == pytest.approx(np.linalg.norm(hidden, axis=1).mean(), rel=1e-5)
    plain = LevelMonitorCallback()
    PPO("MlpPolicy", Toy(), n_steps=8, batch_size=8, device="cpu").learn(8, callback=plain)
    assert plain.level_norms() == {}
