"""Vectors of 16 numbers: each operation against numpy, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from nl_agents.memory import lanes  # noqa: E402
from nl_agents.memory.lanes import (  # noqa: E402
    LANES,
    add,
    compiled,
    div,
    exponential,
    fma,
    largest,
    load,
    mul,
    root,
    splat,
    store,
    total,
)  # fmt: skip


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


@compiled
def _exponentials(numbers: Any, out: Any) -> None:
    for n in range(0, len(numbers), LANES):
        store(out, (n,), exponential(load(numbers, (n,))))


@pytest.mark.parametrize(("dtype", "edge"), [(np.float32, 86.9), (np.float64, 707.9)])
def test_exponentials_are_right_to_three_units_in_the_last_place(dtype: Any, edge: float) -> None:
    numbers = np.concatenate((np.linspace(-edge, edge, 4096), np.linspace(-1, 1, 4096))).astype(dtype)
    out = np.empty_like(numbers)
    _exponentials(numbers, out)
    exact = np.exp(numbers.astype(np.longdouble))
    assert float(np.abs(out / exact - 1).max()) < 3 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials_beyond_the_range_are_zero_or_infinite_and_nan_stays_nan(dtype: Any) -> None:
    numbers = np.zeros(LANES, dtype)
    numbers[:5] = np.nan, np.inf, -np.inf, 1e30, -1e30
    out = np.empty_like(numbers)
    _exponentials(numbers, out)
    np.testing.assert_array_equal(out, [np.nan, np.inf, 0.0, np.inf, 0.0] + 11 * [1.0])


@compiled
def _larger(a: Any, b: Any, out: Any) -> None:
    store(out, (0,), largest(load(a, (0,)), load(b, (0,))))


def test_largest_takes_the_second_where_the_first_is_nan() -> None:
    a, b, out = np.linspace(-1, 1, LANES), np.zeros(LANES), np.empty(LANES)
    a[3] = np.nan
    _larger(a, b, out)
    np.testing.assert_array_equal(out, np.where(a > 0, a, 0.0))


@pytest.mark.parametrize(("size", "expected"), [(1, 16), (16, 16), (17, 32), (50, 64)])
def test_padded_is_the_next_whole_number_of_vectors(size: int, expected: int) -> None:
    assert lanes.padded(size) == expected
