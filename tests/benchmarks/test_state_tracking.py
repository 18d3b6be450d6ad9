"""What buys Hope its state tracking: memories that fade fast and write themselves anew, not longer steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.probing.cell import Cell, Reader, ask, train
from benchmarks.probing.cores import parse_core
from benchmarks.probing.plans import PLANS, Settings
from nl_agents.probes import make_probe

BUDGET = Settings(updates=600, eval_streams=64)
STEPS, MORE = 30, 64  # before a disturbance and after it


def trained(task: str, core: str) -> tuple[Reader, Cell]:
    torch.manual_seed(0)
    cell, probe = Cell(task, parse_core(core), 0, 3e-3), make_probe(task)
    reader = Reader(cell.core, probe, BUDGET.width)
    train(reader, probe, cell, PLANS[task], BUDGET)
    return reader, cell


def accuracy(reader: Reader, cell: Cell, span: int) -> float:
    outcome = ask(reader, make_probe(cell.task), cell, span, BUDGET)
    return outcome["right"] / outcome["asked"]


@torch.no_grad()
def what_is_left_of_a_disturbance(reader: Reader, task: str) -> float:
    """Median distance of two memories, one of them disturbed, over their distance 64 steps earlier."""
    x, is_first = torch.zeros(STEPS + MORE, 32, 2), torch.zeros(STEPS + MORE, 32, dtype=torch.bool)
    x[..., 1] = 1.0 if task == "aa-star" else torch.randint(2, (STEPS + MORE, 32)).float()
    x[..., 0] = 1.0 - x[..., 1]
    _, state = reader.core(x[:STEPS], reader.core.initial_state(32), is_first[:STEPS])
    push = 0.02 * torch.randn_like(state.delta)
    ends: list[Any] = [
        reader.core(x[STEPS:], start, is_first[STEPS:])[1].delta
        for start in (state, state._replace(delta=state.delta + push, anchor=state.anchor + push))
    ]
    return float(((ends[0] - ends[1]).flatten(1).norm(dim=1) / push.flatten(1).norm(dim=1)).median())


@pytest.mark.slow
@pytest.mark.parametrize("task", ["parity", "aa-star"])
def test_a_memory_that_fades_fast_tracks_states_beyond_its_training(task: str) -> None:
    reader, cell = trained(task, "hope:chunk=1,retention=(1.5,5.0)")
    assert accuracy(reader, cell, 256) > 0.99
    assert what_is_left_of_a_disturbance(reader, task) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("task", ["parity", "aa-star"])
@pytest.mark.parametrize("core", ["gated-delta", "gated-delta:retention=(1.5,5.0)"])
def test_fixed_projections_with_steps_up_to_1_do_not(task: str, core: str) -> None:
    assert accuracy(*trained(task, core), 256) < 0.9
