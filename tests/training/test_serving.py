"""Serving acts as the agent does, in fewer bytes and with chosen levels only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nl_agents import agents, envs, memory
from nl_agents.errors import ConfigError, NonFiniteError, StateMismatchError, UnknownNameError
from nl_agents.evaluation import run_episodes
from nl_agents.memory import make_codec, make_core
from nl_agents.training import AgentState
from nl_agents.training.resume import resume
from tests.training.small import live, small_config

CODECS = ("float32", "bf16", "int8", "low-rank:1")


@pytest.fixture(scope="module")
def agent() -> Any:
    env = envs.make_sequence("cartpole-flip:demo", num_envs=4, seed=3)
    return agents.make("hope", env, seed=5, device="cpu", config=small_config()).learn(600)


def walk(subject: Any, steps: int = 12, state: Any = None) -> tuple[np.ndarray, Any]:
    """Actions [steps, B] on fixed observations, and the last state."""
    observations = np.random.default_rng(0).normal(size=(steps, 3, 4)).astype(np.float32)
    actions = []
    for t, observation in enumerate(observations):
        action, state = subject.predict(observation, state, np.full(3, t % 5 == 0), reward=np.ones(3, np.float32))
        actions.append(action)
    return np.stack(actions), state


def test_float32_acts_exactly_as_the_agent(agent: Any) -> None:
    serving = agent.serve()
    (mine, end), (theirs, memory) = walk(serving), walk(agent)
    assert np.array_equal(mine, theirs)
    assert end.memory.dtype == np.uint8 and end.memory.shape == (3, serving.bytes_per_stream)
    assert np.array_equal(serving.codec.decode(torch.from_numpy(end.memory)).numpy(), memory.memory)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_serves_and_says_its_bytes(agent: Any, codec: str) -> None:
    serving = agent.serve(codec)
    _, state = walk(serving)
    assert state.memory.shape[1] == serving.bytes_per_stream <= agent.serve().bytes_per_stream
    episodes = run_episodes(serving, envs.make_sequence("cartpole-flip", num_envs=2, seed=0), 2, seed=7)
    assert len(episodes) == 2


def test_the_live_memory_is_taken_up(agent: Any) -> None:
    live_state = AgentState(*(leaf[:3] for leaf in agent.memory_state()))
    mine, theirs = walk(agent.serve(), state=live_state)[0], walk(agent, state=live_state)[0]
    assert np.array_equal(mine, theirs)


def test_serving_is_a_frozen_copy(agent: Any) -> None:
    serving = agent.serve(without=["core.slow.0"])
    before = walk(serving)[0]
    weights = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.policy.critic.weight.data += 1.0
    agent.policy.actor.weight.data += torch.randn_like(agent.policy.actor.weight)
    assert np.array_equal(walk(serving)[0], before)
    agent.policy.load_state_dict(weights)


def test_levels_left_out_cost_no_bytes_and_leave_the_agent_alone(agent: Any) -> None:
    whole = agent.serve()
    names = [row.name for row in agent.policy.core.levels()]
    for name in names:
        less = agent.serve(without=[name])
        acts = name.startswith("core.slow")
        assert (less.bytes_per_stream == whole.bytes_per_stream) == acts
        walk(less)
    none = agent.serve("bf16", without=names)
    _, state = walk(none)
    assert none.bytes_per_stream == 4 and state.memory.shape == (3, 4)  # the step clock
    assert np.array_equal(walk(agent.serve())[0], walk(agent)[0])


def test_heads_left_out_act_as_newborn_at_every_step(agent: Any) -> None:
    names = [row.name for row in agent.policy.core.state_levels()]
    serving = agent.serve(without=names)
    observation = np.ones((2, 4), np.float32)
    _, state = serving.predict(observation)
    first, _ = serving.predict(observation, state)
    for _ in range(20):
        again, state = serving.predict(observation, state)
    assert np.array_equal(first, again)


def test_bad_names_states_and_numbers_are_told(agent: Any) -> None:
    with pytest.raises(UnknownNameError, match="unknown state codec 'int4': did you mean 'int8'"):
        agent.serve("int4")
    with pytest.raises(UnknownNameError, match=r"unknown level 'core.slow': did you mean"):
        agent.serve(without=["core.slow"])
    with pytest.raises(ConfigError, match="rank 40 is too large"):
        agent.serve("low-rank:40")
    _, state = walk(agent.serve("bf16"))
    with pytest.raises(StateMismatchError, match="decode with the codec that encoded"):
        walk(agent.serve("int8"), state=state)
    spoilt = AgentState(*(leaf[:3].copy() for leaf in agent.memory_state()))
    spoilt.memory[2, 0] = np.nan
    with pytest.raises(NonFiniteError, match="memory of stream 2 is not finite"):
        walk(agent.serve("bf16"), state=spoilt)


def test_a_life_with_coded_replay_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.training import small

    def coded(agent: str = "hope") -> Any:
        config = small_config(agent)
        config.replay.state_codec = "int8:16"
        return config

    monkeypatch.setattr(small, "small_config", coded)
    whole = live(tmp_path / "whole", steps=900)
    live(tmp_path / "parts", steps=500)
    again = resume(tmp_path / "parts", steps=900)
    assert again.config.replay.state_codec == "int8:16"
    assert again.learner.replay.store.state.dtype == torch.uint8
    for mine, theirs in zip(again.policy.parameters(), whole.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_life_refuses_a_codec_that_cannot_work() -> None:
    config = small_config()
    config.replay.state_codec = "low-rank:30"
    with pytest.raises(ConfigError, match="rank 30 is too large"):
        agents.make("hope", envs.make_sequence("cartpole-flip", num_envs=2), device="cpu", config=config)


def test_a_memory_that_ran_away_is_refused_by_replay_and_stops_a_life_that_asks_for_it(tmp_path: Path) -> None:
    config = small_config()
    config.run.on_nonfinite = "stop"
    env = envs.make_sequence("cartpole-flip", num_envs=4, seed=3)
    agent = agents.make("hope", env, seed=5, device="cpu", config=config)
    agent.learn(100)
    agent.actor.state.delta[1].fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="chunks for replay before env step"):
        agent.learn(100)
    assert agent.learner.refused_chunks >= 1
    assert bool(agent.learner.replay.store.state.isfinite().all())


def test_the_page_has_its_figures_and_its_code_runs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "state.md").read_text("utf-8")
    core = make_core("hope", input_size=64, width=64)
    rows = re.findall(r"^\| `([\w:-]+)` \|.*\| ([\d,]+) \|$", page, flags=re.MULTILINE)
    assert len(rows) == 6 and {name.partition(":")[0] for name, _ in rows} == set(memory.CODECS)
    for name, figure in rows:
        assert make_codec(name, core).bytes_per_stream == int(figure.replace(",", ""))
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(block.replace("100_000", "2_048"), "state.md", "exec"), {"__name__": "page"})
