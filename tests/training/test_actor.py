"""The actor refuses gaps, stale states and wrong data, on an env whose every observation says where it comes from."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from nl_agents import agents, envs
from nl_agents.errors import ConfigError, EnvironmentCrashedError, NonFiniteError
from nl_agents.learning import Rollout
from nl_agents.tasks import Constant, Task
from nl_agents.tasks.testing import CountingEnv
from nl_agents.training import Agent
from nl_agents.training.actor import Actor
from tests.training.small import small_config

MODES = ["next-step", "same-step"]


def newborn(autoreset: Any = "next-step", core: str = "lstm", num_envs: int = 2, **counting: Any) -> Agent:
    """An agent on counting envs; rollouts of 16 steps."""
    env = envs.make_sequence(
        [Task("count", CountingEnv, counting)], schedule=Constant(), num_envs=num_envs, autoreset=autoreset
    )
    return newborn_on(env, core)


def newborn_on(env: gym.vector.VectorEnv[Any, Any, Any], core: str = "lstm") -> Agent:
    config = small_config()
    config.memory.core = core
    return agents.make("hope", env, seed=2, device="cpu", config=config)


def actor_of(agent: Agent) -> Actor:
    assert agent.actor is not None
    return agent.actor


def collect(agent: Agent, rollouts: int) -> list[Rollout]:
    """Several rollouts, copied: the blocks are written in place."""
    return [Rollout(*(block.clone() for block in actor_of(agent).collect()[0])) for _ in range(rollouts)]


def lived(rollouts: list[Rollout], stream: int = 0) -> list[tuple[float, ...]]:
    """Every valid transition of one stream: episode, step, first flag, reward, ends, last reward."""
    rows = []
    for rollout in rollouts:
        for t in rollout.is_valid[:, stream].nonzero().flatten().tolist():
            seen = rollout.rows[t, stream, :2].tolist()
            flags = (rollout.is_first, rollout.terminated, rollout.truncated)
            rest = (rollout.rewards[t, stream].item(), rollout.last_reward[t, stream].item())
            rows.append((*seen, *(float(flag[t, stream]) for flag in flags), *rest))
    return rows


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("autoreset", MODES)
def test_transitions_follow_one_another_without_gap_or_repetition(autoreset: str, truncate: bool) -> None:
    lengths = (3, 5, 1)
    agent = newborn(autoreset, lengths=lengths, truncate=truncate)
    rows = lived(collect(agent, 4))
    assert len(rows) == 64 if autoreset == "same-step" else 40 < len(rows) < 64
    episode, step, before = 0, 0, 0.0
    for seen_episode, seen_step, first, reward, last in ((*row[:3], *row[5:]) for row in rows):
        assert (seen_episode, seen_step, bool(first)) == (episode, step, step == 0)
        assert reward == pytest.approx((step + 1) / 1000) and last == pytest.approx(before)
        before, step = reward, step + 1
        if step == lengths[episode % 3]:
            episode, step = episode + 1, 0
    ends = [row[3:5] for row in rows if row[3] or row[4]]
    assert set(ends) == {(0.0, 1.0)} if truncate else {(1.0, 0.0)}


def test_both_autoreset_modes_give_the_same_transitions() -> None:
    one, other = (lived(collect(newborn(mode, lengths=(3, 5, 1, 2)), 4), 1) for mode in MODES)
    shorter = min(len(one), len(other))
    assert shorter > 40 and one[:shorter] == other[:shorter]


@pytest.mark.parametrize("autoreset", MODES)
def test_dummy_steps_count_for_nothing(autoreset: str) -> None:
    agent = newborn(autoreset, lengths=(3, 5, 2))
    rollouts = collect(agent, 3)
    valid = sum(int(rollout.is_valid.sum()) for rollout in rollouts)
    assert agent.num_timesteps == agent.env.clock == valid  # type: ignore[union-attr]
    for rollout in rollouts:
        dummy = ~rollout.is_valid
        assert torch.equal(rollout.trains, rollout.is_valid)
        for block in (rollout.rewards, rollout.is_first, rollout.terminated, rollout.truncated):
            assert not block[dummy].any()
    episodes = actor_of(agent).books.take()
    assert [(row.length, round(row.return_, 6)) for row in episodes[:4]] == [(3, 0.006)] * 2 + [(5, 0.015)] * 2
    assert episodes[0].begin == 0 and episodes[2].begin == 6 and episodes[2].step == 16


@pytest.mark.parametrize("autoreset", MODES)
@pytest.mark.parametrize("core", ["lstm", "hope", "feed-forward"])
def test_a_timeout_bootstraps_from_the_final_observation(autoreset: str, core: str) -> None:
    """The value of [episode, last step], seen with the memory at that time; not that of the next episode's start."""
    agent = newborn(autoreset, core, lengths=(3, 20), truncate=True)
    actor = actor_of(agent)
    rollout, clock = actor.collect()
    policy, end = agent.policy, 2
    assert rollout.truncated[end].all() and rollout.rows[end, 0, :2].tolist() == [0.0, 2.0]
    given = rollout.inputs()
    with torch.no_grad():
        _, state = policy(_steps(given, 0, end + 1), policy.core.unpack(rollout.state), clock)
        final = rollout.rows[end : end + 1].clone()
        final[..., 1] += 1.0
        last_action = policy.actions.features(rollout.actions[end : end + 1])
        flags = torch.zeros(1, 2, dtype=torch.bool)
        shown = type(given)(final, last_action, rollout.rewards[end : end + 1], flags, ~flags)
        output, _ = policy(shown, state, clock + end + 1)
    expected = output.values[0] * policy.return_scale
    torch.testing.assert_close(rollout.bootstrap_values[end], expected, atol=1e-5, rtol=1e-5)
    after = rollout.values[end + 1 + (autoreset == "next-step")]
    assert not torch.allclose(rollout.bootstrap_values[end], after)


