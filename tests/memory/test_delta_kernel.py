"""The memory's compiled form against its portable one, for keys shorter, as long and longer than a vector."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nl_agents.memory import self_modifying
from nl_agents.memory.self_modifying import SelfModifyingMemory, SelfModifyingState

pytest.importorskip("numba")
STEPS, STREAMS, WIDTH = 23, 3, 6


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _lived(core: SelfModifyingMemory, chunk_start: int) -> list[Tensor]:
    """Everything that comes out of a sequence: read-out, memories, all gradients."""
    torch.manual_seed(1)
    x = torch.randn(STEPS, STREAMS, WIDTH, requires_grad=True)
    leaves = [0.3 * torch.randn_like(leaf) for leaf in core.initial_state(STREAMS)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    is_first, is_valid = torch.rand(STEPS, STREAMS) < 0.15, torch.rand(STEPS, STREAMS) < 0.8
    is_first[6] = is_valid[6] = True  # just behind a chunk's end where chunks have 3 steps
    y, after = core(x, SelfModifyingState(*leaves), is_first, is_valid, chunk_start)
    outputs = [y, *after]
    torch.manual_seed(2)
    score = sum((out * torch.randn(out.shape)).sum() for out in outputs)
    wanted = [x, *leaves, *core.parameters()]
    return [*outputs, *torch.autograd.grad(score, wanted)]  # type: ignore[arg-type]


@pytest.mark.parametrize("step_limit", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("chunk", [1, 3, 8, 64])
@pytest.mark.parametrize("key_size", [1, 5, 8, 16, 20, 32])
def test_both_forms_agree(key_size: int, chunk: int, step_limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    core = SelfModifyingMemory(
        WIDTH, heads=2, key_size=key_size, chunk=chunk, never_heads=1, retention=(3.0, 50.0), step_limit=step_limit
    )
    for parameter in core.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    fast = _lived(core, 0 if chunk == 1 else 2)
    monkeypatch.setattr(self_modifying, "compiled", None)
    for compiled, portable in zip(fast, _lived(core, 0 if chunk == 1 else 2), strict=True):
        torch.testing.assert_close(compiled, portable, atol=1e-9, rtol=1e-9)
