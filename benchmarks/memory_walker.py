"""A script that does in MiniGrid's Memory mazes what an agent with a memory should: look, keep in mind, walk, choose.

It knows where it is and how the maze lies, which no agent is told, but not the object of the first room until it has
been in sight: where it is not at the start, the script turns round, walks until it is, and turns back. So its return is
what a policy can reach, and stands as the expert where no agent that we trained comes near (``benchmarks.references``).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from nl_agents.envs.minigrid_memory_switch import make_memory
from nl_agents.envs.minigrid_view import make_minigrid

LEFT, RIGHT, FORWARD = 0, 1, 2  # MiniGrid's actions
EAST, SOUTH, NORTH = 0, 1, 3  # MiniGrid's directions


def make_maze(task: str) -> gym.Env[Any, Any]:
    """The maze of a task of ``minigrid-memory`` (``MemoryS11``) or ``minigrid-memory-switch`` (``S11-other``)."""
    if task.startswith("Memory"):
        return make_minigrid(f"MiniGrid-{task}-v0")
    size, *seen, rule = task.split("-")
    return make_memory(size, rule, seen=bool(seen))


def walk(maze: gym.Env[Any, Any]) -> float:
    """Walks through the episode that has just begun and returns its return."""
    world: Any = maze.unwrapped
    home, row = (1, world.height // 2 - 1), world.height // 2
    if not world.agent_sees(*home):
        for action in (LEFT, LEFT):
            maze.step(action)
        while not world.agent_sees(*home):
            maze.step(FORWARD)
        for action in (LEFT, LEFT):
            maze.step(action)
    assert world.agent_dir == EAST and world.agent_pos[1] == row
    # from here on the right place is known: which of the two objects it is was in sight
    column, end = world.success_pos
    while world.agent_pos[0] < column:
        maze.step(FORWARD)
    maze.step(RIGHT if end > row else LEFT)
    assert world.agent_dir == (SOUTH if end > row else NORTH)
    total, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, _ = maze.step(FORWARD)
        total, over = total + float(reward), terminated or truncated
    return total


def walker_return(task: str, episodes: int = 400, seed: int = 999) -> float:
    """Mean return of the script."""
    maze = make_maze(task)
    maze.reset(seed=seed)
    found = []
    for _ in range(episodes):
        found.append(walk(maze))
        maze.reset()
    return float(np.mean(found))
