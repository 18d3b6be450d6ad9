"""The nest is whole: every parameter and every number of an agent's state stands in exactly one row."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from nl_agents import agents, envs
from nl_agents.errors import NlAgentsError
from nl_agents.memory import CORES
from nl_agents.training.nest import make_nest
from nl_agents.training.owners import Owners, count_numbers, leaves
from nl_agents.types import NestRow, nest_cells
from tests.training.small import small_config

LEARNT_STEPS = 400


def make(name: str, core: str | None = None, steps: int = 0) -> Any:
    level = "task-id" if agents.spec(name).needs_task_id else "notified"
    env = envs.make_sequence("cartpole-flip:demo", num_envs=4, seed=3, info=level)
    config = small_config(name)
    if core is not None:
        config.memory.core = core
    agent = agents.make(name, env, seed=5, device="cpu", config=config)
    return agent.learn(steps) if steps else agent


@pytest.fixture(scope="module")
def hope() -> Any:
    return make("hope", steps=LEARNT_STEPS)


def rows(agent: Any) -> dict[str, NestRow]:
    nest = agent.nest()
    found = {row.level.name: row for row in nest}
    assert len(found) == len(nest), "two rows of one name"
    return found


def assert_whole(agent: Any) -> None:
    """No orphan and no double: numbers of all rows add up to the numbers of the whole state."""
    state = {**agent.state_dict(), "steering": None}
    total = sum(int(np.prod(tuple(leaf.shape), dtype=np.int64)) for _, leaf in leaves(state))
    control = sum(row.numbers for name, row in rows(agent).items() if name.startswith("control"))
    assert sum(row.numbers for row in agent.nest()) - control == total
    of_level = [id(parameter) for level in agent.scheduler.levels for parameter in level.parameters]
    of_optimizer = [id(parameter) for group in agent.optimizer.param_groups for parameter in group["params"]]
    apart = {id(one) for name, one in agent.policy.named_parameters() if name.startswith("permanent.")}
    own = sorted({id(parameter) for parameter in agent.policy.parameters()} - apart)
    assert own == sorted(of_level) == sorted(of_optimizer)


@pytest.mark.parametrize("name", list(agents.AGENTS))
@pytest.mark.parametrize("steps", [0, LEARNT_STEPS])
def test_every_number_of_every_agent_stands_in_one_row(name: str, steps: int) -> None:
    assert_whole(make(name, steps=steps))


@pytest.mark.parametrize("core", CORES)
def test_every_number_of_every_core_stands_in_one_row(core: str) -> None:
    agent = make("hope", core)
    assert_whole(agent)
    for row in agent.policy.core.state_levels():
        assert rows(agent)[row.name].numbers > 0


def test_every_tensor_that_learning_writes_stands_in_the_row_that_says_so(hope: Any) -> None:
    """From outside: what two moments of a life differ in belongs to levels that are written, never to ``fixed``."""
    other = make("hope", steps=LEARNT_STEPS + 200)
    owners, late = Owners(hope), dict(leaves({**other.state_dict(), "steering": None}))
    moved: set[str] = set()
    for path, leaf in leaves({**hope.state_dict(), "steering": None}):
        if not np.array_equal(np.asarray(leaf), np.asarray(late[path])):
            owner = owners.owner(path, leaf)
            moved |= {owner} if isinstance(owner, str) else {name for name, _ in owner}
    assert "fixed" not in moved
    assert moved >= {"core.memory.episode", "core.memory.never", "core.fast", "weights", "core.slow.0", "core.slow.1"}
    assert moved >= {"optimizer.weights.momentum.1", "optimizer.weights.memory", "optimizer.core.slow.0.momentum.10"}
    assert moved >= {"core.slow.1.sum", "replay.recent", "replay.reservoir", "scales", "stream", "books", "chance"}


def test_counts_are_those_that_the_levels_promise(hope: Any) -> None:
    found, core = rows(hope), hope.policy.core
    for name, period in hope.scheduler.periods().items():
        level = next(one for one in hope.scheduler.levels if one.name == name)
        numbers, tensors = sum(p.numel() for p in level.parameters), len(level.parameters)
        assert found[name].numbers == numbers and f"{numbers} weights" in found[name].level.stores
        prefix = f"optimizer.{name}"
        assert found[f"{prefix}.momentum.1"].numbers == numbers + tensors
        for part in ("scale", "momentum.10", "momentum.100"):
            assert found[f"{prefix}.{part}"].numbers == numbers
            assert f"{numbers:,} floats" in found[f"{prefix}.{part}"].level.stores
        assert found[f"{prefix}.memory"].numbers == 15 * tensors
        assert found[f"{prefix}.gate"].numbers == 4 * tensors
        assert (f"{name}.sum" in found) == (period > 1)
    streams = 4
    memories = [row.name for row in core.state_levels()]
    assert sum(found[name].numbers for name in memories) + streams == streams * core.state_size
    assert found["clocks"].numbers == streams
    assert found["replay.recent"].numbers * 2 == found["replay.reservoir"].numbers  # 4 and 8 chunks


def test_rows_go_from_fast_to_slow_on_one_clock(hope: Any) -> None:
    nest = hope.nest()
    learning = [row for row in nest if row.level.objective != "none"]
    assert [row.every for row in learning] == sorted(row.every for row in learning)
    found = rows(hope)
    # rollouts of 16 steps hold 2 epochs of 2 minibatches: an update for every 4 env steps of a stream
    assert found["core.memory.never"].every == 1 and found["core.fast"].every == 8
    assert found["weights"].every == 4 and found["core.slow.1"].every == 64
    assert found["optimizer.core.slow.1.momentum.10"].every == 640
    assert found["optimizer.weights.memory"].level.period == 14  # every 7th first-epoch minibatch, of 2 epochs
    assert found["replay.recent"].every == 16 and found["control"].every == 5 * 16 * 4
    assert math.isinf(found["fixed"].every)


def test_a_period_that_the_controller_moved_is_the_one_shown(hope: Any) -> None:
    agent = make("hope")
    agent.scheduler.set_period("core.slow.0", 8)
    assert rows(agent)["core.slow.0"].level.period == 8
    assert rows(agent)["optimizer.core.slow.0.momentum.10"].level.period == 80


def test_the_printed_nest_says_what_each_level_is(hope: Any) -> None:
    nest = hope.nest()
    text = str(nest)
    assert len(text.splitlines()) == len(nest) + 2
    for row in nest:
        assert all(cell in text for cell in nest_cells(row))
    cells = nest_cells(rows(hope)["core.slow.1"])
    assert cells[1] == "DeepMomentum" and cells[6] == "16 learner updates (~ 64 env steps)"
    assert nest_cells(rows(hope)["fixed"])[6] == "never"


def test_the_levels_of_the_agent_are_rows_of_its_nest(hope: Any) -> None:
    found = rows(hope)
    assert all(found[level.name].level == level for level in hope.levels())


def test_an_agent_without_streams_has_a_nest_too(hope: Any) -> None:
    lonely = agents.AGENTS["hope"] and type(hope)("hope", None, small_config(), device="cpu", spaces=hope.spaces)
    assert "stream" not in rows(lonely) and rows(lonely)["core.fast"].numbers == 0


def test_what_belongs_to_nobody_is_told(hope: Any) -> None:
    owners = Owners(hope)
    with pytest.raises(NlAgentsError, match=r"learner.dreams of the agent's state belongs to no level: add a rule"):
        owners.owner(("learner", "dreams"), torch.zeros(3))
    with pytest.raises(NlAgentsError, match=r"optimizer.state.0.moods of the agent's state belongs to no level"):
        owners.owner(("optimizer", "state", "0", "moods"), torch.zeros(3))

    class Doubled(type(hope)):  # type: ignore[misc]
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "new": {"part": torch.zeros(2)}}

    strange = copy.copy(hope)
    strange.__class__ = Doubled
    with pytest.raises(NlAgentsError, match=r"new.part of the agent's state"):
        make_nest(strange)


def test_numbers_that_two_levels_claim_are_told(hope: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.ones(hope.actor.state.delta.shape, bool)
    monkeypatch.setattr(Owners, "_of_actor", lambda *_: [("core.fast", whole), ("core.memory.never", whole)])
    with pytest.raises(NlAgentsError, match=r"actor.rows|belong to no level or to two"):
        count_numbers(hope)
