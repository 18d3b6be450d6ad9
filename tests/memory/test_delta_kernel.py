"""The memory's compiled form against its portable one, for keys shorter, as long and longer than a vector."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory import gated_delta, self_modifying
from nl_agents.memory.self_modifying import SelfModifyingMemory, SelfModifyingState

pytest.importorskip("numba")
pytestmark = pytest.mark.usefixtures("double")
STEPS, STREAMS, WIDTH = 23, 3, 6


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


def test_t7_within_one_chunk_it_is_a_gated_delta_rule() -> None:
    """Keys are fixed there: Eq. 93 is alpha S - beta' (alpha S k - v) k^T with beta' = beta / alpha, v = alpha u."""
    torch.manual_seed(0)
    core = SelfModifyingMemory(WIDTH, heads=2, key_size=4, chunk=STEPS + 1, never_heads=2, retention=(3.0, 50.0))
    x, silent = torch.randn(STEPS, 1, WIDTH), torch.zeros(STEPS, 1, dtype=torch.bool)
    with torch.no_grad():
        delta = core(x, core.initial_state(1), silent, None, 0)[1].delta[0].mT  # [H, R, K]
        base, c = core.memory_0 + core.residual, F.normalize(core.mix(x).view(STEPS, 3, 2, 4)[:, 0], dim=-1, eps=1e-6)
        told = torch.einsum("hrk,thk->htr", base, c)
        key = F.normalize(told[..., :4], dim=-1, eps=1e-6)
        beta, gate = (told[..., 8:10] + core.gate_bias[:, None]).sigmoid().unbind(-1)
        log_alpha = -2.0 * torch.exp(-core.log_tau)[:, None] * gate
        z = torch.einsum("hrk,htk->htr", base, told[..., 4:8])
        wanted = z / torch.sqrt(1.0 + z * z) - torch.einsum("hrk,htk->htr", base, key)  # u
        alpha = log_alpha.exp()
        for row in range(core.rows):
            value = (alpha[..., None] * wanted[..., row : row + 1]).expand(-1, -1, 4)
            still = torch.zeros(2, STEPS, dtype=torch.int64)
            rule = gated_delta.Inputs(key, key, value, beta / alpha, log_alpha, still)
            memory = gated_delta.chunks(rule, torch.zeros(2, 4, 4), 8)[1]
            torch.testing.assert_close(memory[:, 0], delta[:, row], atol=1e-9, rtol=1e-9)