def _steps(given: Any, start: int, stop: int) -> Any:
    return type(given)(*(block[start:stop] for block in given))


@pytest.mark.parametrize("autoreset", MODES)
def test_values_between_steps_bootstrap_from_the_next_observation(autoreset: str) -> None:
    agent = newborn(autoreset, lengths=(50,))
    first, second = collect(agent, 2)
    assert torch.equal(first.bootstrap_values[:-1], first.values[1:])
    torch.testing.assert_close(first.bootstrap_values[-1], second.values[0], atol=1e-6, rtol=1e-6)


def test_memory_at_the_start_of_a_rollout_is_where_the_last_one_ended() -> None:
    agent = newborn(lengths=(4, 7))
    actor = actor_of(agent)
    first, clock = actor.collect()
    with torch.no_grad():
        _, state = agent.policy(first.inputs(), agent.policy.core.unpack(first.state), clock)
    expected = agent.policy.core.pack(state)
    torch.testing.assert_close(actor.collect()[0].state, expected, atol=1e-5, rtol=1e-5)
    assert expected.abs().sum() > 0


@pytest.mark.parametrize("autoreset", MODES)
@pytest.mark.parametrize("nan_at", [1, 4, 6, 8])
def test_what_is_not_finite_is_refused_and_counted(autoreset: str, nan_at: int) -> None:
    """Wherever it falls: inside an episode, on its last step (3 and 8), before its second step."""
    agent = newborn(autoreset, num_envs=1, lengths=(3, 5, 20), nan_at=nan_at)
    (rollout,) = collect(agent, 1)
    actor = actor_of(agent)
    for block in rollout:
        assert block.isfinite().all()
    broken = [row for row in range(16) if rollout.is_valid[row, 0] and not rollout.trains[row, 0]]
    assert len(broken) == 1  # the step that led to it
    reward = rollout.rewards[broken[0], 0]
    assert reward == 0.0 and actor.nonfinite >= 1
    agent.learner.learn(rollout, 0)
    assert int(agent.optimizer.refused_steps) == 0


