"""Precisions: under autocast a memory keeps its own; half of it works, or says that it does not."""

from __future__ import annotations

import pytest
import torch

from nl_agents.memory import make_core
from tests.memory.cores import ACTIONS, SIZE, STREAMS, VARIANTS, WIDTH, Life, build, close

HALVES = (torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", VARIANTS, indirect=True)
def test_under_autocast_a_memory_keeps_its_precision(name: str) -> None:
    """What comes in half precision is raised; values, gradients and acting are those of the same numbers outside."""
    core, life = build(name), Life()
    life.x, life.action = life.x.bfloat16(), life.action.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, after = life.run(core, core.initial_state(STREAMS))
        halved = type(after)(*(leaf.bfloat16() if leaf.is_floating_point() else leaf for leaf in after))
        flags, phase = life.is_first[:1], int(after.phase[0]) if "phase" in after._fields else 0
        acted, _ = core.act(life.x[:1], core.unpack(core.pack(after)), flags, None, life.action[:1], phase)
        assert life.run(core, halved)[0].isfinite().all(), "a state kept in half precision is taken up"
    y.sum().backward()
    gradients = [parameter.grad for parameter in core.parameters()]
    core.zero_grad()
    life.x, life.action = life.x.float(), life.action.float()
    expected, expected_after = life.run(core, core.initial_state(STREAMS))
    close((y, *after), (expected, *expected_after), 0.0)
    expected.sum().backward()
    close([part for part in gradients if part is not None],
          [part.grad for part in core.parameters() if part.grad is not None], 0.0)  # fmt: skip
    with torch.no_grad():
        close((acted,), (core(life.x[:1], after, flags, None, life.action[:1], phase)[0],))


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", VARIANTS, indirect=True)
def test_a_core_cast_to_half_precision_runs_or_says_what_to_do(name: str, half: torch.dtype) -> None:
    core, life = build(name).to(half), Life()
    life.x = life.x.to(half)
    if core.solves:
        with pytest.raises(TypeError, match=rf"does not run in {half}: keep the core in float32 and use"):
            life.run(core, core.initial_state(STREAMS))
        return
    y, after = life.run(core, core.initial_state(STREAMS))
    assert y.dtype == half and y.isfinite().all()
    assert {leaf.dtype for leaf in after if leaf.is_floating_point()} <= {half}


def test_hope_steps_compiled_only_outside_autocast() -> None:
    core = make_core("hope", input_size=SIZE, width=WIDTH, action_size=ACTIONS)
    x, flags = torch.randn(1, STREAMS, SIZE), torch.zeros(1, STREAMS, dtype=torch.bool)
    outside, _ = core.act(x, core.initial_state(STREAMS), flags, phase=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = core.act(x, core.initial_state(STREAMS), flags, phase=0)
    torch.testing.assert_close(inside, outside, atol=1e-5, rtol=1e-5)
