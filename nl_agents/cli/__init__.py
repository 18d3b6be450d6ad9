"""The command line: ``nl-agents train | resume | evaluate | compare | report | nest | list | doctor``.

Knows no agent and no task by name: it asks ``nl_agents.agents`` and ``nl_agents.envs`` when it is called. Exit codes:
0 good, 1 something failed on the way, 2 a bad argument, 130 stopped by Ctrl-C with a checkpoint kept.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import tyro
from rich.console import Console

from nl_agents.cli.inventory import print_health, print_lists
from nl_agents.cli.life import INTERRUPTED, resume, train, with_agent_options
from nl_agents.cli.nest import print_nest
from nl_agents.cli.options import Compare, Doctor, Evaluate, List, Nest, Report, Resume, Train
from nl_agents.cli.pages import compare, evaluate, report
from nl_agents.errors import NlAgentsError, UnknownNameError

COMMANDS: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
    "train": (Train, train),
    "resume": (Resume, resume),
    "evaluate": (Evaluate, evaluate),
    "compare": (Compare, compare),
    "report": (Report, report),
    "nest": (Nest, print_nest),
    "list": (List, print_lists),
    "doctor": (Doctor, print_health),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        return _dispatch([word for word in arguments if word != "--debug"])
    except SystemExit as stop:  # tyro: 0 after --help, 2 after a bad option
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        _complain("stopped by Ctrl-C")
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        known = isinstance(error, NlAgentsError)
        hint = "" if known else f"unexpected {type(error).__name__}: "
        _complain(f"error: {hint}{error}" + ("" if known or debug else " (add --debug for the traceback)"))
        return 2 if known and isinstance(error, ValueError) else 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        Console().print(_overview(), highlight=False)
        return 0
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        print(importlib.import_module("nl_agents").__version__)
        return 0
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    kind, run = COMMANDS[name]
    if kind in (Train, Nest):
        kind = with_agent_options(kind, rest)
    sys.path.insert(0, os.getcwd())  # so that module:function finds the user's own file
    try:
        return run(tyro.cli(kind, args=rest, prog=f"nl-agents {name}", description=inspect.getdoc(COMMANDS[name][0])))
    finally:
        sys.path.remove(os.getcwd())


def _overview() -> str:
    lines = ["[bold]nl-agents[/]: agents that learn on three time scales through one life", ""]
    for name, (kind, _) in COMMANDS.items():
        first = (inspect.getdoc(kind) or "").splitlines()[0]
        lines.append(f"  [cyan]{name:<9}[/] {first}")
    lines += ["", "nl-agents COMMAND --help explains a command and its options; --debug shows tracebacks."]
    return "\n".join(lines)


def _complain(text: str) -> None:
    print(text, file=sys.stderr)
