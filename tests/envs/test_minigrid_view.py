"""MiniGrid without its mission, saved in the middle of anything."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest

from nl_agents.envs.minigrid_recurring import TASKS
from nl_agents.envs.minigrid_view import OBSERVATION_SPACE, make_minigrid
from nl_agents.errors import StateMismatchError
from nl_agents.tasks.env_state import get_env_state, keeps_state, set_env_state

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)
IDS = [f"MiniGrid-{name}-v0" for name in (*TASKS, "MemoryS7", "KeyCorridorS3R1")]


@pytest.mark.parametrize("env_id", IDS[:-1])
def test_it_shows_what_minigrid_shows_but_the_mission(env_id: str) -> None:
    view, plain = make_minigrid(env_id), gym.make(env_id)
    assert view.observation_space == OBSERVATION_SPACE and view.action_space == plain.action_space
    seen, expected = view.reset(seed=3)[0], plain.reset(seed=3)[0]
    random = np.random.default_rng(0)
    for _ in range(60):
        assert set(seen) == {"image", "direction"}
        np.testing.assert_array_equal(seen["image"], expected["image"])
        assert seen["direction"] == expected["direction"]
        action = int(random.integers(7))
        (seen, *outcome), (expected, *wanted) = view.step(action), plain.step(action)
        assert outcome[:3] == wanted[:3]
        if outcome[1] or outcome[2]:
            seen, expected = view.reset()[0], plain.reset()[0]


@pytest.mark.parametrize("env_id", IDS[:-1])
def test_a_running_episode_goes_on_exactly(env_id: str) -> None:
    random = np.random.default_rng(1)
    for moment in (0, 1, 30, 80):
        old, new = make_minigrid(env_id), make_minigrid(env_id)
        assert keeps_state(old)
        old.reset(seed=2)
        for _ in range(moment):
            if any(old.step(int(random.integers(7)))[2:4]):
                old.reset()
        state = copy.deepcopy(get_env_state(old))
        set_env_state(new, state)
        ended = 0
        for _ in range(400):
            action = int(random.integers(7))
            one, other = old.step(action), new.step(action)
            np.testing.assert_array_equal(one[0]["image"], other[0]["image"])
            assert one[0]["direction"] == other[0]["direction"] and one[1:4] == other[1:4]
            if one[2] or one[3]:
                ended += 1
                np.testing.assert_array_equal(old.reset()[0]["image"], new.reset()[0]["image"])
        assert ended


def test_a_carried_key_and_an_open_door_are_kept() -> None:
    old, new = make_minigrid("MiniGrid-DoorKey-5x5-v0"), make_minigrid("MiniGrid-DoorKey-5x5-v0")
    old.reset(seed=0)
    world = old.unwrapped
    key = next(cell for cell in world.grid.grid if cell is not None and cell.type == "key")
    door = next(cell for cell in world.grid.grid if cell is not None and cell.type == "door")
    world.grid.set(*key.cur_pos, None)
    world.carrying = key
    door.is_locked, door.is_open = False, True
    set_env_state(new, get_env_state(old))
    twin = new.unwrapped
    assert twin.carrying.type == "key" and twin.carrying is not key
    assert twin.grid == world.grid and twin.grid.get(*door.cur_pos).is_open
    assert twin.agent_pos == tuple(world.agent_pos) and isinstance(twin.agent_pos, tuple)
    new.step(LEFT)
    assert (old.unwrapped.step_count, new.unwrapped.step_count) == (0, 1)  # nothing is shared


def test_what_cannot_be_saved_is_refused() -> None:
    env = make_minigrid(IDS[-1])  # remembers the object to fetch, not its place
    env.reset(seed=0)
    with pytest.raises(StateMismatchError, match=r"KeyCorridorEnv keeps .*obj.*no checkpoint can hold"):
        env.get_state()
