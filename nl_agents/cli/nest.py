"""``nest``: the levels of a whole agent, fastest first, before it has lived a step."""

from __future__ import annotations

import importlib
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nl_agents.cli.life import info_level
from nl_agents.cli.lookup import constructed, find_sequence
from nl_agents.types import nest_cells


def print_nest(options: Any) -> int:
    """Makes the agent, prints its nest and throws it away; returns the exit code.

    Args:
        options: ``Nest`` with the field ``config`` that ``with_agent_options`` adds.
    """
    agents = importlib.import_module("nl_agents.agents")
    info = info_level(agents.AGENTS[options.agent], privileged=True)
    make, _, num_envs = find_sequence(options.sequence)
    streams = num_envs if options.num_envs is None else options.num_envs
    env = constructed(make, num_envs=streams, seed=0, info=info, backend="auto")
    agent = constructed(agents.make, options.agent, env, device="cpu", config=options.config)
    title = f"{options.agent} on {options.sequence}, {env.num_envs} streams, at birth: fastest first"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", show_lines=False)
    for name in ("level", "keeps", "learns from, objective", "updated every", "scope"):
        table.add_column(name, style="cyan" if name == "level" else None, overflow="fold")
    for row in agent.nest():
        level, learner, stores, _, context, objective, often, scope = map(escape, nest_cells(row))
        wrote = f"[dim]by {learner}[/]"
        table.add_row(f"{level}\n{wrote}", stores, f"{context}\n[dim]{objective}[/]", often, scope)
    table.caption, table.caption_justify = "env steps are those of one stream; ~ on average", "left"
    Console().print(table)
    env.close()
    return 0
