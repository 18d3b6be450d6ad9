"""``evaluate``, ``compare`` and ``report``: what is made of lives that were lived."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from nl_agents.cli.lookup import check_exists, constructed, find_sequence, import_named, stored_config
from nl_agents.cli.options import Compare, Evaluate, Report
from nl_agents.config import from_dict
from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.evaluation import run_episodes, terminal
from nl_agents.tasks import TaskSequence, evaluation_clone, single_task


def evaluate(options: Evaluate) -> int:
    """Measures the agent task by task and prints a table; returns the exit code."""
    check_exists(options.path, "run folder or model")
    if options.episodes < 1:
        raise ConfigError(f"--episodes must be an integer >= 1, got {options.episodes}")
    record = stored_config(options.path) if options.path.is_dir() else {}
    name = options.sequence or record.get("sequence")
    if not isinstance(name, str):
        raise ConfigError(f"{options.path} does not say which sequence it belongs to; add --sequence NAME")
    subject, episodes = _load(options), []
    for index, env in enumerate(_task_envs(name, record, options)):
        if hasattr(subject, "enter_task"):
            subject.enter_task(index)
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
        record["agent"],
        None,
        config,
        seed=record["seed"],
        device=device,
        spaces=spaces,
        needs_task_id=agents.spec(record["agent"]).needs_task_id,
    )
    agent.load_state_dict({**state, "actor": None})
    return agent


def _task_envs(name: str, record: dict[str, Any], options: Evaluate) -> Iterator[Any]:
    """One life for each task of the sequence, the tasks as the evaluated life drew them.

    Of a run, as they were at its newest checkpoint, drifts standing still; else as at clock 0.
    """
    given: dict[str, Any] = {"num_envs": options.num_envs, "seed": options.sequence_seed or 0}
    is_own = bool(record) and name == record.get("sequence") and options.sequence_seed is None
    if is_own:
        given = dict(record.get("sequence_options", given))
    life = constructed(find_sequence(name)[0], **given)
    if not isinstance(life, TaskSequence):
        raise ConfigError(
            f"{name} gives a {type(life).__name__}, and evaluate needs the TaskSequence itself to tell its tasks "
            "apart; wrap each nl_agents.tasks.single_task of it and use nl_agents.evaluation.run_episodes"
        )
    kept = _saved_env(options.path) if is_own else None
    if kept is not None:
        life.set_state(kept)
    try:
        for task in life.task_names:
            clone = single_task if kept is None else evaluation_clone
            yield clone(life, task, num_envs=options.num_envs, seed=options.seed)
    finally:
        life.close()


def _saved_env(run: Path) -> dict[str, Any] | None:
    """The sequence of a run's newest checkpoint; None where it has none."""
    from nl_agents.training.checkpoint import CheckpointStore

    found: dict[str, Any] | None = CheckpointStore(run / "checkpoints").load()["env"]
    return found


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
