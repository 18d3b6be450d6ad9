"""``evaluate``, ``compare`` and ``report``: what is made of lives that were lived."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from rich.console import Console

from nl_agents.cli.lookup import check_exists, constructed, find_sequence, import_named, is_own_sequence, stored_config
from nl_agents.cli.options import Compare, Evaluate, Report
from nl_agents.config import from_dict
from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.evaluation import run_episodes, terminal


def evaluate(options: Evaluate) -> int:
    """Measures the agent task by task and prints a table; returns the exit code."""
    check_exists(options.path, "run folder or model")
    if options.episodes < 1:
        raise ConfigError(f"--episodes must be an integer >= 1, got {options.episodes}")
    name = options.sequence or (stored_config(options.path).get("sequence") if options.path.is_dir() else None)
    if not isinstance(name, str):
        raise ConfigError(f"{options.path} does not say which sequence it belongs to; add --sequence NAME")
    subject = _load(options)
    episodes = []
    for env in _task_envs(name, options):
        episodes += run_episodes(
            subject, env, options.episodes, seed=options.seed, deterministic=not options.stochastic
        )
        env.close()
    terminal.print_evaluation(episodes, name)
    return 0


def _load(options: Evaluate) -> Any:
    """The agent of a run folder, of a file of ours, or a model of another library."""
    if options.model_class is None:
        if options.path.is_dir():
            return load_run(options.path, options.device)
        return importlib.import_module("nl_agents.agents").load(options.path, device=options.device)
    module, _, name = options.model_class.partition(":")
    kind = import_named(module, name)
    if kind is None:
        raise UnknownNameError("model class", options.model_class, ["stable_baselines3:PPO"])
    return kind.load(options.path, device=options.device)


def load_run(run: Path, device: str) -> Any:
    """The agent of a run's newest checkpoint, without streams."""
    from nl_agents.training.checkpoint import CheckpointStore
    from nl_agents.training.run_folder import read_config
    from nl_agents.training.spaces import space_from_json

    record = read_config(run)
    state = CheckpointStore(run / "checkpoints").load()["agent"]
    spaces = tuple(space_from_json(record[key]) for key in ("observation_space", "action_space"))
    agents = importlib.import_module("nl_agents.agents")
    config = from_dict(type(agents.config(record["agent"])), record["config"])
    agent = importlib.import_module("nl_agents.training.agent").Agent(
        record["agent"], None, config, seed=record["seed"], device=device, spaces=spaces
    )
    agent.load_state_dict({**state, "actor": None})
    return agent


def _task_envs(name: str, options: Evaluate) -> list[Any]:
    """One sequence for each task of a suite; a user's own sequence as a whole."""
    envs = importlib.import_module("nl_agents.envs")
    if is_own_sequence(name):
        return [constructed(find_sequence(name)[0], num_envs=options.num_envs, seed=options.seed)]
    suite, preset = envs.preset(name)
    return [suite.task_env(task, num_envs=options.num_envs, seed=options.seed) for task in preset.tasks]


def compare(options: Compare) -> int:
    """Writes the page of several runs and prints their table; returns the exit code."""
    for run in options.runs:
        check_exists(run, "run folder")
    from nl_agents.evaluation import comparison_page

    rows, path = comparison_page.write_comparison(options.runs, options.out, against=options.against)
    terminal.print_comparison(rows)
    Console().print(f"report: {path}", highlight=False, soft_wrap=True)
    return 0


def report(options: Report) -> int:
    """Writes the page of one run and prints its figures; returns the exit code."""
    check_exists(options.run, "run folder")
    from nl_agents.evaluation import report as pages

    path = pages.write_report(options.run)
    terminal.print_lifelong(options.run)
    Console().print(f"report: {path}", highlight=False, soft_wrap=True)
    return 0
