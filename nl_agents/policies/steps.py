"""What a policy is shown at each step, and what it says."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class PolicyInput(NamedTuple):
    """What the policy is shown at each step, time first. ``is_valid`` False: a dummy step, see MemoryCore."""

    rows: Tensor  # [T, B, N] packed raw observations
    last_action: Tensor  # [T, B, A] features of the last action taken (carried over episode starts)
    last_reward: Tensor  # [T, B] the reward it brought
    is_first: Tensor  # [T, B] bool
    is_valid: Tensor  # [T, B] bool


class PolicyOutput(NamedTuple):
    """What the heads say. Values are in units of the return scale."""

    parameters: Tensor  # [T, B, P] of the action distribution
    values: Tensor  # [T, B]
    readout: Tensor  # [T, B, D] what the heads saw
    features: Tensor  # [T, B, F] encoded observation features, targets of the prediction loss
