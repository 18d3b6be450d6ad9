"""The round trip tree → tensors and JSON → tree, exact in value, type, dtype, shape and order."""

from __future__ import annotations

import enum
import json
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nl_agents.rl import initial_moments
from nl_agents.training.state_tree import flatten, unflatten

TORCH_DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32,
    torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
]  # fmt: skip
NUMPY_DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16", ">f4", ">i8",
                "<U7", "S3", "M8[s]"]  # fmt: skip


def round_trip(tree: Any) -> Any:
    """Through safetensors bytes and JSON text, as a checkpoint does it."""
    tensors, json_tree = flatten(tree)
    loaded = safetensors.torch.load(safetensors.torch.save(tensors))
    return unflatten(loaded, json.loads(json.dumps(json_tree, allow_nan=False)))


def assert_same(left: Any, right: Any) -> None:
    """Equal in value and exact type, all the way down; NaN equals NaN, -0.0 does not equal 0.0."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype and left.shape == right.shape
        assert left.contiguous().view(-1).tolist() == right.contiguous().view(-1).tolist()
    elif isinstance(left, np.ndarray | np.generic):
        assert left.dtype == right.dtype and left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    elif isinstance(left, dict):
        assert list(left) == list(right) and list(map(type, left)) == list(map(type, right))
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    else:
        assert repr(left) == repr(right)


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3)], ids=str)
def test_tensors_of_every_dtype_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.arange(int(np.prod(shape))).reshape(shape) % 5).to(dtype)
    assert_same(round_trip({"x": tensor})["x"], tensor)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3)], ids=str)
def test_arrays_and_scalars_of_every_dtype_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(int(np.prod(shape))).reshape(shape) % 2).astype("i8").astype(dtype)
    assert_same(round_trip([array])[0], array)
    scalar = np.ones((), "i8").astype(dtype)[()]
    assert_same(round_trip(scalar), scalar)


def test_loaded_arrays_can_be_written_to() -> None:
    for array in (np.zeros(3), np.zeros(3, ">f4")):
        loaded = round_trip(array)
        loaded[0] = 1
        assert loaded[0] == 1


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**200), 2**200), st.floats(), st.text(), st.binary(max_size=9)
)
keys = st.one_of(st.text(), st.integers(), st.booleans(), st.tuples(st.integers(), st.text()), st.just("~tensor"))
trees = st.recursive(
    scalars,
    lambda child: st.one_of(
        st.lists(child, max_size=4),
        st.lists(child, max_size=3).map(tuple),
        st.dictionaries(keys, child, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(trees)
def test_any_tree_of_plain_values(tree: Any) -> None:
    assert_same(round_trip(tree), tree)


def test_random_generators_continue_where_they_were() -> None:
    numpy_rng, torch_rng = np.random.default_rng(3), torch.Generator().manual_seed(3)
    numpy_rng.random(5), torch.rand(5, generator=torch_rng)
    legacy = np.random.RandomState(7)
    saved = round_trip([numpy_rng.bit_generator.state, torch_rng.get_state(), legacy.get_state()])
    expected = numpy_rng.random(), torch.rand(1, generator=torch_rng), legacy.random()
    other, other_torch, other_legacy = np.random.default_rng(0), torch.Generator(), np.random.RandomState(0)
    other.bit_generator.state = saved[0]
    other_torch.set_state(saved[1])
    other_legacy.set_state(saved[2])
    assert (other.random(), torch.rand(1, generator=other_torch), other_legacy.random()) == expected


def test_views_shared_and_transposed_tensors() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tree = {"base": base, "again": base, "view": base[1], "flipped": base.t(), "last": base[:, -1]}
    loaded = round_trip(tree)
    assert_same(loaded, tree)
    loaded["base"][1] = 0.0
    assert loaded["view"].tolist() == [4.0, 5.0, 6.0, 7.0]


def test_a_saved_tensor_is_detached() -> None:
    loaded = round_trip({"w": torch.nn.Parameter(torch.ones(2))})["w"]
    assert type(loaded) is torch.Tensor and not loaded.requires_grad


def test_paths_that_look_alike_do_not_collide() -> None:
    tree = {"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}, 1: torch.full((1,), 2.0), "1": torch.full((1,), 3.0),
            "__metadata__": torch.full((1,), 4.0)}  # fmt: skip
    assert_same(round_trip(tree), tree)


def test_named_tuples_and_ordered_dicts_come_back_plain() -> None:
    loaded = round_trip((initial_moments((2,)), OrderedDict(a=1)))
    assert type(loaded[0]) is tuple and len(loaded[0]) == 3
    assert loaded[1] == {"a": 1} and type(loaded[1]) is dict


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        ({1, 2}, "builtins.set"),
        (Colour.RED, "Colour"),
        (object(), "builtins.object"),
        (np.array([{}]), "dtype object"),
        (np.zeros(2, [("a", "f4")]), r"dtype \[\('a', '<f4'\)\]"),
        (torch.eye(2).to_sparse(), "sparse"),
    ],
)
def test_unknown_things_are_refused_with_their_path(thing: Any, named: str) -> None:
    with pytest.raises(TypeError, match=rf"(?s)cannot save an? .*{named}.* at 'agent/3'"):
        flatten({"agent": [0, 1, 2, thing]})


def test_unknown_tags_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown tag '~later'"):
        unflatten({}, {"~later": 1})
