"""What FastRecurrentPPO asks of a policy that it is given, and what it changes in its optimizer."""

from __future__ import annotations

import torch

from nl_agents.errors import ConfigError
from nl_agents.sb3.policies import MemoryActorCritic

INSTEAD = {
    "forward": ("act_step",),
    "predict_values": ("values_after",),
    "evaluate_actions": ("evaluate_sequence",),
    "_process_sequence": ("act_step", "values_after", "evaluate_sequence"),
}
"""What RecurrentPPO calls on a policy -> what is called here; ``predict`` calls the same."""


def refuse_unheard(kind: type[MemoryActorCritic]) -> None:
    """Refuses a policy with a form of its own of what only RecurrentPPO calls."""
    own = {name for name in dir(MemoryActorCritic) if getattr(kind, name) is not getattr(MemoryActorCritic, name)}
    for name, ours in INSTEAD.items():
        if name in own and not own & set(ours):
            raise ConfigError(
                f"{kind.__name__}.{name} is called by RecurrentPPO and not by FastRecurrentPPO, which runs whole "
                f"sequences: override {', '.join(ours)} instead, or use RecurrentPPO"
            )


def fuse(policy: MemoryActorCritic) -> None:
    """Has torch's Adam step all parameters of a group in one call, unless somebody chose a form of it."""
    optimizer = policy.optimizer
    if type(optimizer) is not torch.optim.Adam or optimizer.state:
        return
    chosen = [group[form] for group in optimizer.param_groups for form in ("fused", "foreach")]
    if all(form is None for form in chosen) and not optimizer.defaults["differentiable"]:
        for options in (optimizer.defaults, *optimizer.param_groups):  # as it stands: groups may be the policy's own
            options["fused"] = True