def test_a_broken_first_observation_does_not_hide_the_episodes_start() -> None:
    """The first step the policy is shown of an episode carries the first flag, even if an earlier one was refused."""

    class BadStart(CountingEnv):
        def reset(self, **options: Any) -> Any:
            seen, info = super().reset(**options)
            return np.full_like(seen, np.nan), info

    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        agent = newborn_on(SyncVectorEnv([lambda: BadStart(lengths=(4,))] * 2, autoreset_mode=mode))
        (rollout,) = collect(agent, 1)
        shown = rollout.rows[rollout.is_valid]
        assert torch.equal(rollout.is_first[rollout.is_valid], shown[:, 1] == 1.0)
        assert not (shown[:, 1] == 0.0).any()


def test_stop_on_nonfinite_ends_the_life() -> None:
    agent = newborn(nan_at=5)
    agent.config.run.on_nonfinite = "stop"
    with pytest.raises(NonFiniteError, match="were not finite and were refused"):
        agent.learn(1000)
    assert agent.num_timesteps < 64


def test_a_crash_says_when() -> None:
    agent = newborn(crash_at=9, num_envs=1)
    with pytest.raises(EnvironmentCrashedError, match="counting env was told to crash"):
        agent.learn(100)
    foreign = newborn_on(SyncVectorEnv([lambda: CountingEnv(crash_at=9)]))
    with pytest.raises(EnvironmentCrashedError, match=r"raised RuntimeError at env step 8: .*then resume") as caught:
        foreign.learn(100)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_no_autoreset_is_refused() -> None:
    env = SyncVectorEnv([CountingEnv], autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(ConfigError, match="build it with NEXT_STEP or SAME_STEP"):
        newborn_on(env)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("truncate", [False, True])
def test_gymnasiums_own_vector_envs_are_lived_in_alike(mode: AutoresetMode, truncate: bool) -> None:
    counting = {"lengths": (3, 5, 2), "truncate": truncate}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = newborn_on(SyncVectorEnv([lambda: CountingEnv(**counting)] * 2, autoreset_mode=mode))  # type: ignore[arg-type]
        ours = newborn("next-step" if mode == AutoresetMode.NEXT_STEP else "same-step", **counting)
        for one, other in zip(collect(theirs, 3), collect(ours, 3), strict=True):
            for name, mine, yours in zip(Rollout._fields, one, other, strict=True):
                if name == "rows":
                    mine, yours = mine[..., :2], yours[..., :2]  # the third column is the seed
                if name in ("rows", "rewards", "is_first", "is_valid", "trains", "terminated", "truncated"):
                    assert torch.equal(mine, yours), name


def test_switches_are_told_once() -> None:
    actor = actor_of(newborn(num_envs=3))
    flags: list[list[bool]] = [[False] * 3, [True, True, False], [False, False, True], [True, False, False]]
    notices = []
    for changed in flags:
        actor._listen(np.array(changed))
        notices.append(actor.take_notice())
    assert notices == [False, True, False, True]
    actor._listen(np.array([True, False, False]))  # the same stream again: another switch
    assert actor.take_notice() and not actor.take_notice()


@pytest.mark.parametrize("core", ["hope", "lstm"])
def test_a_saved_state_is_left_alone_by_who_takes_it_up(core: str) -> None:
    agent = newborn(core=core)
    collect(agent, 1)
    saved = actor_of(agent).state_dict()
    before = [leaf.clone() for leaf in saved["memory"]]
    actor_of(agent).load_state_dict(saved)
    collect(agent, 1)  # acting gives the memory away: it may be written in place
    assert all(torch.equal(leaf, then) for leaf, then in zip(saved["memory"], before, strict=True))
