"""Stable-Baselines3 with memory: ``import nl_agents.sb3`` and ``RecurrentPPO("HopePolicy", env)`` works.

The recurrent policies and FastRecurrentPPO need sb3-contrib; all else here runs with Stable-Baselines3 alone.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nl_agents.sb3.callbacks import LevelMonitorCallback, LifelongEvalCallback, MemoryCallback, TaskSwitchCallback
    from nl_agents.sb3.evaluation import LifelongEvaluation, evaluate_policy_lifelong
    from nl_agents.sb3.fast_recurrent_ppo import FastRecurrentPPO
    from nl_agents.sb3.history import HistoryWrapper, VecHistory, history_env
    from nl_agents.sb3.memory_file import live_memory, load_memory, save_memory
    from nl_agents.sb3.policies import (
        FastLstmCnnPolicy,
        FastLstmMultiInputPolicy,
        FastLstmPolicy,
        HopeCnnPolicy,
        HopeMultiInputPolicy,
        HopePolicy,
    )
    from nl_agents.sb3.recurrent_dqn import RecurrentDQN
    from nl_agents.sb3.recurrent_sac import RecurrentSAC
    from nl_agents.sb3.upkeep import UpkeepCallback, policy_units
    from nl_agents.sb3.window_extractor import HopeWindowExtractor

_HOMES = {
    "FastLstmCnnPolicy": "policies",
    "FastLstmMultiInputPolicy": "policies",
    "FastLstmPolicy": "policies",
    "FastRecurrentPPO": "fast_recurrent_ppo",
    "HistoryWrapper": "history",
    "HopeCnnPolicy": "policies",
    "HopeMultiInputPolicy": "policies",
    "HopePolicy": "policies",
    "HopeWindowExtractor": "window_extractor",
    "LevelMonitorCallback": "callbacks",
    "LifelongEvalCallback": "callbacks",
    "LifelongEvaluation": "evaluation",
    "MemoryCallback": "callbacks",
    "RecurrentDQN": "recurrent_dqn",
    "RecurrentSAC": "recurrent_sac",
    "TaskSwitchCallback": "callbacks",
    "UpkeepCallback": "upkeep",
    "VecHistory": "history",
    "evaluate_policy_lifelong": "evaluation",
    "history_env": "history",
    "live_memory": "memory_file",
    "load_memory": "memory_file",
    "policy_units": "upkeep",
    "save_memory": "memory_file",
}
_NEED_CONTRIB = {"policies", "fast_recurrent_ppo"}
__all__ = [
    "FastLstmCnnPolicy",
    "FastLstmMultiInputPolicy",
    "FastLstmPolicy",
    "FastRecurrentPPO",
    "HistoryWrapper",
    "HopeCnnPolicy",
    "HopeMultiInputPolicy",
    "HopePolicy",
    "HopeWindowExtractor",
    "LevelMonitorCallback",
    "LifelongEvalCallback",
    "LifelongEvaluation",
    "MemoryCallback",
    "RecurrentDQN",
    "RecurrentSAC",
    "TaskSwitchCallback",
    "UpkeepCallback",
    "VecHistory",
    "evaluate_policy_lifelong",
    "history_env",
    "live_memory",
    "load_memory",
    "policy_units",
    "save_memory",
]


def _has_contrib() -> bool:
    return importlib.util.find_spec("sb3_contrib") is not None


def _register() -> None:
    """Makes our recurrent policies known to RecurrentPPO by name."""
    from sb3_contrib import RecurrentPPO

    for name, home in _HOMES.items():
        if home == "policies":
            RecurrentPPO.policy_aliases[name] = getattr(importlib.import_module("nl_agents.sb3.policies"), name)


def __getattr__(name: str) -> Any:
    """Loads a public name on first use; says what to install where it needs sb3-contrib."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nl_agents.sb3' has no attribute {name!r}; it has {', '.join(__all__)}")
    if home in _NEED_CONTRIB and not _has_contrib():
        raise ModuleNotFoundError(
            f"nl_agents.sb3.{name} needs sb3-contrib, which is not installed: pip install 'nl-agents[sb3]'",
            name="sb3_contrib",
        )
    return getattr(importlib.import_module(f"nl_agents.sb3.{home}"), name)


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted(__all__)


if _has_contrib():
    _register()
