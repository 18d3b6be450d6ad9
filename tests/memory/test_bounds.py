"""T12: no input makes a memory larger than docs/state.md says; the proofs' lemmas; a million steps are on record."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from benchmarks.endurance import CORES as LABELS
from benchmarks.endurance import EXACT, SENSORS, endure, hardened, is_within
from benchmarks.speed import ROOT
from nl_agents.memory import CORES, MemoryCore
from nl_agents.memory.bounds import state_bounds
from tests.memory.cores import ACTIONS, SIZE, STREAMS, VARIANTS, build


def test_every_core_is_on_the_list() -> None:
    assert {label.partition(":")[0] for label in LABELS} == set(CORES)


@pytest.mark.parametrize("label", LABELS)
def test_t12_hostile_steps_leave_every_memory_within_its_bound(label: str) -> None:
    steps = 256 if label in EXACT else 2_048  # exact forms run step by step
    found = endure(hardened(label), steps, piece=min(steps, 1_024))
    assert is_within(found), found
    written = {name: leaf["largest"] for name, leaf in found.items() if name not in SENSORS}
    assert not written or max(written.values()) > 1e-3, "the adversaries did write"


def test_t12_a_million_hostile_steps_of_every_core_are_on_record_within_their_bounds() -> None:
    """Exact forms of self-modifying memory, which loop over time, have a tenth of that."""
    record = json.loads((ROOT / "benchmarks" / "results" / "endurance.json").read_text("utf-8"))
    assert {row["core"] for row in record["rows"]} >= set(LABELS)
    for row in record["rows"]:
        wanted = 100_000 if row["core"] in EXACT else 1_000_000
        assert is_within(row["leaves"]) and row["steps"] >= wanted, row["core"]


@pytest.mark.parametrize("label", [label for label in LABELS if label not in EXACT])
def test_t12_numbers_near_the_end_of_float32_leave_every_memory_within_its_bound(label: str) -> None:
    core = hardened(label)
    x = torch.randn(512, 2, 5).sign() * torch.tensor([1e25, 3e38]).view(1, 2, 1)
    with torch.no_grad():
        y, state = core(x, core.initial_state(2), torch.zeros(512, 2, dtype=torch.bool))
    assert y.isfinite().all()
    for field, limit in state_bounds(core, 512, 3e38).items():
        leaf = getattr(state, field)
        assert not leaf.numel() or float(leaf.abs().max()) <= limit * (1.0 + 1e-4), field


@pytest.mark.parametrize("portable_form", [False, True], ids=["compiled", "portable"])
def test_t12_lives_with_resets_stay_within_too(
    portable_form: bool, request: pytest.FixtureRequest, double: None
) -> None:
    """Every variant of the laws, in float64, at the end of a life that fits all clocks."""
    if portable_form:
        request.getfixturevalue("portable")
    for name, (kind, _) in VARIANTS.items():
        if kind != "hope" and portable_form:
            continue
        core = build(name)
        steps = 6 * core.clock_period
        x, flags = 1e3 * torch.randn(steps, STREAMS, SIZE), torch.rand(steps, STREAMS) < 0.1
        action = torch.randn(steps, STREAMS, ACTIONS)
        with torch.no_grad():
            _, state = core(x, core.initial_state(STREAMS), flags, None, action)
        for field, limit in state_bounds(core, steps, float(x.abs().max())).items():
            leaf = getattr(state, field)
            assert not leaf.numel() or float(leaf.abs().max()) <= limit * (1.0 + 1e-9), (name, field)


@pytest.mark.parametrize("alpha", [2.0 / 3.0, 0.8, 0.99, 1.0])
def test_the_lemma_of_the_delta_rule(alpha: float, double: None) -> None:
    """|d'|^2 <= alpha^2 |d|^2 + 4/3 beta u^2, for random and for extreme steps, keys and targets."""
    for _ in range(20):
        row, key = torch.randn(500, 3) * 10.0 ** torch.randint(-2, 3, (500, 1)), torch.randn(500, 3)
        key = key / key.norm(dim=1, keepdim=True)
        beta, target = torch.rand(500, 1).round(decimals=1), 3.0 * (2.0 * torch.rand(500, 1) - 1.0)
        after = alpha * row - beta * ((row * key).sum(1, keepdim=True) - target) * key
        allowed = alpha**2 * row.square().sum(1) + 4.0 / 3.0 * (beta * target.square()).squeeze(1)
        assert (after.square().sum(1) <= allowed * (1.0 + 1e-12)).all()


def test_the_bound_of_the_delta_rule_is_no_exaggeration(double: None) -> None:
    """An adversary who always turns the key away from what is stored: the row grows as sqrt(t)."""
    row = torch.zeros(2)
    for _ in range(10_000):
        key = torch.tensor([-row[1], row[0]]) / row.norm() if row.norm() > 0 else torch.tensor([1.0, 0.0])
        row = row - ((row @ key) - 1.0) * key
    assert 0.99 * math.sqrt(10_000) <= row.norm() <= math.sqrt(4.0 / 3.0 * 10_000)


def test_a_core_without_a_proof_says_so() -> None:
    class Unproven(MemoryCore):
        state_type: Any = tuple

        def initial_state(self, batch_size: int, device: Any = None) -> Any: ...
        def forward(self, *given: Any) -> Any: ...
        def levels(self) -> Any: ...

    with pytest.raises(NotImplementedError, match="no bound is known for a Unproven: add its proof to"):
        state_bounds(Unproven(2, 2), 10, 1.0)
