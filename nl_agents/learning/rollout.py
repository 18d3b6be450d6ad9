"""A stretch of lived experience: fixed [T, B] blocks, preallocated, cut by time and never by episode."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nl_agents.policies import ActionSpec, ObservationCodec, PolicyInput
from nl_agents.rl.returns import generalised_advantages


class Rollout(NamedTuple):
    """T steps of B streams, and the memory that each stream started with.

    Values, bootstrap values, rewards, advantages and returns are in raw reward units. A step with ``is_valid`` False is
    a dummy (no transition); one with ``trains`` False was refused for a non-finite number and enters no loss.
    """

    rows: Tensor  # [T, B, N] packed raw observations
    last_action: Tensor  # [T, B, A]
    last_reward: Tensor  # [T, B]
    is_first: Tensor  # [T, B] bool
    is_valid: Tensor  # [T, B] bool
    trains: Tensor  # [T, B] bool
    actions: Tensor  # [T, B] int64 or [T, B, A] float
    log_probs: Tensor  # [T, B] of the behaviour, nats
    parameters: Tensor  # [T, B, P] of the behaviour's distribution
    values: Tensor  # [T, B]
    rewards: Tensor  # [T, B]
    terminated: Tensor  # [T, B] bool
    truncated: Tensor  # [T, B] bool
    bootstrap_values: Tensor  # [T, B] value of the observation that the step led to
    advantages: Tensor  # [T, B]
    returns: Tensor  # [T, B]
    state: Tensor  # [B, S] packed memory before the first step

    def inputs(self) -> PolicyInput:
        """What the policy was shown."""
        return PolicyInput(self.rows, self.last_action, self.last_reward, self.is_first, self.is_valid)

    def streams(self, index: Tensor) -> Rollout:
        """The rollout of some streams only (copies)."""
        blocks = [block.index_select(1, index) for block in self[:-1]]
        return Rollout._make((*blocks, self.state.index_select(0, index)))

    def follows(self) -> Tensor:
        """[T, B] bool: the next step of the block goes on in the same episode (False at T - 1)."""
        same = self.trains & ~self.terminated & ~self.truncated
        after = torch.zeros_like(same)
        after[:-1] = self.is_valid[1:] & ~self.is_first[1:]
        return same & after


def allocate(
    steps: int, streams: int, codec: ObservationCodec, actions: ActionSpec, state_size: int, device: torch.device
) -> Rollout:
    """Returns a zeroed rollout whose blocks are written in place, life long."""

    def block(*shape: int, dtype: Any = torch.float32) -> Tensor:
        return torch.zeros(steps, streams, *shape, dtype=dtype, device=device)

    flags = [block(dtype=torch.bool) for _ in range(5)]
    return Rollout(
        rows=block(codec.row_size, dtype=codec.dtype),
        last_action=block(actions.size),
        last_reward=block(),
        is_first=flags[0],
        is_valid=flags[1],
        trains=flags[2],
        actions=block(*actions.shape, dtype=actions.dtype),
        log_probs=block(),
        parameters=block(actions.parameters),
        values=block(),
        rewards=block(),
        terminated=flags[3],
        truncated=flags[4],
        bootstrap_values=block(),
        advantages=block(),
        returns=block(),
        state=torch.zeros(streams, state_size, device=device),
    )


def add_advantages(rollout: Rollout, gamma: float, lambda_: float) -> None:
    """Fills ``advantages`` and ``returns`` in place (generalised advantages on raw rewards).

    Steps that do not train are taken out of the chain: the value of a blanked observation reaches no other step.
    """
    advantages, returns = generalised_advantages(
        rollout.rewards,
        rollout.values,
        rollout.bootstrap_values,
        rollout.terminated,
        rollout.truncated,
        rollout.trains,
        gamma,
        lambda_,
    )
    rollout.advantages.copy_(advantages)
    rollout.returns.copy_(returns)


def send(index: Tensor, device: torch.device) -> Tensor:
    """Brings indices of the host to a device; a GPU takes them from locked memory, so that the host need not wait."""
    if device.type == "cuda":
        return index.pin_memory().to(device, non_blocking=True)
    return index.to(device)
