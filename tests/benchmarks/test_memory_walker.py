"""The script of the Memory mazes: always right, and as long as it is counted by hand."""

from __future__ import annotations

import pytest

from benchmarks.memory_walker import make_maze, walk, walker_return


@pytest.mark.parametrize(("task", "steps", "limit"), [("S7-seen-match", 6, 245), ("S7-seen-other", 6, 245)])
def test_from_the_first_room_it_walks_straight(task: str, steps: int, limit: int) -> None:
    assert walker_return(task, 20) == pytest.approx(1 - 0.9 * steps / limit)  # four ahead, a turn, one ahead


@pytest.mark.parametrize("task", ["MemoryS7", "MemoryS13Random", "S11-other"])
def test_elsewhere_it_goes_back_to_look(task: str) -> None:
    maze, starts = make_maze(task), set()
    for seed in range(40):
        maze.reset(seed=seed)
        world = maze.unwrapped
        start, seen = int(world.agent_pos[0]), world.agent_sees(1, world.height // 2 - 1)  # type: ignore[attr-defined]
        paid = walk(maze)
        steps = round((1 - paid) * world.max_steps / 0.9)  # type: ignore[attr-defined]
        assert steps == world.step_count and 0.9 < paid < 1.0  # type: ignore[attr-defined]
        straight = int(world.success_pos[0]) - start + 2  # type: ignore[attr-defined]
        assert steps == straight if seen else steps >= straight + 4, "two turns there, two turns back"
        starts.add(seen)
    assert starts == {False, True}
