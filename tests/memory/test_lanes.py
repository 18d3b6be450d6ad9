"""Vectors of 16 numbers: each operation against numpy, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from nl_agents.memory import lanes  # noqa: E402
from nl_agents.memory.lanes import LANES, add, compiled, div, fma, load, mul, root, splat, store, total  # noqa: E402


@compiled
def _every_operation(matrix: Any, x: float, out: Any, sums: Any) -> None:
    a, b = load(matrix, (1, 3)), load(matrix, (2, 0))
    store(out, (0, 0), fma(a, b, splat(matrix.dtype.type(x))))
    store(out, (1, 1), add(a, b))
    store(out, (2, 2), mul(a, b))
    store(out, (3, 3), div(a, b))
    store(out, (4, 4), root(mul(a, a)))
    sums[0] = total(a)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_operations_equal_numpy(dtype: Any) -> None:
    matrix = np.random.default_rng(0).normal(size=(3, LANES + 5)).astype(dtype)
    out, sums = np.zeros((5, LANES + 4), dtype), np.zeros(1, dtype)
    _every_operation(matrix, 0.5, out, sums)
    a, b = matrix[1, 3 : 3 + LANES], matrix[2, :LANES]
    expected = [a * b + dtype(0.5), a + b, a * b, a / b, np.abs(a)]
    for row, values in enumerate(expected):
        np.testing.assert_allclose(out[row, row : row + LANES], values, rtol=1e-6)
        assert np.count_nonzero(out[row]) == LANES  # nothing beside the vector was written
    np.testing.assert_allclose(sums[0], a.sum(), rtol=1e-5)


def test_a_nan_stays_one() -> None:
    matrix = np.ones((3, LANES + 5), np.float32)
    matrix[1, 5] = np.nan
    out, sums = np.zeros((5, LANES + 4), np.float32), np.zeros(1, np.float32)
    _every_operation(matrix, 0.5, out, sums)
    assert np.isnan(sums[0])
    assert [np.flatnonzero(np.isnan(row)).tolist() for row in out] == [[2], [3], [4], [5], [6]]


@pytest.mark.parametrize(("size", "expected"), [(1, 16), (16, 16), (17, 32), (50, 64)])
def test_padded_is_the_next_whole_number_of_vectors(size: int, expected: int) -> None:
    assert lanes.padded(size) == expected
