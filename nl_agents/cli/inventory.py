"""``list`` and ``doctor``: what there is, and whether this machine can run it."""

from __future__ import annotations

import importlib
import os
import platform
from importlib import metadata
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nl_agents.cli.options import Doctor, List

REQUIRED = (
    "torch",
    "gymnasium",
    "stable-baselines3",
    "minigrid",
    "tensorboard",
    "numpy",
    "scipy",
    "safetensors",
    "tyro",
    "rich",
    "matplotlib",
)
OPTIONAL = {
    "envpool": "faster MiniGrid and classic control: pip install 'nl-agents[fast]'",
    "popgym": "POPGym's memory tasks: pip install 'nl-agents[popgym]'",
    "sb3-contrib": "recurrent PPO of Stable-Baselines3 with our cores: pip install 'nl-agents[sb3]'",
}


def print_lists(options: List) -> int:
    """Prints the registries asked for; returns the exit code."""
    makers = {"agents": _agents, "sequences": _sequences, "cores": _cores, "optimizers": _optimizers}
    for name, make in makers.items():
        if options.what in ("all", name):
            for table in make():
                Console().print(table)
    return 0


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, style="cyan" if number == 0 else None, no_wrap=number == 0)
    return table


def _agents() -> list[Table]:
    table = _table("agents", "--agent", "what it is", "is told")
    for name, spec in importlib.import_module("nl_agents.agents").AGENTS.items():
        told = "the task *" if spec.needs_task_id else "switches *" if spec.needs_boundary else "nothing"
        table.add_row(name, spec.doc, told)
    table.caption, table.caption_justify = "* a control: runs with --privileged only", "left"
    return [table]


def _sequences() -> list[Table]:
    tables = []
    for name, suite in importlib.import_module("nl_agents.envs").SUITES.items():
        table = _table(f"{name}\n[not bold]{suite.doc}[/]", "--sequence", "env steps", "streams", "tasks", "for")
        for key, preset in suite.presets.items():
            mark = f" (what {name} alone means)" if key == suite.default_preset else ""
            row = (f"{preset.steps:,}", str(preset.num_envs), "\n".join(preset.tasks), preset.doc + mark)
            table.add_row(f"{name}:{key}", *row)
        tables.append(table)
    return tables


def _cores() -> list[Table]:
    table = _table("memory cores", "--memory.core", "what it is")
    registry = importlib.import_module("nl_agents.memory.registry")
    for name in registry.CORES:
        table.add_row(name, _first_line(registry.core_class(name)))
    return [table]


def _optimizers() -> list[Table]:
    table = _table("optimizers (nl_agents.optim)", "name", "what it is")
    optim = importlib.import_module("nl_agents.optim")
    optimizer = importlib.import_module("torch.optim").Optimizer
    for name in optim.__all__:
        found = getattr(optim, name)
        if isinstance(found, type) and issubclass(found, optimizer):
            table.add_row(name, _first_line(found))
    return [table]


def _first_line(found: Any) -> str:
    return escape((found.__doc__ or "").strip().partition("\n")[0])


def print_health(_: Doctor) -> int:
    """Prints versions, devices and gaps; returns 0 when nothing required is missing, else 1."""
    table = _table("this machine", "what", "found", "")
    table.add_row("nl-agents", importlib.import_module("nl_agents").__version__, "")
    table.add_row("Python", platform.python_version(), platform.platform())
    missing = [name for name in REQUIRED if not _row(table, name, f"required: pip install {name}")]
    for name, hint in OPTIONAL.items():
        _row(table, name, hint)
    if "torch" not in missing:
        torch = importlib.import_module("torch")
        table.add_row("CPU", f"{os.cpu_count()} cores", f"{torch.get_num_threads()} torch threads before --threads")
        cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
        table.add_row("GPU", cuda, "" if cuda != "none" else "--device auto runs on the CPU; small nets lose little")
    Console().print(table)
    Console().print(f"[red]missing: {', '.join(missing)}[/]" if missing else "[green]all that is required is here[/]")
    return int(bool(missing))


def _row(table: Table, name: str, hint: str) -> bool:
    """Adds one package; returns whether it is installed."""
    try:
        table.add_row(name, metadata.version(name), "")
    except metadata.PackageNotFoundError:
        table.add_row(name, "[yellow]missing[/]", escape(hint))
        return False
    return True
