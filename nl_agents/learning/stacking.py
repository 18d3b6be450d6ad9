"""Ad-hoc level stacking: blocks of a trained network become CMS levels (Nested Learning, section 7.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nl_agents.errors import ConfigError, UnknownNameError
from nl_agents.learning.levels import LevelScheduler
from nl_agents.learning.nesting import Restarts
from nl_agents.types import LevelInfo

Choice = str | Callable[[str, nn.Module], bool]
MakeOptimizer = Callable[..., Optimizer]


def stack_levels(
    model: nn.Module,
    periods: Mapping[Choice, int],
    *,
    rate: float,
    optimizer: MakeOptimizer = torch.optim.SGD,
    host: Literal["trains", "holds"] = "trains",
    reduction: Literal["sum", "mean"] = "sum",
    max_norm: float = math.inf,
    nested: float | None = None,
) -> StackedLevels:
    """Turns blocks of a trained model into levels that are stepped every ``period`` learner updates.

    With theta_0 of a level = the block's trained weights, and g_t their gradient at learner update t:

        theta_t+1 = theta_t - rate * step(sum of g over the last C updates)  if t + 1 = 0 mod C, else theta_t   (Eq. 71)

    where ``step`` is that of any torch optimizer; its own clock (momentum, bias correction) counts the level's steps.
    The sum has C terms. A ``rate`` that suited one gradient is to be divided by C, or ``reduction="mean"`` taken.

    The model is not rebuilt: its modules, the names of its weights, its forward pass and its pickles stay what they
    were; levels act on the parameters in place. ``rate = 0`` therefore reproduces outputs *and* training bit for bit.

    What the host, the model's own optimizer, does with the blocks is not said in the paper; both readings are here:
    *trains*: it goes on stepping them at every update, the levels write beside it; *holds*: it no longer sees their
    gradients, levels alone step them (with rate 0 they are frozen; Eq. 71 to the letter).

    Args:
        model: any torch module.
        periods: block -> period in learner updates. A block is named by its dotted name in the model, or chosen by a
            function of (name, module) that is asked about every ``nn.Linear`` and ``nn.Sequential``; each module that
            it chooses is a level of its own.
        rate: step size of all levels, >= 0; it is the optimizer's ``lr``.
        optimizer: constructor, called with parameter groups and ``lr=rate``: ``torch.optim.SGD``,
            ``functools.partial(torch.optim.AdamW, weight_decay=0.0)`` and the like.
        host: ``trains`` or ``holds``.
        reduction: ``sum`` (Eq. 71) or ``mean`` of the period's gradients (the sum divided by the period in force).
        max_norm: bound of the norm of a level's summed gradient.
        nested: share of the way that the initial weights of a level move at a boundary of the next slower one, before
            it begins again from them (Eq. 72, ``Restarts``); None re-initialises nothing (Eq. 73).

    Returns:
        The levels. ``attach`` them to the host's optimizer, or call ``update`` between ``backward`` and its ``step``.

    Raises:
        UnknownNameError: no such block; the text lists near names.
        ConfigError: no block chosen, one without trainable weights, weights in two levels, a rate below 0, a bound
            that is none, or nested levels whose periods do not divide each other or whose weights the host trains.
        ValueError: a period < 1.
    """
    if host not in ("trains", "holds"):
        raise ConfigError(f"host must be 'trains' or 'holds', got {host!r}")
    if reduction not in ("sum", "mean"):
        raise ConfigError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    if not rate >= 0.0:
        raise ConfigError(f"rate must be >= 0, got {rate}; 0 leaves the model as it is")
    if not max_norm > 0.0:
        raise ConfigError(f"max_norm must be > 0, got {max_norm}; math.inf bounds nothing")
    if nested is not None and host == "trains":
        raise ConfigError("nested levels begin again and again, which would undo the host's steps: add host='holds'")
    groups: dict[str, tuple[list[nn.Parameter], int]] = {}
    owner: dict[int, str] = {}
    for choice, period in periods.items():
        if not isinstance(period, int) or period < 1:
            raise ValueError(f"period of {_words(choice)} must be an integer >= 1 (learner updates), got {period!r}")
        for name, block in _find(model, choice):
            weights = [weight for weight in block.parameters() if weight.requires_grad]
            if not weights:
                raise ConfigError(f"{name!r} has no trainable weights: it cannot be a level; leave it out")
            for weight in weights:
                if owner.setdefault(id(weight), name) != name or name in groups:
                    raise ConfigError(
                        f"{name!r} and {owner[id(weight)]!r} share weights, and a weight has one period: name only one"
                    )
            groups[name] = weights, period
    if not groups:
        raise ConfigError("no block was named, so nothing is stacked; name one, such as 'mlp_extractor.policy_net'")
    scheduler = LevelScheduler(groups, max_norm, nested is not None)
    own = optimizer([{"params": level.parameters, "name": level.name} for level in scheduler.levels], lr=rate)
    restarts = None if nested is None else Restarts(scheduler.levels, nested)
    return StackedLevels(model, scheduler, own, restarts, host == "holds", reduction == "mean")


class StackedLevels:
    """The levels that ``stack_levels`` made of a model. Learner state: it belongs to the agent's life.

    Attributes:
        model: the model, as it was given.
        scheduler: sums gradients and knows the periods; ``scheduler.set_period`` moves one that is not nested.
        optimizer: steps the levels; one parameter group a level.
        restarts: re-initialises nested levels; None where they are not nested.
    """

    def __init__(
        self,
        model: nn.Module,
        scheduler: LevelScheduler,
        optimizer: Optimizer,
        restarts: Restarts | None,
        holds: bool,
        mean: bool,
    ) -> None:
        self.model, self.holds, self.mean = model, holds, mean
        self.scheduler, self.optimizer, self.restarts = scheduler, optimizer, restarts
        self._trained = [[weight.detach().clone() for weight in level.parameters] for level in scheduler.levels]
        self._handles: list[Any] = []
        self._removed = False

    def attach(self, host: Optimizer) -> StackedLevels:
        """Makes ``update`` run by itself just before every step of the host's optimizer; returns the levels.

        Raises:
            ConfigError: attached already; (the host's ``step``) a closure, whose gradients come too late.
        """
        self._check()
        if self._handles:
            raise ConfigError("these levels are attached to an optimizer already, and would be stepped twice")
        self._handles.append(host.register_step_pre_hook(self._before_step))
        return self

    def _before_step(self, host: Optimizer, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        if any(closure is not None for closure in (*given[1:], *named.values())):
            raise ConfigError(
                "levels take up gradients before the host steps, and a closure makes them only then: call "
                "loss.backward() and then step() without a closure"
            )
        self.update()

    @torch.no_grad()
    def update(self) -> None:
        """One learner update: takes up the gradients that ``backward`` left, steps the levels that are due.

        A missing gradient counts as zero; a level whose (summed) gradient is not finite is not stepped. Afterwards the
        model's gradients are what they were (host *trains*), or None on the levels' weights (host *holds*), which every
        torch optimizer leaves alone.
        """
        self._check()
        weights = [weight for level in self.scheduler.levels for weight in level.parameters]
        given = [weight.grad for weight in weights]
        for weight, gradient in zip(weights, given, strict=True):
            weight.grad = None if gradient is None else gradient.clone()  # the scheduler scales them in place
        self.scheduler.gather()
        due = set()
        for level in self.scheduler.levels:
            gradients = [weight.grad for weight in level.parameters if weight.grad is not None]
            due |= {level.name} if gradients else set()
            if not all(bool(gradient.isfinite().all()) for gradient in gradients):
                for weight in level.parameters:
                    weight.grad = None
            elif self.mean and gradients:
                torch._foreach_div_(gradients, float(level.period))
        self.optimizer.step()
        if self.restarts is not None:
            self.restarts.update(due)
        for weight, gradient in zip(weights, given, strict=True):
            weight.grad = None if self.holds else gradient

    def remove(self, keep: bool = True) -> nn.Module:
        """Gives the plain model back: hooks are off, nothing of the levels is left in it.

        Args:
            keep: True leaves the weights as they are now; False puts the levels' weights back to what they were
                when they were stacked, bit for bit.

        Raises:
            ConfigError: ``keep=False`` where the host has trained the same weights: whose part is whose is not known.
        """
        self._check()
        if not keep and not self.holds:
            raise ConfigError(
                "keep=False needs host='holds': with host='trains' these weights hold the host's learning too; "
                "keep=True, or stack with host='holds'"
            )
        for handle in self._handles:
            handle.remove()
        if not keep:
            self._restore()
        self._removed = True
        return self.model

    @torch.no_grad()
    def _restore(self) -> None:
        for level, trained in zip(self.scheduler.levels, self._trained, strict=True):
            for weight, value in zip(level.parameters, trained, strict=True):
                weight.copy_(value)

    @torch.no_grad()
    def distance(self) -> dict[str, float]:
        """Level -> norm of what its weights have moved since they were stacked."""
        moved = {}
        for level, trained in zip(self.scheduler.levels, self._trained, strict=True):
            parts = [(weight - value).norm() for weight, value in zip(level.parameters, trained, strict=True)]
            moved[level.name] = float(torch.stack(parts).norm())
        return moved

    def levels(self) -> list[LevelInfo]:
        """One row a level, in the order given."""
        rows = self.scheduler.infos()
        return [row._replace(context="the host's gradients", objective="the host's loss") for row in rows]

    def state_dict(self) -> dict[str, Any]:
        """Sums, waits, periods, the optimizer's memory and the weights at stacking time, for an exact resume."""
        trained: list[list[Tensor]] = [list(own) for own in self._trained]
        restarts = None if self.restarts is None else self.restarts.state_dict()
        return {
            "scheduler": self.scheduler.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "restarts": restarts,
            "trained": trained,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave; the model's own weights come with the model."""
        self.scheduler.load_state_dict(state["scheduler"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.restarts is not None:
            self.restarts.load_state_dict(state["restarts"])
        self._trained = [[value.clone() for value in own] for own in state["trained"]]

    def _check(self) -> None:
        if self._removed:
            raise RuntimeError("these levels were removed from the model; stack_levels makes new ones")


def _find(model: nn.Module, choice: Choice) -> Iterable[tuple[str, nn.Module]]:
    """The blocks that a name or a function chooses."""
    modules = dict(model.named_modules())
    if isinstance(choice, str):
        if choice not in modules:
            blocks = [name for name, block in modules.items() if name and any(True for _ in block.parameters())]
            raise UnknownNameError("block", choice, blocks)
        return [(choice, modules[choice])]
    kinds = nn.Linear, nn.Sequential
    found = [(name, block) for name, block in modules.items() if isinstance(block, kinds) and choice(name, block)]
    if not found:
        raise ConfigError(f"{_words(choice)} chose none of the model's nn.Linear and nn.Sequential blocks")
    return found


def _words(choice: Choice) -> str:
    return repr(choice) if isinstance(choice, str) else f"the function {getattr(choice, '__name__', choice)}"
