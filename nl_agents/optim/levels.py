"""What an optimizer remembers, as rows of a nest: momenta are memories of gradients (arXiv 2512.24695, Section 4)."""

from __future__ import annotations

from typing import Any

from torch.optim import Adam, Optimizer

from nl_agents.optim.gradient_memory import MemoryOptions
from nl_agents.types import LevelInfo

OWNERS = {
    "exp_avg": "momentum.1",
    "step": "momentum.1",
    "exp_avg_sq": "scale",
    "max_exp_avg_sq": "scale",
    "gram": "memory",
    "cross": "memory",
    "weights": "memory",
    "odds": "gate",
    "graft": "gate",
    "errors": "gate",
    "reference": "way",
    "way": "way",
}
"""Key of a parameter's state -> the level that it belongs to; ``slow`` is one momentum a slow period, in order."""


def optimizer_levels(optimizer: Optimizer) -> list[LevelInfo]:
    """Returns the rows of torch's AdamW (or Adam), of ``GuardedAdamW`` or of ``DeepMomentum``, group by group.

    Periods count the steps of a group: a group that steps every p-th learner update is p times slower.

    Raises:
        TypeError: another optimizer.
    """
    if not isinstance(optimizer, Adam) and "memory" not in optimizer.defaults:  # torch's AdamW is an Adam
        raise TypeError(
            f"expected AdamW or an optimizer of nl_agents.optim, got {type(optimizer).__name__}: give it a method "
            "levels() of its own"
        )
    rows = []
    for index, group in enumerate(optimizer.param_groups):
        deep = group.get("memory", "off") != "off"
        options = optimizer.options if deep else None  # type: ignore[attr-defined]
        rows += group_levels(group_name(group, index), group, options)
    return rows


def group_name(group: dict[str, Any], index: int) -> str:
    """A group's name in a nest: its own, or its index."""
    return f"optimizer.{group.get('name', index)}"


def group_levels(name: str, group: dict[str, Any], options: MemoryOptions | None) -> list[LevelInfo]:
    """Returns the rows of one parameter group, fastest first.

    Args:
        name: what the rows' names begin with.
        group: of an optimizer.
        options: of its gradient memory; None for AdamW.
    """
    numbers, tensors = sum(p.numel() for p in group["params"]), len(group["params"])
    beta1, beta2 = group["betas"]
    flow = "gradients of its parameters"

    def row(part: str, stores: str, context: str, objective: str, period: int) -> LevelInfo:
        return LevelInfo(f"{name}.{part}", stores, context, objective, period, "learner update", "life")

    rows = [
        row(
            "momentum.1",
            f"mean of about {1 / (1 - beta1):.3g} gradients, {numbers:,} floats and {tensors} clocks",
            flow,
            "dot product with the gradient, decayed (Adam's momentum)",
            1,
        ),
        row(
            "scale",
            f"mean of about {1 / (1 - beta2):.4g} squares, {numbers:,} floats",
            flow,
            "L2 to the squared gradient (Adam's denominator)",
            1,
        ),
    ]
    if options is None:
        return rows
    kinds = "first-epoch gradients" if group["fresh_only"] else flow
    count = len(group["periods"])
    rows += [
        row(
            "memory",
            f"Gram matrix, products, {count} weights a tensor, {tensors * (count * count + 2 * count):,} floats",
            f"{kinds}, and the momenta before them",
            "L2 to the next gradient, exact, decayed to a prior",
            options.learn_period,
        ),
        row(
            "gate",
            f"odds, length factor and errors a tensor, {4 * tensors:,} floats",
            f"{kinds}, foretold and seen",
            "gain of the forecast over AdamW (Hedge)",
            options.learn_period,
        ),
    ]
    for faster, period in zip(group["periods"][:-1], group["periods"][1:], strict=True):
        stores, objective = f"slow momentum, {numbers:,} floats", "L2 to that momentum, decayed"
        rows.append(row(f"momentum.{period}", stores, f"the momentum of period {faster}", objective, period))
    return sorted(rows, key=lambda one: one.period)
