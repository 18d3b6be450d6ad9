"""DeepMomentum: AdamW with a memory of its gradients, and a guard between the two.

One step of one tensor (arXiv 2512.24695 §4 reads momentum as memory; Eq. 50 made well-defined, **ours**)::

    v   <- beta2 v + (1 - beta2) g^2                        D = sqrt(v) + eps
    w   <- argmin of the next-gradient regression           (only on fresh minibatches, before m sees g)
    m_1 <- beta1 m_1 + (1 - beta1) g                        period 1: Adam's own momentum
    m_k <- m_k + (m_{k-1} - m_k) / 10                       periods 10 and 100: a CMS inside the optimizer
    a    = m_1 / D  (AdamW's direction, the anchor)         q = sum_k w_k m_k / D, grafted to |a|
    u    = guard(a, q, s)                                   angle and length bounded; s from prequential evidence
    theta <- (1 - lr wd) theta - lr u

Nothing here is differentiated through. With ``memory="off"`` the whole is torch's AdamW, bit for bit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from nl_agents.optim import adamw
from nl_agents.optim.bucket_book import BucketBook
from nl_agents.optim.gradient_memory import MemoryOptions
from nl_agents.optim.levels import optimizer_levels
from nl_agents.types import LevelInfo

MEMORY_VERSION = 1
"""Version of what ``state_dict()["nl_memory"]`` and ``memory_state()`` hold."""


class DeepMomentum(Optimizer):
    """A drop-in optimizer: AdamW's direction is the anchor, a memory of gradients proposes, a guard bounds.

    A parameter whose ``grad`` is None is left alone and keeps its clock, as in AdamW: that is how slow levels step only
    at their period. Non-finite gradients refuse the step for *all* parameters, change nothing and are counted in
    ``refused_steps`` (a 0-d device tensor: read it when you log, not every step). On CUDA the host never waits.

    Args:
        params: parameters or parameter groups; a group may set ``fresh_only=False`` to let its memory learn from every
            step (for slow levels, whose summed gradients are never of one first-epoch minibatch).
        lr: learning rate.
        betas: decay of Adam's first and second moment, each in [0, 1).
        eps: added to ``sqrt(v)``; above 0 with a memory.
        weight_decay: decoupled, as in AdamW.
        memory: ``linear`` (next-gradient memory) or ``off`` (AdamW bit for bit).
        periods: steps between two writes of each momentum, ascending from 1.
        options: how the memory learns and how far it is trusted.

    Attributes:
        observe_fresh: whether the minibatch of the next step is a first-epoch one; the memory learns from these only.
        refused_steps: 0-d integer tensor, steps refused because a gradient was not finite.

    Raises:
        ValueError: a figure out of range, a half-precision or complex parameter with ``memory="linear"``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 3e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        memory: Literal["linear", "off"] = "linear",
        periods: tuple[int, ...] = (1, 10, 100),
        options: MemoryOptions | None = None,
    ) -> None:
        self.options = MemoryOptions() if options is None else options
        self.observe_fresh = True
        self._prior = torch.zeros(len(periods))
        self._prior[0] = 1.0
        self._book: BucketBook | None = None
        self._always_flag = False  # tests: take the device's road on the host
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "memory": memory,
            "periods": tuple(periods), "fresh_only": True,
        }  # fmt: skip
        super().__init__(params, defaults)
        self.refused_steps = torch.zeros((), dtype=torch.int64, device=self.param_groups[0]["params"][0].device)

    # ------------------------------------------------------------------ groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, after checking that its figures and parameters can work."""
        super().add_param_group(param_group)
        try:
            self._check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise
        self._close_book()

    def _check_group(self, group: dict[str, Any]) -> None:
        if not isinstance(group["lr"], Tensor) and not group["lr"] >= 0:
            raise ValueError(f"lr must be >= 0, got {group['lr']}; 3e-4 is the default")
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas must lie in [0, 1), got {group['betas']}; (0.9, 0.999) is the default")
        if not group["eps"] >= 0 or not group["weight_decay"] >= 0:
            raise ValueError(f"eps and weight_decay must be >= 0, got {group['eps']} and {group['weight_decay']}")
        if group["memory"] not in ("linear", "off"):
            raise ValueError(f"memory must be 'linear' or 'off', got {group['memory']!r}")
        periods = tuple(group["periods"])
        if len(periods) != len(self._prior) or periods[0] != 1 or list(periods) != sorted(set(periods)):
            raise ValueError(
                f"periods must be {len(self._prior)} integers that ascend from 1, got {periods}; "
                "(1, 10, 100) is the default"
            )
        if group["memory"] == "off":
            return
        if group["eps"] == 0:
            raise ValueError("eps must be above 0 with memory='linear', got 0; 1e-8 is the default")
        for param in group["params"]:
            if param.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"memory='linear' needs float32 or float64 parameters, got {param.dtype}; "
                    "keep float32 master weights or give memory='off'"
                )

    # -------------------------------------------------------------------- step

    @overload
    def step(self, closure: None = None, *, learn_memory: bool | None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float], *, learn_memory: bool | None = None) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, *, learn_memory: bool | None = None) -> float | None:
        """Steps every parameter that has a gradient.

        Args:
            closure: re-evaluates the model and returns the loss.
            learn_memory: overrides ``observe_fresh`` for this step.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        fresh = self.observe_fresh if learn_memory is None else learn_memory
        plain, deep = [], []
        for index, group in enumerate(self.param_groups):
            if group["memory"] == "off":
                plain.append((group, self._plain_params(group)))
            else:
                deep += [(group, bucket) for bucket in self._buckets().live(index, group)]
        sums = [adamw.gradient_sum(p) for _, params in plain for p in params]
        sums += [bucket.gather() for _, bucket in deep]
        ok = self._verdict(sums)
        if ok is False:
            self.refused_steps.add_(1)
            return loss
        for group, params in plain:
            self._step_plain(group, params, ok)
        for group, bucket in deep:
            flag = ok.to(bucket.second.device, non_blocking=True) if isinstance(ok, Tensor) else None
            bucket.step(group, self.options, fresh or not group["fresh_only"], flag)
        return loss

    def _verdict(self, sums: list[Tensor]) -> bool | Tensor:
        """Returns whether this step is accepted: a bool where the host knows for nothing (CPU), else a device flag."""
        if all(value.is_cpu for value in sums) and not self._always_flag:
            return all(math.isfinite(value) for value in sums)
        home = next((value.device for value in sums if not value.is_cpu), sums[0].device)
        total = torch.stack([value.to(home, torch.float64, non_blocking=True) for value in sums]).sum()
        ok = torch.isfinite(total)
        self.refused_steps.add_((~ok).to(self.refused_steps.device))
        return ok

    def _plain_params(self, group: dict[str, Any]) -> list[Tensor]:
        """Returns the parameters of an AdamW group that have a gradient, with their states in place."""
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if not self.state[p]:
                clock = torch.zeros((), dtype=torch.float32, device=p.device)
                self.state[p] = {"step": clock, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        return params

    def _step_plain(self, group: dict[str, Any], params: list[Tensor], ok: bool | Tensor) -> None:
        """Steps an AdamW group, on the host's word (CPU) or by the device flag."""
        if not isinstance(ok, Tensor):
            if params:
                adamw.exact(params, [self.state[p] for p in params], group)
            return
        kinds = dict.fromkeys((p.device, p.dtype) for p in params)
        for device, dtype in kinds:
            part = [p for p in params if (p.device, p.dtype) == (device, dtype)]
            flag = ok.to(device, non_blocking=True)
            adamw.masked(part, [self.state[p] for p in part], group, flag)

    def _buckets(self) -> BucketBook:
        """Returns the book of buckets, founded from the states where there is none."""
        if self._book is None:
            deep = [group if group["memory"] != "off" else None for group in self.param_groups]
            self._book = BucketBook(deep, self.state, self._prior)
        return self._book

    def _close_book(self) -> None:
        """Brings the states up to date and forgets the buckets: the next step founds them anew."""
        if self._book is not None:
            self._book.publish()
            self._book = None

    # ------------------------------------------------------- saving, switching

    def state_dict(self) -> dict[str, Any]:
        """Returns torch's form plus ``nl_memory``; every tensor is a copy with memory of its own."""
        if self._book is not None:
            self._book.publish()
        packed = super().state_dict()
        packed["state"] = {index: _copied(state) for index, state in packed["state"].items()}
        packed["nl_memory"] = {**self.memory_state(), "refused_steps": self.refused_steps.clone()}
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state of DeepMomentum (exact) or of AdamW (moments taken over, memory untaught)."""
        given = dict(state_dict)
        memory = given.pop("nl_memory", None)
        ours = {key: value for key, value in self.defaults.items() if key in ("memory", "periods", "fresh_only")}
        given["param_groups"] = [{**ours, **group} for group in given["param_groups"]]
        if memory is not None and memory.get("version") != MEMORY_VERSION:
            warnings.warn(
                f"expected gradient memory of version {MEMORY_VERSION}, got {memory.get('version')!r}: "
                "the moments are loaded, the memory starts untaught",
                stacklevel=2,
            )
            memory = None
            given["state"] = {index: _plain(state) for index, state in given["state"].items()}
        super().load_state_dict(given)
        for param, state in self.state.items():
            self.state[param] = _copied(state)
        if memory is not None:
            self._prior = memory["prior"].to("cpu", torch.float32).clone()
            self.refused_steps.copy_(memory["refused_steps"])

    def __getstate__(self) -> dict[str, Any]:
        """Returns what deepcopy and pickle need; buckets are rebuilt from the states."""
        if self._book is not None:
            self._book.publish()
        kept = ("options", "observe_fresh", "refused_steps", "_prior", "_always_flag")
        return {**super().__getstate__(), **{name: self.__dict__[name] for name in kept}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._book = None

    def memory_state(self) -> dict[str, Any]:
        """Returns what can be carried to another optimizer: the version and the weights [K] of an untaught memory."""
        return {"version": MEMORY_VERSION, "prior": self._prior.clone()}

    def load_memory(self, state: dict[str, Any], reset_state: bool = False) -> None:
        """Swaps the memory's prior between two steps.

        Args:
            state: what ``memory_state`` returned.
            reset_state: also forget moments, momenta, lessons and clocks; otherwise they are not touched.

        Raises:
            ValueError: another version, or a prior for another number of momenta.
        """
        if state.get("version") != MEMORY_VERSION:
            raise ValueError(f"expected gradient memory of version {MEMORY_VERSION}, got {state.get('version')!r}")
        if state["prior"].shape != self._prior.shape:
            raise ValueError(f"expected a prior of {len(self._prior)} weights, got shape {tuple(state['prior'].shape)}")
        self._close_book()
        self._prior = state["prior"].detach().to("cpu", torch.float32).clone()
        if reset_state:
            self.state.clear()

    def switch_memory(self, memory: Literal["linear", "off"]) -> None:
        """Turns the memory on or off between two steps; Adam's moments go on, a new memory starts untaught."""
        self._close_book()
        for group in self.param_groups:
            if group["memory"] == memory:
                continue
            self._check_group({**group, "memory": memory})
            group["memory"] = memory
            for p in group["params"]:
                if self.state.get(p):
                    self.state[p] = _copied(_plain(self.state[p]))

    def convert_from(self, optimizer: AdamW) -> DeepMomentum:
        """Takes over the moments, clocks and figures of a running AdamW over the same parameters; returns itself.

        Raises:
            ValueError: other parameters or groups, or an AdamW with ``amsgrad`` or ``maximize``.
        """
        theirs = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
        if theirs != [[id(p) for p in group["params"]] for group in self.param_groups]:
            raise ValueError("expected an AdamW over the same parameters in the same groups; build both from one list")
        for group, other in zip(self.param_groups, optimizer.param_groups, strict=True):
            if other["amsgrad"] or other["maximize"]:
                raise ValueError("amsgrad and maximize have no counterpart here, got True; convert a plain AdamW")
            group.update({name: other[name] for name in ("lr", "betas", "eps", "weight_decay")})
        self._book = None
        self.state.clear()
        for param, state in optimizer.state.items():
            self.state[param] = _copied(_plain(state))
        return self

    def to_adamw(self) -> AdamW:
        """Returns a torch AdamW that continues from here, without the memory."""
        names = ("params", "lr", "betas", "eps", "weight_decay")
        twin = AdamW([{name: group[name] for name in names} for group in self.param_groups], foreach=True)
        for param, state in self.state.items():
            twin.state[param] = _copied(_plain(state))
        return twin

    # -------------------------------------------------------------- monitoring

    def levels(self) -> list[LevelInfo]:
        """Rows of a nest: momenta, gradient memory and gate of every group; periods count the group's own steps."""
        return optimizer_levels(self)

    def statistics(self) -> dict[str, Tensor]:
        """Returns 0-d tensors to log, means over all tensors with a memory (no host sync; empty before the first step).

        Keys: ``gate`` (share s of the proposal), ``cosine_to_anchor`` and ``relative_length`` of the last step,
        ``error_memory`` and ``error_momentum`` (running squared error of the foretold gradient, 1 = foretells
        nothing), ``refused_steps``.
        """
        buckets = [] if self._book is None else self._book.buckets()
        if not buckets:
            return {}
        home = buckets[0].second.device
        figures = torch.cat([bucket.figures(self.options).to(home) for bucket in buckets]).mean(0)
        names = ("gate", "cosine_to_anchor", "relative_length", "error_memory", "error_momentum")
        return {**dict(zip(names, figures.unbind(), strict=True)), "refused_steps": self.refused_steps.clone()}


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """Returns the state with every tensor copied into memory of its own."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Returns AdamW's part of a state."""
    return {key: state[key] for key in ("step", "exp_avg", "exp_avg_sq") if key in state}
