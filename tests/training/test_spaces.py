"""Spaces survive the way through JSON."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from nl_agents.errors import CheckpointError, SpaceNotSupportedError
from nl_agents.training.spaces import space_from_json, space_to_json

KEPT = [
    spaces.Box(-1.5, 2.0, (3,), np.float32),
    spaces.Box(np.array([-np.inf, 0.0]), np.array([np.inf, 1.0]), dtype=np.float64),
    spaces.Box(0, 255, (7, 7, 3), np.uint8),
    spaces.Discrete(4),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([3, 2], start=[1, 0]),
    spaces.MultiDiscrete([[3, 2], [4, 4]]),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 2)),
    spaces.Dict({"image": spaces.Box(0, 255, (2, 2), np.uint8), "direction": spaces.Discrete(4)}),
]


@pytest.mark.parametrize("space", KEPT, ids=str)
def test_a_space_comes_back_equal(space: gym.Space[object]) -> None:
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


def test_an_unknown_space_is_refused() -> None:
    with pytest.raises(SpaceNotSupportedError, match=r"cannot save space Sequence.*expected Box"):
        space_to_json(spaces.Sequence(spaces.Discrete(3)))


def test_an_unknown_kind_in_a_file_is_told() -> None:
    with pytest.raises(CheckpointError, match="unknown kind of space 'graph'"):
        space_from_json({"kind": "graph"})
