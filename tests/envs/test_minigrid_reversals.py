"""The MiniGrid suites whose rewards turn: what pays, and that nothing seen tells which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nl_agents import envs
from nl_agents.envs.minigrid_memory_switch import make_memory
from nl_agents.envs.two_goals_room import make_two_goals

LEFT, RIGHT, FORWARD = 0, 1, 2


def walk(env: Any, actions: list[int]) -> tuple[list[float], bool]:
    rewards, ended = [], False
    for action in actions:
        assert not ended
        _, reward, ended, _, _ = env.step(action)
        rewards.append(float(reward))
    return rewards, ended


@pytest.mark.parametrize("paying", [0, 1])
def test_one_goal_pays_and_both_end_the_episode(paying: int) -> None:
    for side, turn in enumerate((LEFT, RIGHT)):
        room, wide = make_two_goals(paying=paying), make_two_goals(paying=paying, width=15, height=11, view=5, pay=5.0)
        for env, up, across, pay in ((room, 4, 3, 1 - 0.9 * 8 / 100), (wide, 8, 6, 5.0)):
            env.reset(seed=0)
            rewards, ended = walk(env, [FORWARD] * up + [turn] + [FORWARD] * across)
            assert ended and rewards[:-1] == [0] * (up + across)
            assert rewards[-1] == pytest.approx(pay if side == paying else 0.0)


def test_both_goals_are_in_sight_and_the_start_tells_nothing() -> None:
    one, other = make_two_goals(paying=0), make_two_goals(paying=1)
    (seen, told), (same, also) = one.reset(seed=0), other.reset(seed=1)
    assert (seen["image"][..., 0] == 8).sum() == 2  # MiniGrid's code of a goal
    np.testing.assert_array_equal(seen["image"], same["image"])
    assert (seen["direction"], told) == (same["direction"], also)
    assert one.action_space.n == 3


def test_a_swap_comes_after_500_episodes() -> None:
    sequence = envs.make_sequence("minigrid-goal-reversal", num_envs=16, autoreset="same-step")
    sequence.reset(seed=0)
    route, ended, swaps = [FORWARD] * 4 + [LEFT] + [FORWARD] * 3, 0, [0]
    for step in range(8 * 70):
        _, reward, terminated, _, _ = sequence.step(np.full(16, route[step % 8]))
        before, ended = ended, ended + int(terminated.sum())
        swaps += [sequence.clock] if before // 500 < ended // 500 else []
        if step % 8 == 7:
            pays = before % 1000 < 500
            assert terminated.all() and (reward > 0).all() == pays == (reward > 0).any()
    assert sequence.task_log == [(at, ("left-pays", "right-pays")[i % 2]) for i, at in enumerate(swaps)]
    assert len(swaps) == 3


@pytest.mark.parametrize("size", ["S7", "S11"])
def test_the_other_rule_pays_at_the_other_object(size: str) -> None:
    for seed in range(6):
        match, other = make_memory(size, "match"), make_memory(size, "other")
        (seen, _), (same, _) = match.reset(seed=seed), other.reset(seed=seed)
        np.testing.assert_array_equal(seen["image"], same["image"])
        here, there = match.unwrapped, other.unwrapped
        assert here.success_pos == there.failure_pos and here.failure_pos == there.success_pos
        for env, pays in ((match, True), (other, False)):
            env.unwrapped.agent_pos = here.success_pos
            _, reward, terminated, _, _ = env.step(LEFT)
            assert terminated and (reward > 0) == pays


@pytest.mark.parametrize("rule", ["match", "other"])
def test_from_the_first_room_the_object_is_in_sight(rule: str) -> None:
    maze, kinds = make_memory("S7", rule, seen=True), set()
    for seed in range(12):
        shown, _ = maze.reset(seed=seed)
        world = maze.unwrapped
        kind = world.grid.get(1, world.height // 2 - 1).type
        kinds.add(kind)
        assert {"key": 5, "ball": 6}[kind] in shown["image"][..., 0]
    assert kinds == {"key", "ball"}


@pytest.mark.parametrize("name", ["minigrid-goal-reversal", "minigrid-memory-switch"])
def test_there_is_one_backend(name: str) -> None:
    with pytest.raises(ValueError, match="Python MiniGrid only, got backend='envpool'; use 'auto'"):
        envs.make_sequence(name, backend="envpool")
