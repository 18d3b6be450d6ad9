"""Observations as rows and rows as features."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from nl_agents.errors import SpaceNotSupportedError
from nl_agents.policies import ObservationCodec

GRID = spaces.Box(0, 255, (2, 3, 3), np.uint8)
VECTOR = spaces.Box(-np.inf, np.inf, (4,), np.float32)


def pack(codec: ObservationCodec, observation: Any, streams: int) -> Tensor:
    rows: NDArray[Any] = torch.zeros(streams, codec.row_size, dtype=codec.dtype).numpy()
    codec.pack(observation, rows)
    return torch.from_numpy(rows)


def features(codec: ObservationCodec, rows: Tensor, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    size = codec.vector_size
    return codec.features(rows, torch.full((size,), mean), torch.full((size,), scale))


def test_a_vector_is_stored_raw_and_normalised_when_used() -> None:
    codec = ObservationCodec(VECTOR)
    seen = np.array([[1.0, 2.0, 3.0, 1e6], [0.0, 0.0, 0.0, -1e6]], np.float32)
    rows = pack(codec, seen, 2)
    assert (codec.row_size, codec.feature_size, codec.vector_size, codec.dtype) == (4, 4, 4, torch.float32)
    assert torch.equal(rows, torch.from_numpy(seen)) and torch.equal(codec.vectors(rows), rows)
    expected = torch.tensor([[0.0, 0.5, 1.0, 10.0], [-0.5, -0.5, -0.5, -10.0]])
    assert torch.equal(features(codec, rows, mean=1.0, scale=0.5), expected)


def test_a_grid_of_codes_stays_bytes() -> None:
    codec = ObservationCodec(GRID)
    seen = np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3) % 11
    rows = pack(codec, seen, 2)
    assert rows.dtype == torch.uint8 and codec.vector_size == 0
    assert torch.equal(features(codec, rows), torch.from_numpy(seen.reshape(2, -1)) / 10.0)


def test_one_hot_codes_say_which_code_stands_in_which_place() -> None:
    codec = ObservationCodec(GRID, "one-hot")
    seen = np.zeros((2, 2, 3, 3), np.uint8)
    seen[0, 0, 0] = (5, 1, 2)
    seen[1, 1, 2] = (200, 7, 3)  # an object and a colour that MiniGrid does not have
    rows = pack(codec, seen, 2)
    assert rows.dtype == torch.uint8 and (codec.row_size, codec.feature_size, codec.vector_size) == (18, 6 * 21, 0)
    made = features(codec, rows).view(2, 2, 3, 21)
    assert made.sum(-1).eq(3.0).all()
    expected = torch.zeros(21)
    expected[[0, 11, 17]] = 1.0
    assert made[0, 1, 2].equal(expected) and made[1, 0, 0].equal(expected)
    assert made[0, 0, 0].nonzero().flatten().tolist() == [5, 12, 19]
    assert made[1, 1, 2].nonzero().flatten().tolist() == [10, 16, 20]


def test_one_hot_codes_are_minigrids() -> None:
    with pytest.raises(SpaceNotSupportedError, match=r"box \[..., 3\].*memory.grid"):
        ObservationCodec(spaces.Box(0, 255, (4, 4), np.uint8), "one-hot")


def test_a_discrete_observation_becomes_one_hot() -> None:
    codec = ObservationCodec(spaces.Discrete(3))
    rows = pack(codec, np.array([2, 0]), 2)
    assert codec.row_size == 1 and codec.feature_size == 3
    assert features(codec, rows).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_a_dict_joins_its_leaves_and_leaves_text_out() -> None:
    codec = ObservationCodec(
        spaces.Dict({"image": GRID, "direction": spaces.Discrete(4), "mission": spaces.Text(9), "speed": VECTOR})
    )
    rng = np.random.default_rng(0)
    seen = {
        "image": rng.integers(0, 10, (3, 2, 3, 3), np.uint8),
        "direction": np.array([0, 3, 1]),
        "speed": rng.normal(size=(3, 4)).astype(np.float32),
        "mission": ("go", "go", "go"),
    }
    rows = pack(codec, seen, 3)
    assert (codec.row_size, codec.feature_size, codec.dtype) == (18 + 1 + 4, 18 + 4 + 4, torch.float32)
    by_key = {part.key: features(codec, rows)[:, _place(codec, part.key)] for part in codec.parts}
    torch.testing.assert_close(by_key["image"], torch.from_numpy(seen["image"].reshape(3, -1)) / 10.0)
    assert by_key["direction"].argmax(1).tolist() == [0, 3, 1] and by_key["direction"].sum(1).tolist() == [1, 1, 1]
    assert torch.equal(by_key["speed"], torch.from_numpy(seen["speed"]))
    assert torch.equal(codec.vectors(rows), torch.from_numpy(seen["speed"]))


def _place(codec: ObservationCodec, key: str | None) -> slice:
    start = 0
    for part in codec.parts:
        if part.key == key:
            return slice(start, start + part.size)
        start += part.size
    raise AssertionError(key)


def test_many_values_do_not_fit_in_a_byte() -> None:
    codec = ObservationCodec(spaces.Discrete(300))
    assert codec.dtype == torch.float32
    assert features(codec, pack(codec, np.array([299]), 1)).argmax().item() == 299


def test_discrete_numbers_side_by_side_become_one_hot_and_bits_stay_bits() -> None:
    codec = ObservationCodec(spaces.MultiDiscrete([3, 2], start=[1, 0]))
    assert codec.dtype == torch.uint8 and codec.feature_size == 5
    assert features(codec, pack(codec, np.array([[3, 0], [1, 1]]), 2)).tolist() == [[0, 0, 1, 1, 0], [1, 0, 0, 0, 1]]
    below = ObservationCodec(spaces.Discrete(3, start=-1))
    assert below.dtype == torch.float32
    assert features(below, pack(below, np.array([-1, 1]), 2)).tolist() == [[1, 0, 0], [0, 0, 1]]
    bits = ObservationCodec(spaces.MultiBinary((2, 2)))
    assert features(bits, pack(bits, np.array([[[0, 1], [1, 1]]], np.int8), 1)).tolist() == [[0, 1, 1, 1]]


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), "is a large image; only small code grids"),
        (spaces.Text(3), "nothing in .* can be encoded"),
        (spaces.Sequence(VECTOR), "no encoder for leaf None of type Sequence; expected Box, Discrete, MultiDiscrete"),
        (spaces.Dict({"inner": spaces.Dict({"x": VECTOR})}), "no encoder for leaf 'inner' of type Dict"),
        (spaces.Dict({"mission": spaces.Text(9)}), "nothing in .* can be encoded"),
    ],
)
def test_what_cannot_be_encoded_is_refused(space: gym.Space[Any], text: str) -> None:
    with pytest.raises(SpaceNotSupportedError, match=text):
        ObservationCodec(space)
