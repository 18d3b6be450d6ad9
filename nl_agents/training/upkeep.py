"""Turns the upkeep of a config into parts that the learner calls."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from nl_agents.config import AgentConfig
from nl_agents.errors import ConfigError
from nl_agents.learning import ElasticPolicy, PermanentValues
from nl_agents.memory.mlp import MlpCore
from nl_agents.policies import MemoryPolicy, PermanentTransientPolicy
from nl_agents.seeding import spawn
from nl_agents.upkeep import ContinualBackprop, InitialPull, ReDo, ShrinkPerturb, UnitLayer, Upkeep, chain


def make_upkeep(config: AgentConfig, policy: MemoryPolicy, optimizer: Optimizer, seed: int) -> list[Upkeep]:
    """Returns the parts that ``config.upkeep`` switches on, in the order in which they are called.

    Args:
        config: all options.
        policy: with its first weights.
        optimizer: of the policy.
        seed: of the learner's present life.

    Raises:
        ConfigError: units are to be replaced in a core whose hidden units cannot be told apart.
    """
    options, parts = config.upkeep, list[Upkeep]()
    learnt = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if options.l2_init > 0.0:
        parts.append(InitialPull(learnt, options.l2_init))
    if options.ewc > 0.0:
        draws = torch.Generator(policy.mean.device).manual_seed(spawn(seed, "fisher"))
        parts.append(ElasticPolicy(policy, options.ewc, options.ewc_decay, options.ewc_draws, draws))
    if options.shrink > 0.0 or options.perturb > 0.0:
        parts.append(ShrinkPerturb(learnt, options.shrink, options.perturb, _chance(seed, "perturb")))
    if options.redo_period > 0:
        chance = _chance(seed, "redo")
        parts.append(ReDo(hidden_units(policy), optimizer, options.redo_period, options.redo_threshold, chance))
    if options.replacement > 0.0:
        layers, chance = hidden_units(policy), _chance(seed, "replacement")
        rate, maturity, decay = options.replacement, options.maturity, options.utility_decay
        parts.append(ContinualBackprop(layers, optimizer, rate, maturity, decay, chance))
    if isinstance(policy, PermanentTransientPolicy):
        period, rate, decay = options.permanent_every, options.permanent_lr, options.transient_decay
        parts.append(PermanentValues(policy, period, rate, decay))
    return parts


def hidden_units(policy: MemoryPolicy) -> list[UnitLayer]:
    """The hidden layers of a policy on the ``mlp`` core; actor and critic both read the last one.

    Raises:
        ConfigError: another core, or CReLU, in which two inputs of the next layer belong to one unit.
    """
    if not isinstance(policy.core, MlpCore):
        raise ConfigError(
            f"units can be replaced in the mlp core only, got {type(policy.core).__name__}: set memory.core=mlp, or "
            "switch upkeep.redo_period and upkeep.replacement off"
        )
    heads: list[nn.Linear] = [policy.actor, policy.critic]
    if policy.predictor is not None:
        raise ConfigError("units cannot be replaced under a prediction head; set ppo.prediction=0")
    return chain(policy.core.layers, heads)


def _chance(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(spawn(seed, name))
