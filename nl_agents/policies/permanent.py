"""Values of two time scales: a permanent part that changes rarely and slowly, and a transient one on top."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nl_agents.memory.base import MemoryCore
from nl_agents.policies.actions import ActionSpec
from nl_agents.policies.memory_policy import MemoryPolicy, input_size
from nl_agents.policies.observations import ObservationCodec
from nl_agents.policies.steps import PolicyInput, PolicyOutput


class PermanentTransientPolicy(MemoryPolicy):
    """V(x) = V_permanent(x) + V_transient(x) (Anand & Precup 2023, Eq. 4), around the same actor.

    The transient part is the usual critic, trained by every loss on values. The permanent part is a network of its own
    that no loss reaches: ``learning.PermanentValues`` moves it, rarely, to what both say together. It begins at 0.
    Differs from PT-DQN, which has two action-value networks and no actor.

    Args:
        codec: see ``MemoryPolicy``; so are ``actions``, ``core``, ``inputs`` and ``prediction``.
    """

    serves_compiled = False

    def __init__(
        self,
        codec: ObservationCodec,
        actions: ActionSpec,
        core: MemoryCore,
        inputs: str = "all",
        prediction: bool = True,
    ) -> None:
        super().__init__(codec, actions, core, inputs, prediction)
        size = input_size(codec, actions, inputs)
        self.permanent = nn.Sequential(nn.Linear(size, core.width), nn.SiLU(), nn.Linear(core.width, 1))
        last = self.permanent[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def _run(
        self, core: Callable[..., tuple[Tensor, Any]], given: PolicyInput, state: Any, phase: int | None
    ) -> tuple[PolicyOutput, Any]:
        output, state = super()._run(core, given, state, phase)
        with torch.no_grad():
            permanent = self.permanent_values(given)
        return output._replace(values=output.values + permanent), state

    def permanent_values(self, given: PolicyInput) -> Tensor:
        """The permanent part alone [T, B], in units of the return scale; gradients flow."""
        values: Tensor = self.permanent(self.shown(given)[1])
        return values.squeeze(-1)
