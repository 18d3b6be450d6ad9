"""One core, one probe, one seed: train a core and a linear head, then ask it at spans beyond its training.

    logits_t = W y_t + b,    loss = mean over asked steps of the cross-entropy (nats)

AdamW on all parameters alike, gradients through whole streams; the rate rises over the first 5 % of the updates and
falls linearly to 0. Levels that a trainer would step at slower periods (Hope's learner-time levels) are stepped at
every update here. Evaluation streams through the core in segments with carried state and no gradients.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.probing.cores import CoreSpec
from benchmarks.probing.plans import Plan, Settings
from nl_agents.probes import Batch, Probe, make_probe
from nl_agents.seeding import generator, spawn

SEGMENT = 256  # steps of a piece when a core is asked; results do not depend on it
LEAST_STREAMS = 16


@dataclass(frozen=True)
class Cell:
    """What is to be trained.

    Attributes:
        task: name of the probe.
        core: the core.
        seed: of weights and batches; every core gets the same batches.
        rate: learning rate.
        is_trial: whether it is a tuning trial, which is not asked beyond its training.
    """

    task: str
    core: CoreSpec
    seed: int
    rate: float
    is_trial: bool = False

    @property
    def path(self) -> str:
        """Where its record lies, below the folder of results."""
        kind = f"-trial-lr{self.rate:g}" if self.is_trial else ""
        return f"{self.task}/{self.core.slug}{kind}-seed{self.seed}.json"


class Reader(nn.Module):
    """A core and a linear head."""

    def __init__(self, core: CoreSpec, probe: Probe, width: int) -> None:
        super().__init__()
        self.core = core.build(probe.features, width)
        self.head = nn.Linear(self.core.width, probe.classes)

    def forward(self, batch: Batch, state: Any, clock: int) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Returns logits and targets of the asked steps [N, classes], [N], and the memory after the last step."""
        device = self.head.weight.device
        x, targets, mask, is_first = (torch.from_numpy(leaf).to(device) for leaf in batch)
        y, state = self.core(x, state, is_first, phase=clock % self.core.clock_period)
        return self.head(y[mask]), targets[mask], state


def run_cell(
    cell: Cell, plan: Plan, settings: Settings, device: str = "cpu", report: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Trains and asks; returns the record as plain JSON values.

    Args:
        cell: what.
        plan: spans of its probe.
        settings: the budget.
        device: where the core lives.
        report: called after each update with the number of updates so far.
    """
    torch.set_num_threads(1)
    probe = make_probe(cell.task)
    torch.manual_seed(spawn(cell.seed, "weights", cell.task))
    reader = Reader(cell.core, probe, settings.width).to(device)
    begin = time.perf_counter()
    losses, refused = train(reader, probe, cell, plan, settings, report)
    middle = time.perf_counter()
    spans = () if cell.is_trial else plan.evaluate
    results = [ask(reader, probe, cell, span, settings) for span in spans]
    tail = losses[-max(1, len(losses) // 10) :]
    closing = sum(tail) / len(tail)
    return {
        "task": cell.task,
        "core": cell.core.label,
        "kind": "trial" if cell.is_trial else "run",
        "seed": cell.seed,
        "rate": cell.rate,
        "span_unit": probe.span_unit,
        "chance": probe.chance,
        "plan": asdict(plan),
        "settings": asdict(settings),
        "state_floats": reader.core.state_size,
        "parameters": sum(parameter.numel() for parameter in reader.parameters()),
        "losses": _thinned(losses),
        "closing_loss": closing if math.isfinite(closing) else None,
        "refused_updates": refused,
        "results": results,
        "seconds": {"train": round(middle - begin, 1), "evaluate": round(time.perf_counter() - middle, 1)},
    }


def train(
    reader: Reader,
    probe: Probe,
    cell: Cell,
    plan: Plan,
    settings: Settings,
    report: Callable[[int], None] | None = None,
) -> tuple[list[float], int]:
    """Trains in place; returns the loss of every update (nats) and how many were refused as not finite."""
    optimizer = torch.optim.AdamW(reader.parameters(), lr=cell.rate, weight_decay=settings.weight_decay)
    warmup = max(1, settings.updates // 20)
    rng = generator(cell.seed, "train", cell.task)
    losses, refused = [], 0
    for update in range(settings.updates):
        left = (settings.updates - update) / settings.updates
        optimizer.param_groups[0]["lr"] = cell.rate * min((update + 1) / warmup, left)
        batch = probe.batch(rng, settings.streams, int(rng.integers(plan.low, plan.high + 1)))
        logits, targets, _ = reader(batch, reader.core.initial_state(settings.streams), 0)
        loss = F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(reader.parameters(), settings.clip)
        if bool(torch.isfinite(norm)):
            optimizer.step()
        else:
            refused += 1
        losses.append(float(loss.detach()))
        if report is not None:
            report(update + 1)
    return losses, refused


@torch.no_grad()
def ask(reader: Reader, probe: Probe, cell: Cell, span: int, settings: Settings) -> dict[str, int]:
    """Asks at one span; every core is asked the same streams.

    Returns:
        span, streams, asked and right answers, and ``whole``: streams without a wrong answer.
    """
    streams = max(min(LEAST_STREAMS, settings.eval_streams), min(settings.eval_streams, settings.eval_steps // span))
    rng = generator(cell.seed, "evaluate", cell.task, span)
    state, clock = reader.core.initial_state(streams), 0
    asked, right, whole = 0, 0, torch.ones(streams, dtype=torch.bool)
    for piece in probe.stream(rng, streams, span, SEGMENT):
        logits, targets, state = reader(piece, state, clock)
        clock += len(piece.x)
        correct = (logits.argmax(dim=1) == targets).cpu()
        asked, right = asked + len(correct), right + int(correct.sum())
        whole[torch.from_numpy(piece.mask).nonzero()[:, 1][~correct]] = False
    return {"span": span, "streams": streams, "asked": asked, "right": right, "whole": int(whole.sum())}


def _thinned(losses: list[float], points: int = 20) -> list[list[float | int | None]]:
    """At most ``points`` pairs (updates so far, mean loss since the pair before)."""
    size, pairs = max(1, math.ceil(len(losses) / points)), []
    for start in range(0, len(losses), size):
        part = losses[start : start + size]
        mean = sum(part) / len(part)
        pairs.append([start + len(part), round(mean, 5) if math.isfinite(mean) else None])
    return pairs
