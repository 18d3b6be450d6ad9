"""The LSTM over blocks: its hand-written adjoint, its packed form and torch's own say the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nl_agents.sb3.cells import FusedLstm, LstmState, lstm_lanes


def grown(layers: int, width: int = 7, **options: Any) -> FusedLstm:
    torch.manual_seed(0)
    return FusedLstm(5, width, num_layers=layers, **options).double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("way", ["lanes", "scan", "stretches", "segments", "gaps"])
def test_a_block_equals_torchs_steps(layers: int, way: str, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "lanes" and lstm_lanes is None:
        pytest.skip("needs numba")
    if way != "lanes":
        monkeypatch.setattr("nl_agents.sb3.cells.lstm_lanes", None)
    width, gaps = 7, way == "gaps"
    cell = grown(layers, width, bias=bias)
    taken: list[str] = []
    for name in ("_stretched", "_scan"):
        method = getattr(cell, name)
        monkeypatch.setattr(cell, name, lambda *given, name=name, method=method: taken.append(name) or method(*given))
    x = torch.randn(9, 4, 5).double().requires_grad_()
    state = LstmState(*(torch.randn(4, layers, width).double().requires_grad_() for _ in range(2)))
    is_first = torch.rand(9, 4) < (0.6 if way in ("lanes", "scan", "segments") else 0.0)
    is_first[0, 1] = is_first[4, 2] = is_first[5, 2] = is_first[8, 0] = True
    if way == "segments":
        monkeypatch.setattr(cell, "_is_plain", lambda x: False)
    is_valid = torch.rand(9, 4) < 0.7 if gaps else None
    y, after = cell.run(x, state, is_first, is_valid)
    assert taken == {"lanes": ["_scan"], "scan": ["_scan"], "stretches": ["_stretched"]}.get(way, [])
    hidden, stored, reads = state.hidden.transpose(0, 1), state.cell.transpose(0, 1), []
    for t in range(9):
        live = torch.ones(4, dtype=torch.bool) if is_valid is None else is_valid[t]
        clear = (is_first[t] & live).view(1, 4, 1)
        start = (hidden.masked_fill(clear, 0.0), stored.masked_fill(clear, 0.0))
        read, (one, other) = nn.LSTM.forward(cell, x[t : t + 1], tuple(part.contiguous() for part in start))
        hidden, stored = (torch.where(live.view(1, 4, 1), new, old) for new, old in ((one, hidden), (other, stored)))
        reads.append(read * live.view(1, 4, 1))
    expected = (torch.cat(reads), hidden.transpose(0, 1), stored.transpose(0, 1))
    given = [x, *state, *cell.parameters()]
    weights = [torch.randn_like(part) for part in expected]
    gradients = []
    for outcome in ((y, *after), expected):
        total = sum((part * weight).sum() for part, weight in zip(outcome, weights, strict=True))
        gradients.append(torch.autograd.grad(total, given, retain_graph=True))
    for one, other in zip((y, *after, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-11)


def test_dropout_and_projection_go_another_way() -> None:
    plain = torch.zeros(2, 2, 5).double()
    assert grown(2)._is_plain(plain) and not grown(2, dropout=0.5)._is_plain(plain)
    assert not grown(1, proj_size=3)._is_plain(plain)


@pytest.mark.parametrize("width", [7, 8])  # the portable form and the compiled one
def test_what_was_remembered_and_is_not_finite_ends_at_a_reset(width: int) -> None:
    cell = grown(1, width)
    ruined = LstmState(*(torch.full((2, 1, width), torch.nan).double() for _ in range(2)))
    first = torch.zeros(4, 2, dtype=torch.bool)
    first[1] = True
    x = torch.randn(4, 2, 5).double().requires_grad_()
    y, after = cell.run(x, ruined, first)
    (gradient,) = torch.autograd.grad(y[1:].sum(), x)
    assert y[1:].isfinite().all() and after.hidden.isfinite().all() and gradient[1:].isfinite().all()


def test_packed_states_come_back() -> None:
    cell = grown(2)
    state = LstmState(torch.randn(3, 2, 7).double(), torch.randn(3, 2, 7).double())
    for again in (cell.unpack(cell.pack(state)), cell.from_host(cell.to_host(state), torch.float64)):
        assert all(torch.equal(one, other) for one, other in zip(again, state, strict=True))
