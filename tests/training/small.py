"""A life small enough for tests: run as a script it lives in a process of its own that may be killed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from nl_agents import agents, envs
from nl_agents.config import AgentConfig


def small_config(agent: str = "hope") -> AgentConfig:
    """Narrow, short rollouts, checkpoints and decisions often."""
    config = agents.config(agent)
    config.memory.width = 16
    config.memory.heads, config.memory.key_size, config.memory.chunk, config.memory.level_period = 2, 4, 8, 8
    config.ppo.num_steps, config.ppo.num_epochs, config.ppo.num_minibatches = 16, 2, 2
    config.replay.reservoir, config.replay.recent, config.replay.burn_in = 8, 4, 2
    config.control.warmup_steps = 200
    config.run.checkpoint_every = 150
    return config


def live(folder: Path, agent: str = "hope", sequence: str = "cartpole-flip:demo", steps: int = 1200, **env: Any) -> Any:
    """Lives ``steps`` env steps from birth into a run folder."""
    options = {"num_envs": 4, "seed": 3, **env}
    world = envs.make_sequence(sequence, **options)
    made = agents.make(agent, world, seed=5, device="cpu", config=small_config(agent))
    return made.learn(steps, run_dir=folder, run_info={"sequence": sequence, "sequence_options": options})


if __name__ == "__main__":
    torch.set_num_threads(1)
    live(Path(sys.argv[1]), sequence=sys.argv[2], steps=int(sys.argv[3]))
