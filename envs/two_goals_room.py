"""A MiniGrid room with two goals of which one pays; which, nothing in it shows."""

from __future__ import annotations

from typing import Any

from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Goal
from minigrid.minigrid_env import MiniGridEnv

from nl_agents.envs.minigrid_view import MinigridView


class TwoGoalsRoom(MiniGridEnv):
    """The agent starts in the middle of the lower wall and looks up; a goal lies in each upper corner.

    Either goal ends the episode. The one that pays gives ``pay``, or 1 - 0.9 t / t_max where that is None.

    Args:
        paying: 0 the left goal, 1 the right one.
        width: cells, walls included.
        height: cells, walls included.
        view: cells that the agent sees ahead, itself included, and sideways.
        pay: reward of the paying goal.
        max_steps: t_max, longest episode in env steps.
    """

    def __init__(
        self,
        paying: int,
        width: int = 9,
        height: int = 7,
        view: int = 7,
        pay: float | None = None,
        max_steps: int = 100,
    ) -> None:
        self.paying, self.pay = paying, pay
        self.goals = ((1, 1), (width - 2, 1))
        super().__init__(
            mission_space=MissionSpace(mission_func=lambda: "find the goal that pays"),
            width=width,
            height=height,
            max_steps=max_steps,
            agent_view_size=view,
            see_through_walls=True,
        )

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for place in self.goals:
            self.put_obj(Goal(), *place)
        self.agent_pos, self.agent_dir = (width // 2, height - 2), 3
        self.mission = "find the goal that pays"

    def _reward(self) -> float:
        at = int(self.agent_pos[0]), int(self.agent_pos[1])
        if at != self.goals[self.paying]:
            return 0.0
        return 1 - 0.9 * self.step_count / self.max_steps if self.pay is None else self.pay


def make_two_goals(**options: Any) -> MinigridView:
    """Builds a room with three actions, left, right and forward; the options are the room's."""
    return MinigridView(TwoGoalsRoom(**options), actions=3)
