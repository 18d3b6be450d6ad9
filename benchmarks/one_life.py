"""One agent, one env, one life: lived in a folder that is thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nl_agents import agents
from nl_agents.config import apply_options
from nl_agents.evaluation.lifetime import Lifetime
from nl_agents.tasks import TaskSequence


def one_life(agent: str, env: TaskSequence, seed: int, steps: int, options: Mapping[str, Any]) -> Lifetime:
    """Lives ``steps`` env steps on a CPU.

    Args:
        agent: by name, with what the env's suite recommends to every agent.
        env: the life's sequence.
        seed: of the agent.
        steps: env steps over all streams.
        options: of the agent, dotted name -> value; they come after what is recommended.
    """
    config = apply_options(agents.config(agent), {**env.recommended, **options})
    made = agents.make(agent, env, seed=seed, device="cpu", config=config)
    with tempfile.TemporaryDirectory() as folder:
        made.learn(steps, run_dir=Path(folder) / "run")
        return Lifetime.from_run_folder(Path(folder) / "run")


def curve_of_20(life: Lifetime) -> list[float | None]:
    """Mean return of the episodes that end in each twentieth of a life; None where none does."""
    bounds = np.searchsorted(life.step, np.linspace(0, life.steps, 21), side="right")
    return [float(life.returns[a:b].mean()) if b > a else None for a, b in pairwise(bounds)]
