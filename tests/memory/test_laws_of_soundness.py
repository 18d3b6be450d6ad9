"""T19: what is not finite spoils no more than it must, in every core: who reads it, until the reset that clears it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory import MemoryCore
from nl_agents.memory.sound import LARGEST
from tests.memory.cores import STEPS, STREAMS, VARIANTS, Life, build, cleared, close, outlives

SOUND = list(VARIANTS)
LASTING = [name for name, (kind, _) in VARIANTS.items() if kind not in ("feed-forward", "mlp", "attention")]


def starts() -> list[Any]:
    """Variants with something that a reset clears, each with a reset at the first step and in mid-sequence."""
    cases = []
    for name in VARIANTS:
        if any(mask.any() for mask in cleared(build(name))):
            cases.append(pytest.param(name, 0))
            cases.append(pytest.param(name, 9))
    return cases


def gradients_are_finite(core: MemoryCore, loss: Tensor, *others: Tensor) -> None:
    gradients = torch.autograd.grad(loss, [*core.parameters(), *others], allow_unused=True, materialize_grads=True)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", SOUND, indirect=True)
def test_t19_what_lies_at_invalid_steps_is_never_touched(core: MemoryCore) -> None:
    life = Life()
    clean = life.run(core, core.initial_state(STREAMS))
    life.x[~life.is_valid], life.action[~life.is_valid] = torch.nan, torch.nan
    life.x.requires_grad_()
    y, after = life.run(core, core.initial_state(STREAMS))
    close((y[life.is_valid], *after), (clean[0][life.is_valid], *clean[1]))
    (gradient,) = torch.autograd.grad(y[life.is_valid].sum(), life.x, retain_graph=True)
    assert gradient[life.is_valid].isfinite().all()
    gradients_are_finite(core, y[life.is_valid].sum())


@pytest.mark.parametrize("name", SOUND, indirect=True)
def test_t19_a_spoilt_step_reads_nan_and_leaves_the_memory_as_it_was(core: MemoryCore) -> None:
    """As if it were invalid; but if it begins an episode, the memory is cleared all the same."""
    life = Life(plain=True)
    life.is_first[4, 0] = life.is_first[7, 1] = True
    where = torch.zeros(STEPS, STREAMS, dtype=torch.bool)
    where[4, 0] = where[5, 1] = where[20:23, 2] = where[STEPS - 1, 3] = True
    refused = Life(plain=True)
    refused.x, refused.action, refused.is_valid = life.x.clone(), life.action, ~where
    refused.is_first = life.is_first.clone()
    refused.is_first[5, 0] = True
    clean, after_clean = refused.run(core, core.initial_state(STREAMS))
    life.x[where] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, 1.0])
    y, after = life.run(core, core.initial_state(STREAMS))
    assert y[where].isnan().all()
    close((y[~where], *after), (clean[~where], *after_clean))
    gradients_are_finite(core, y[~where].sum())
    stepped, states = life.walk(core, core.initial_state(STREAMS))
    torch.testing.assert_close(stepped, y, equal_nan=True)
    close(states[-1], after)


@pytest.mark.parametrize("name", SOUND, indirect=True)
def test_t19_invalid_steps_read_the_same_whatever_the_neighbours(core: MemoryCore) -> None:
    """Nor does it matter how the sequence is cut."""
    life = Life()
    life.is_first[20, 2] = False
    clean, _ = life.run(core, core.initial_state(STREAMS))
    life.x[20, 2] = torch.nan
    y, after = life.run(core, core.initial_state(STREAMS))
    close((y[:, [0, 1, 3]],), (clean[:, [0, 1, 3]],))
    stepped, states = life.walk(core, core.initial_state(STREAMS))
    torch.testing.assert_close(stepped, y, equal_nan=True)
    close(states[-1], after)


@pytest.mark.parametrize("size", [1e25, 3e38])
@pytest.mark.parametrize("name", SOUND, indirect=True)
def test_t19_huge_numbers_count_as_the_largest_and_ruin_nothing(core: MemoryCore, size: float) -> None:
    """Finite numbers are lived with: in features, and in actions; forward, steps and act agree on how."""
    life = Life()
    life.is_valid[4:8, :2] = True
    life.x[5, 0] = size * F.normalize(life.x[5, 0], dim=0)
    life.action[7, 1] = size * F.normalize(life.action[7, 1], dim=0)
    tame = life.of(torch.arange(STREAMS))
    tame.x, tame.action = life.x.clamp(-LARGEST, LARGEST), life.action.clamp(-LARGEST, LARGEST)
    life.x.requires_grad_()
    y, after = life.run(core, core.initial_state(STREAMS))
    expected, expected_after = tame.run(core, core.initial_state(STREAMS))
    assert y.isfinite().all() and all(leaf.isfinite().all() for leaf in after)
    close((y[life.is_valid], *after), (expected[life.is_valid], *expected_after))
    gradients_are_finite(core, y[:, 2:].sum(), life.x)
    gradients_are_finite(core, life.run(core, core.initial_state(STREAMS))[0].tanh().sum(), life.x)
    stepped, states = life.walk(core, core.initial_state(STREAMS))
    close((stepped[life.is_valid], *states[-1]), (y[life.is_valid], *after))


@pytest.mark.parametrize(("name", "start"), starts(), indirect=["name"])
def test_t19_a_ruined_memory_is_clean_after_the_reset_that_clears_it(core: MemoryCore, start: int) -> None:
    """What a reset clears of streams 0 and 1 is nan or infinite; streams 2 and 3 never notice; gradients are finite."""
    life = Life(plain=True)
    life.is_first[start, :2] = True
    life.x.requires_grad_()
    _, lived = life.run(core, core.initial_state(STREAMS), 0, 5)
    lived = type(lived)(*(leaf.detach() for leaf in lived))
    y, after = life.run(core, ruined(core, lived), 0)
    expected, expected_after = life.run(core, lived, 0)
    if start:
        assert not y[0, :2].isfinite().any(), "what is ruined shows"
    close((y[:, 2:], *(leaf[2:] for leaf in after)), (expected[:, 2:], *(leaf[2:] for leaf in expected_after)))
    assert y[start:].isfinite().all() and all(leaf.isfinite().all() for leaf in after)
    for mask, one, other in zip(cleared(core), after, expected_after, strict=True):
        close((one[:, mask],), (other[:, mask],))
    if not outlives(core):
        close((y[start:],), (expected[start:],))
    gradients_are_finite(core, y[start:].sum(), life.x)


def ruined(core: MemoryCore, state: Any) -> Any:
    """Puts nan into stream 0 and infinity into stream 1, wherever a reset clears."""
    leaves = []
    for mask, leaf in zip(cleared(core), state, strict=True):
        wrong = leaf.clone()
        wrong[0] = torch.where(mask, torch.nan, leaf[0]).to(leaf.dtype) if leaf.is_floating_point() else leaf[0]
        wrong[1] = torch.where(mask, torch.inf, leaf[1]).to(leaf.dtype) if leaf.is_floating_point() else leaf[1]
        leaves.append(wrong)
    return type(state)(*leaves)


@pytest.mark.parametrize("name", LASTING, indirect=True)
def test_t19_a_ruined_memory_that_nothing_clears_goes_on_showing(core: MemoryCore) -> None:
    """Nothing is hidden: without a reset the stream reads nan to the end, and its state says so."""
    life, fresh = Life(plain=True), core.initial_state(STREAMS)
    wrong = fresh[0].clone()
    wrong[:1] = torch.nan
    y, after = life.run(core, fresh._replace(**{fresh._fields[0]: wrong}))
    assert y[:, 0].isnan().all() and after[0][0].isnan().any()
    assert y[:, 1:].isfinite().all() and after[0][1:].isfinite().all()
    gradients_are_finite(core, y[:, 1:].sum())
