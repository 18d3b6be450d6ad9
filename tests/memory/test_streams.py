"""Layers on streams side by side: each against torch, in both precisions, for less and more streams than a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

numba = pytest.importorskip("numba")

from nl_agents.memory import streams  # noqa: E402

STREAMS = [1, 16, 21]
PRECISIONS = [np.float32, np.float64]


def rows(batch: int, count: int, dtype: Any) -> np.ndarray[Any, Any]:
    return np.random.default_rng(batch + count).normal(size=(batch, count)).astype(dtype)


def close(block: Any, expected: torch.Tensor, dtype: Any) -> None:
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(block[:, : len(expected)].T, expected.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("batch", STREAMS)
def test_rows_become_a_block_and_rows_again(batch: int, dtype: Any) -> None:
    given = rows(batch, 5, dtype)
    block = streams.side_by_side(given)
    assert block.shape == (5, -(-batch // 16) * 16) and block.dtype == dtype
    assert (block[:, :batch] == given.T).all() and not block[:, batch:].any()
    back = np.full((batch, 3), np.nan, dtype)
    streams.in_rows(block, 2, back)
    assert (back == given[:, 2:]).all()


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("batch", STREAMS)
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (8, 5), (19, 7), (24, 0)])
def test_linear_equals_torch(outputs: int, inputs: int, batch: int, dtype: Any) -> None:
    weight, bias, given = rows(outputs, inputs, dtype), rows(1, outputs, dtype)[0], rows(batch, inputs + 2, dtype)
    block, out = streams.side_by_side(given), streams.side_by_side(rows(batch, outputs, dtype))
    expected = F.linear(torch.from_numpy(given[:, 2:]), torch.from_numpy(weight), torch.from_numpy(bias))
    before = torch.from_numpy(out[:, :batch].T.copy())
    streams.linear(weight, bias, block, 2, out, True)
    close(out, before + expected, dtype)
    streams.linear(weight, bias, block, 2, out, False)
    close(out, expected, dtype)
    streams.linear(weight, bias[:0], block, 2, out, False)
    close(out, expected - torch.from_numpy(bias), dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("batch", STREAMS)
def test_layer_norm_equals_torch_and_leaves_other_rows_alone(batch: int, dtype: Any) -> None:
    given, weight, bias = rows(batch, 9, dtype), rows(1, 6, dtype)[0], rows(2, 6, dtype)[1]
    block = streams.side_by_side(given)
    parts = [torch.from_numpy(part) for part in (given[:, 2:8], weight, bias)]
    out = block.copy()
    streams.layer_norm(block, 2, 6, weight, bias, out)
    close(out[2:8], F.layer_norm(parts[0], (6,), *parts[1:]), dtype)
    assert (out[:2] == block[:2]).all() and (out[8:] == block[8:]).all()
    streams.layer_norm(block, 2, 6, weight[:0], bias[:0], block)  # in place
    close(block[2:8], F.layer_norm(parts[0], (6,)), dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("batch", STREAMS)
def test_units_silu_and_squash_equal_torch(batch: int, dtype: Any) -> None:
    given = 4 * rows(batch, 8, dtype)
    given[0, :3] = 0.0  # a group without a direction stays where it is
    tensor = torch.from_numpy(given)
    block = streams.side_by_side(given)
    streams.to_units(block, 0, 2, 3)
    units = [F.normalize(tensor[:, start : start + 3], dim=-1, eps=1e-6) for start in (0, 3)]
    close(block, torch.cat((*units, tensor[:, 6:]), dim=1), dtype)
    block = streams.side_by_side(given)
    streams.silu(block)
    close(block, F.silu(tensor), dtype)
    block, gain = streams.side_by_side(given), rows(1, 8, dtype)[0]
    streams.squash(block, gain)
    close(block, torch.tanh(torch.from_numpy(gain) * tensor), dtype)
