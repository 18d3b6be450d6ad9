"""What every core gets alike: spans to train on and to be asked at, and the budget."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Spans of one probe.

    Attributes:
        low: shortest span of a training batch.
        high: longest; each batch draws its span uniformly from low .. high.
        evaluate: spans at which the trained core is asked; the first is within training, the last far beyond.
    """

    low: int
    high: int
    evaluate: tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """The budget, the same for every core of a table."""

    width: int = 64
    """features of every core's read-out, unless it has an option width of its own"""
    updates: int = 2000
    """AdamW steps of a trial and of a run"""
    streams: int = 32
    """streams of a training batch"""
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """learning rates, one trial each; the lowest closing loss decides"""
    weight_decay: float = 0.01
    """of AdamW"""
    clip: float = 1.0
    """largest gradient norm"""
    eval_streams: int = 256
    """most streams that are asked at a span"""
    eval_steps: int = 4_000_000
    """about how many steps over all streams a span may take; longer spans get fewer streams, but at least 16"""


PLANS: dict[str, Plan] = {
    "parity": Plan(2, 40, (40, 80, 256, 1024)),
    "aa-star": Plan(2, 50, (50, 100, 256, 1024)),
    "recall": Plan(2, 16, (16, 32, 64)),
    "noisy-recall": Plan(2, 16, (16, 32, 64)),
    "selective-copy": Plan(8, 64, (64, 256, 1024)),
    "repeat-previous": Plan(8, 64, (64, 256, 1024)),
    "count-recall": Plan(8, 64, (64, 256, 1024)),
    "autoencode": Plan(2, 16, (16, 32, 64)),
    "needle": Plan(1, 100, (100, 1000, 10_000, 100_000)),
    "needle-across-episodes": Plan(1, 100, (100, 1000, 10_000, 100_000)),
}
QUICK_PLANS: dict[str, Plan] = {name: Plan(5, 8, (8, 40)) for name in PLANS}
QUICK_SETTINGS = Settings(width=16, updates=2, streams=4, rates=(1e-3, 3e-3), eval_streams=4, eval_steps=200)
