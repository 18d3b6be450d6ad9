"""``train`` and ``resume``: a life from its command line to its report."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from nl_agents.cli.lookup import check_exists, constructed, find_sequence, is_own_sequence, stored_config
from nl_agents.cli.options import Report, Resume
from nl_agents.cli.pages import report
from nl_agents.config import apply_options
from nl_agents.errors import ConfigError, PrivilegeError, UnknownNameError
from nl_agents.seeding import spawn

INTERRUPTED = 130


def with_agent_options(command: type[Any], arguments: list[str]) -> type[Any]:
    """The options of a command and, undivided by a prefix, those of the agent that ``--agent`` names.

    Their defaults are the agent's, with what the suite that ``--sequence`` names recommends for all agents.
    """
    agents, suites = (importlib.import_module(f"nl_agents.{part}") for part in ("agents", "envs"))
    name = _given(arguments, "--agent", command.agent)
    if name not in agents.AGENTS:
        raise UnknownNameError("agent", name, agents.AGENTS)
    config = agents.config(name)
    suite = suites.SUITES.get(_given(arguments, "--sequence", command.sequence).partition(":")[0])
    if suite is not None:
        apply_options(config, suite.recommended)
    merged: Any = Annotated[type(config), tyro.conf.arg(name="")]
    extra = dataclasses.field(default_factory=lambda: config)
    return dataclasses.make_dataclass(command.__name__, [("config", merged, extra)], bases=(command,))


def _given(arguments: list[str], flag: str, default: str) -> str:
    """The value of a flag before the parser exists."""
    for position, word in enumerate(arguments):
        if word == flag and position + 1 < len(arguments):
            return arguments[position + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return default


def train(options: Any) -> int:
    """Makes sequence and agent, lets the agent live, reports; returns the exit code.

    Args:
        options: ``Train`` with the field ``config`` that ``with_agent_options`` adds.
    """
    agents = importlib.import_module("nl_agents.agents")
    spec = agents.AGENTS[options.agent]
    info = info_level(spec, options.privileged)
    make, steps, num_envs = find_sequence(options.sequence)
    steps = options.steps if options.steps is not None else steps
    if steps is None or steps < 1:
        raise ConfigError(f"--steps must be an integer >= 1, got {steps}; a sequence of your own needs --steps N")
    threads = _set_threads(options.threads)
    run_dir = options.run_dir or _default_run_dir(options)
    given = {
        "num_envs": options.num_envs if options.num_envs is not None else num_envs,
        "seed": spawn(options.seed, "sequence"),
        "info": info,
        "backend": options.backend,
    }
    env = constructed(make, **given)
    agent = constructed(
        agents.make, options.agent, env, seed=options.seed, device=options.device, config=options.config
    )
    told = {"hidden": "nothing is told", "notified": "switches are told", "task-id": "the task is told"}[info]
    Console().print(
        f"[bold]{options.agent}[/] on [bold]{options.sequence}[/], {steps:,} env steps over {env.num_envs} streams, "
        f"seed {options.seed}, {threads} torch thread{'s' * (threads > 1)}; {told}\nrun folder: {run_dir}",
        highlight=False,
        soft_wrap=True,
    )
    run_info = {"sequence": options.sequence, "sequence_options": given}
    return _live(lambda: agent.learn(steps, progress_bar=True, run_dir=run_dir, run_info=run_info), run_dir)


def _live(run: Callable[[], Any], run_dir: Path) -> int:
    """Runs a life to its end and reports it; after Ctrl-C says how to go on."""
    try:
        run()
    except KeyboardInterrupt:
        print(f"stopped; a checkpoint is kept. Continue with: nl-agents resume {run_dir}", file=sys.stderr)
        return INTERRUPTED
    return report(Report(run_dir))


def info_level(spec: Any, privileged: bool) -> str:
    """What the sequence tells the agent; refuses agents that live on being told unless it was asked for."""
    if not (spec.needs_boundary or spec.needs_task_id):
        return "hidden"
    what = "the running task" if spec.needs_task_id else "the task boundaries"
    if not privileged:
        raise PrivilegeError(
            f"agent {spec.name!r} must be told {what}, but sequences are hidden; add --privileged to run it as a "
            "control, or choose an agent that needs nothing told (nl-agents list agents)"
        )
    return "task-id" if spec.needs_task_id else "notified"


def resume(options: Resume) -> int:
    """Continues the run at its newest checkpoint and reports; returns the exit code."""
    check_exists(options.run, "run folder")
    training = importlib.import_module("nl_agents.training")
    stored = stored_config(options.run)
    name = options.sequence or stored.get("sequence")
    more: dict[str, Any] = {}
    if isinstance(name, str) and (options.sequence is not None or is_own_sequence(name)):
        more["env"] = constructed(find_sequence(name)[0], **stored["sequence_options"])
    return _live(lambda: training.resume(options.run, steps=options.steps, progress_bar=True, **more), options.run)


def _default_run_dir(options: Any) -> Path:
    sequence = options.sequence.replace(":", "-").replace("/", "-")
    return Path("runs") / f"{sequence}-{options.agent}-seed{options.seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def _set_threads(given: str) -> int:
    """Sets torch's threads: a number, or the fastest of a short measurement."""
    torch = importlib.import_module("torch")
    if given == "auto":
        threads = _fastest_threads(torch)
    elif given.isdigit() and int(given) >= 1:
        threads = int(given)
    else:
        raise ConfigError(f"--threads must be an integer >= 1 or auto, got {given!r}; 1 is the default")
    torch.set_num_threads(threads)
    return threads


def _fastest_threads(torch: Any) -> int:
    """Times products of a minibatch's shape at 1, 2, 4 ... threads; more threads must win by a tenth."""
    left, right = torch.randn(512, 256), torch.randn(256, 256)
    best, least = 1, float("inf")
    threads = 1
    while threads <= (os.cpu_count() or 1):
        torch.set_num_threads(threads)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(20):
                torch.tanh(left @ right)
            times.append(time.perf_counter() - start)
        if sorted(times)[2] < 0.9 * least:
            best, least = threads, sorted(times)[2]
        threads *= 2
    return best
