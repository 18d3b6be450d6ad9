"""The flat layout: views, repeats and sums find their tensor."""

from __future__ import annotations

import torch

from nl_agents.optim.layout import BLOCK, SegmentLayout

SHAPES = [torch.Size(shape) for shape in [(3, 4), (), (BLOCK,), (BLOCK + 1,), (2, 300)]]


def test_views_do_not_overlap_and_start_on_blocks() -> None:
    layout = SegmentLayout(SHAPES, torch.device("cpu"))
    flat = torch.zeros(layout.floats)
    for index, view in enumerate(layout.views(flat)):
        assert view.shape == SHAPES[index]
        view.add_(index + 1)
    assert flat.sum() == sum((index + 1) * shape.numel() for index, shape in enumerate(SHAPES))
    assert all(offset % BLOCK == 0 for offset in layout.offsets)
    stacked = layout.stacked_views(torch.stack([flat, 2 * flat]))
    assert torch.equal(stacked[4], torch.stack([torch.full((2, 300), 5.0), torch.full((2, 300), 10.0)]))


def test_expand_and_reduce_work_per_tensor() -> None:
    layout = SegmentLayout(SHAPES, torch.device("cpu"))
    blocks = [-(-shape.numel() // BLOCK) for shape in SHAPES]
    values = torch.arange(5.0)[:, None].repeat(1, 2)
    expanded = layout.expand(values)
    assert expanded.shape == (sum(blocks), 2)
    assert torch.equal(layout.reduce(expanded), values * torch.tensor(blocks)[:, None])
