"""Continuing a run folder exactly where its last checkpoint left it."""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch

from nl_agents.config import AgentConfig, from_dict
from nl_agents.errors import RunFolderError
from nl_agents.training.agent import Agent
from nl_agents.training.life import Life
from nl_agents.training.run_folder import read_config


def resume(
    run_dir: str | os.PathLike[str], *, env: Any = None, steps: int | None = None, progress_bar: bool = False
) -> Agent:
    """Goes on with a life that was interrupted (killed or not), or prolongs one that had ended.

    Agent, sequence and options come from the folder's ``config.json``; threads are set as they were, because another
    number may change the last bits.

    Args:
        run_dir: the run folder.
        env: the environment, where it was handed in by the API (a sequence that has no name); built as at birth.
        steps: total env steps of the life; None means what it was started with.
        progress_bar: draw one.

    Returns:
        The agent at the end of its life.

    Raises:
        RunFolderError: no such run, or its sequence cannot be built from its name.
        CheckpointError: every checkpoint is corrupt.
    """
    record = read_config(run_dir)
    torch.set_num_threads(int(record["threads"]))
    agents = importlib.import_module("nl_agents.agents")
    if env is None:
        name = record.get("sequence")
        if not name:
            raise RunFolderError(
                f"run {run_dir} lived in an environment given by API; resume it with "
                "nl_agents.training.resume(run_dir, env=...) and an environment built as at its birth"
            )
        envs = importlib.import_module("nl_agents.envs")
        env = envs.make_sequence(name, **record.get("sequence_options", {}))
    config = from_dict(AgentConfig, record["config"])
    agent: Agent = agents.make(record["agent"], env, seed=record["seed"], device=record["device"], config=config)
    life = Life.resumed(agent, run_dir, int(record["steps"]) if steps is None else steps)
    life.run(progress_bar=progress_bar, callback=None)
    return agent
