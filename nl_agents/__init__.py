"""nl_agents: agents that learn on three time scales through one life.

This is the one door. Names are loaded when they are first asked for, so ``nl_agents.tasks`` needs no torch and
``import nl_agents`` costs nothing:

    import nl_agents
    from nl_agents import agents, envs

    env = envs.make_sequence("cartpole-flip", num_envs=16, seed=0)
    agent = agents.make("hope", env, seed=0)
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nl_agents import agents, control, envs, evaluation, memory, optim, probes, sb3, tasks, training
    from nl_agents.agents import load

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "agents",
    "control",
    "envs",
    "evaluation",
    "load",
    "memory",
    "optim",
    "probes",
    "sb3",
    "tasks",
    "training",
]


def _is_checkout(root: Path) -> bool:
    """True if ``root`` is our repository: ``envs/`` beside the package and our own pyproject.toml with it."""
    project = root / "pyproject.toml"
    return (root / "envs").is_dir() and project.is_file() and 'name = "nl-agents"' in project.read_text("utf-8")


# In a checkout envs/ and agents/ lie beside this package; the wheel holds them inside it.
_root = Path(__file__).resolve().parent.parent
if _is_checkout(_root):
    __path__.append(str(_root))


def __getattr__(name: str) -> Any:
    """Loads a public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'nl_agents' has no attribute {name!r}; public names are {', '.join(__all__)}")
    if name == "load":
        return importlib.import_module("nl_agents.agents").load
    return importlib.import_module(f"nl_agents.{name}")


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted(__all__)
