"""Turns a config into parts: device, core options, parameter levels, optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nl_agents.config import AgentConfig
from nl_agents.errors import ConfigError
from nl_agents.learning import LevelScheduler
from nl_agents.memory import HopeCore
from nl_agents.memory.cms import ContinuumMemory
from nl_agents.memory.continuum import LearnerTimeLevel
from nl_agents.optim import DeepMomentum, ElementAdamW, GuardedAdamW, TracAdamW
from nl_agents.policies import ActionSpec, MemoryPolicy, PermanentTransientPolicy


def resolve_device(device: str) -> torch.device:
    """Turns "auto" into cuda where there is one, else cpu."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}; give auto, cpu, cuda or cuda:0") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} asked for, but torch sees no CUDA device; give --device cpu")
    return found


def core_options(config: AgentConfig, actions: ActionSpec) -> dict[str, Any]:
    """The options of the memory config that its core knows."""
    memory = config.memory
    if memory.core == "hope":
        return {
            "action_size": actions.size if memory.inputs == "all" else 0,
            "heads": memory.heads,
            "key_size": memory.key_size,
            "chunk": memory.chunk,
            "level_period": memory.level_period,
            "slow_periods": memory.slow_periods,
        }
    if memory.core == "cms":
        return {
            "action_size": actions.size if memory.inputs == "all" else 0,
            "variant": memory.cms_variant,
            "periods": memory.cms_periods,
            "slow_periods": memory.slow_periods,
            "scope": memory.scope,
        }
    if memory.core == "self-modifying":
        return {"scope": memory.scope, "heads": memory.heads, "key_size": memory.key_size, "chunk": memory.chunk}
    if memory.core in ("gated-delta", "titans", "attention"):
        return {"scope": memory.scope, "heads": memory.heads}
    if memory.core == "feed-forward":
        return {}
    if memory.core == "mlp":
        return {"depth": memory.depth, "activation": memory.activation, "layer_norm": memory.layer_norm}
    return {"scope": memory.scope}


def parameter_levels(policy: MemoryPolicy) -> dict[str, tuple[list[nn.Parameter], int]]:
    """Groups the policy's parameters by the period of the CMS level they belong to."""
    groups: dict[str, tuple[list[nn.Parameter], int]] = {}
    taken: set[int] = set()
    slow = list(policy.core.slow) if isinstance(policy.core, HopeCore | ContinuumMemory) else []
    for index, level in enumerate(slow):
        assert isinstance(level, LearnerTimeLevel)
        own = list(level.parameters())
        taken.update(id(parameter) for parameter in own)
        groups[f"core.slow.{index}"] = (own, level.period)
    if isinstance(policy, PermanentTransientPolicy):  # these have an optimizer of their own
        taken.update(id(parameter) for parameter in policy.permanent.parameters())
    rest = [parameter for parameter in policy.parameters() if id(parameter) not in taken]
    return {"weights": (rest, 1), **groups}


def make_optimizer(scheduler: LevelScheduler, config: AgentConfig) -> DeepMomentum | GuardedAdamW:
    """One parameter group a level; both optimizers refuse steps whose gradients are not finite."""
    groups: list[dict[str, Any]] = [
        {"params": level.parameters, "name": level.name, "fresh_only": level.period == 1} for level in scheduler.levels
    ]
    options: dict[str, Any] = {"lr": config.optimizer.lr, "eps": 1e-5, "weight_decay": config.optimizer.weight_decay}
    if config.optimizer.name == "deep-momentum":
        return DeepMomentum(groups, **options)
    groups = [{**group, "fresh_only": True} for group in groups]
    beta1, beta2 = config.optimizer.betas
    kinds: dict[str, type[GuardedAdamW]] = {"element-adamw": ElementAdamW, "trac": TracAdamW}
    return kinds.get(config.optimizer.name, GuardedAdamW)(groups, betas=(beta1, beta2), **options)
