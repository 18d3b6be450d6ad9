"""The nest of a whole agent: every level, and everything else that it keeps, fastest first.

A Neural Learning Module (arXiv 2512.24695, Definitions 2-4) is anything with a state, a context flow, an objective and
an update period, layers and optimizers alike. Here they stand in one table: a memory's heads beside the momenta of the
optimizer that trains them. The last rows learn nothing: clocks, books, chance, what was fixed at birth.
"""

from __future__ import annotations

import math

from nl_agents.optim.levels import group_name
from nl_agents.training import owners
from nl_agents.training.living import Living
from nl_agents.types import LevelInfo, NestRow, Scope, format_nest


class Nest(list[NestRow]):
    """Rows of a whole agent's nest; prints as a table."""

    def __str__(self) -> str:
        return format_nest(self)


def make_nest(agent: Living) -> Nest:
    """Returns the nest of an agent as it is now, fastest first; what learns nothing comes last.

    Everything that an exact resume needs (``Agent.state_dict``) stands in exactly one row. A nest counts what is kept
    *now*: an optimizer founds its momenta at its first step, replay its blocks with its first rollout.

    Args:
        agent: with streams or without.

    Raises:
        NlAgentsError: something that the agent keeps belongs to no level.
    """
    counts = owners.count_numbers(agent)
    pace = _Pace(agent)
    written = [("the memory itself", row) for row in agent.policy.core.state_levels()]
    optimizer = type(agent.optimizer).__name__
    written += [(optimizer, row) for row in agent.scheduler.infos()]
    written += [("the learner", row) for row in agent.scheduler.sums()]
    written += [(optimizer, pace.in_updates(row)) for row in agent.optimizer.levels()]
    if agent.learner.replay is not None:
        written += [("the learner", row) for row in agent.learner.replay.levels()]
    if agent.steering is not None:
        written += [("the meta-controller", row) for row in agent.steering.controller.levels()]
    written += [("upkeep", part.level()) for part in agent.learner.upkeep]
    written.append(("the learner", _SCALES))
    rows = [NestRow(row, learner, counts.pop(row.name, 0), pace.every(row)) for learner, row in written]
    rows.sort(key=lambda row: row.every)
    rows += [NestRow(row, who, counts.pop(row.name), pace.every(row)) for who, row in _KEPT if counts.get(row.name)]
    assert not any(counts.values()), f"levels that keep something and stand in no row: {', '.join(counts)}"
    return Nest(rows)


_SCALES = LevelInfo(
    owners.SCALES,
    "moments of observations, their changes, returns, advantages",
    "rollouts",
    "L2: running mean and mean square",
    1,
    "rollout",
    "life",
)


def _kept(name: str, stores: str, context: str, scope: Scope) -> LevelInfo:
    return LevelInfo(name, stores, context, "none", 1, "env step", scope)


_KEPT = (
    ("told switches", _kept(owners.EXPERTS, "learners of tasks that do not run now", "nothing", "life")),
    ("the streams", _kept(owners.STREAM, "observation, last action and reward, flags", "the environment", "never")),
    ("the streams", _kept(owners.CLOCKS, "step clocks of the memory, slots filled", "nothing", "never")),
    ("all", _kept(owners.BOOKS, "running returns and lengths, refused steps", "rewards", "life")),
    ("all", _kept(owners.CHANCE, "states of the random generators", "nothing", "life")),
    ("nobody", _kept(owners.FIXED, "random projections, the gradient memory's prior", "nothing", "life")),
)
"""What an agent keeps and that learns nothing."""


class _Pace:
    """How often levels are updated, in env steps of one stream."""

    def __init__(self, agent: Living) -> None:
        ppo = agent.config.ppo
        self.agent, self.epochs = agent, ppo.num_epochs
        self.streams = 1 if agent.actor is None else agent.actor.env.num_envs
        self.rollout = float(ppo.num_steps)
        self.update = self.rollout / (ppo.num_epochs * min(ppo.num_minibatches, self.streams))

    def in_updates(self, row: LevelInfo) -> LevelInfo:
        """An optimizer's row with its period in learner updates: a slow group steps at its level's period only.

        A memory that learns from first-epoch minibatches waits for the other epochs to pass, too.
        """
        for index, group in enumerate(self.agent.optimizer.param_groups):
            name = group_name(group, index)
            if row.name.startswith(f"{name}."):
                times = self.agent.scheduler.periods()[str(group["name"])]
                if group.get("fresh_only") and row.name.removeprefix(f"{name}.") in ("memory", "gate"):
                    times *= self.epochs
                return row._replace(period=row.period * times)
        return row

    def every(self, row: LevelInfo) -> float:
        """Env steps of one stream between two updates of a row; of a decision epoch, the least it may last."""
        if row.name == owners.FIXED:
            return math.inf
        if row.unit == "decision epoch":
            steering = self.agent.steering
            assert steering is not None
            return max(steering.least_updates() * self.update, steering.config.epoch_steps / self.streams)
        return row.period * {"env step": 1.0, "learner update": self.update, "rollout": self.rollout}[row.unit]
