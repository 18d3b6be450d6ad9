"""``summary.json``: what a run came to, in a few numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nl_agents.training.checkpoint_format import write_durably
from nl_agents.training.living import Living


def write_summary(folder: Path, agent: Living, seconds: float) -> None:
    """Writes the figures that need no reference; evaluation adds the lifelong ones."""
    actor = agent.actor
    assert actor is not None
    content: dict[str, Any] = {
        "agent": agent.name,
        "seed": agent.seed,
        "steps": agent.num_timesteps,
        "episodes": actor.books.episodes,
        "learner_updates": agent.learner.updates,
        "refused_steps": int(agent.optimizer.refused_steps),
        "nonfinite_transitions": actor.nonfinite,
        "seconds_of_last_session": round(seconds, 3),
        "parameters": sum(parameter.numel() for parameter in agent.policy.parameters()),
        "memory_floats_a_stream": agent.policy.core.state_size,
    }
    write_durably(folder / "summary.json", (json.dumps(content, indent=2) + "\n").encode())
