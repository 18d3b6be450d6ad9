"""Tiles of rows in registers: each operation against numpy, for several numbers of rows, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from nl_agents.memory.lanes import LANES, compiled, load, splat, store  # noqa: E402
from nl_agents.memory.tiles import (  # noqa: E402
    along,
    gathered,
    no_tile,
    pushed,
    put,
    put_totals,
    scaled,
    tile,
    together,
    weighed,
)


@compiled
def _every_operation(size: Any, blocks: Any, numbers: Any, columns: Any, out: Any, rows: Any, totals: Any) -> None:
    a, b = tile(blocks, (1, 2, 3), size), tile(blocks, (0, 1, 0), size)
    v = load(blocks, (0, 0, 1))
    put(out, (0, 1, 2), a)
    put(out, (1, 1, 2), pushed(a, numbers, (1, 2), v))
    put(out, (2, 1, 2), scaled(a, v))
    put(out, (3, 1, 2), gathered(a, b, v))
    put(out, (4, 1, 2), no_tile(blocks.dtype.type(0.5), size))
    put(out, (5, 1, 2), weighed(a, columns, (1, 2, 1), v))
    store(rows, (0, 0), along(numbers, (1, 2), a))
    store(rows, (1, 0), together(a, b))
    store(rows, (2, 0), splat(numbers[0, 0]))
    put_totals(totals, (1, 3), a)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 3, 8, 16, 24])
def test_operations_equal_numpy(count: int, dtype: Any) -> None:
    rng = np.random.default_rng(count)
    blocks = rng.normal(size=(2, count + 2, LANES + 4)).astype(dtype)
    numbers = rng.normal(size=(2, count + 3)).astype(dtype)
    columns = rng.normal(size=(2, count + 3, 2)).astype(dtype)
    out, rows = np.zeros((6, count + 2, LANES + 4), dtype), np.zeros((3, LANES), dtype)
    totals = np.zeros((3, 3 + 2 * LANES + 1), dtype)
    _every_operation((0,) * count, blocks, numbers, columns, out, rows, totals)
    a, b, v = blocks[1, 2:, 3 : 3 + LANES], blocks[0, 1 : 1 + count, :LANES], blocks[0, 0, 1 : 1 + LANES]
    weights = numbers[1, 2 : 2 + count, None]
    expected = [a, a + weights * v, a * v, a + b * v, np.full_like(a, 0.5)]
    expected.append(a + columns[1, 2 : 2 + count, 1:] * v)
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    for block, values in zip(out, expected, strict=True):
        np.testing.assert_allclose(block[1 : 1 + count, 2 : 2 + LANES], values, **close)
        assert np.count_nonzero(block) == count * LANES  # nothing beside the tile was written
    np.testing.assert_allclose(rows[0], (weights * a).sum(0), **close)
    np.testing.assert_allclose(rows[1], (a * b).sum(0), **close)
    np.testing.assert_allclose(totals[1, 3 : 3 + count], a.sum(1), **close)
    assert np.count_nonzero(totals) == count


def test_a_nan_stays_in_its_column_and_its_total() -> None:
    blocks, numbers = np.ones((2, 5, LANES + 4), np.float32), np.ones((2, 6), np.float32)
    blocks[1, 3, 5] = np.nan  # row 1, column 2 of the tile a
    out, rows = np.zeros((6, 5, LANES + 4), np.float32), np.zeros((3, LANES), np.float32)
    totals = np.zeros((3, 3 + LANES + 1), np.float32)
    _every_operation((0,) * 3, blocks, numbers, np.ones((2, 6, 2), np.float32), out, rows, totals)
    assert np.flatnonzero(np.isnan(rows[0])).tolist() == [2] == np.flatnonzero(np.isnan(rows[1])).tolist()
    assert np.flatnonzero(np.isnan(totals[1])).tolist() == [4]
