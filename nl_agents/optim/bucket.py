"""A bucket: tensors that have always stepped together, kept and stepped as one.

Its tensors share one clock, one flat buffer per momentum and one batch of gradient memories, so that a step costs a
handful of kernels whatever their number. Host and device never wait for each other: periods are counted on the host,
and whether the gradients are finite is either known there (CPU) or carried along as a device flag that turns every
write into the identity (CUDA).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nl_agents.optim import gradient_memory, guard
from nl_agents.optim.adamw import decay_factor, dense_gradient, device_choice
from nl_agents.optim.gradient_memory import MemoryOptions
from nl_agents.optim.layout import BLOCK, SegmentLayout

MONITOR_DECAY = 0.95
"""What a lesson leaves of the running prediction errors shown by ``statistics``."""


class Bucket:
    """Parameters of one group, device and dtype on one common clock.

    Args:
        params: the parameters, n of them.
        states: per-parameter states to take over (any may be empty or hold AdamW's keys only).
        periods: steps between two writes of each of the K momenta; the first is 1.
        prior: [K] weights of an untaught memory.
    """

    def __init__(
        self, params: Sequence[Tensor], states: Sequence[dict[str, Any]], periods: tuple[int, ...], prior: Tensor
    ) -> None:
        first = params[0]
        self.params = list(params)
        self.periods = periods
        self.layout = SegmentLayout([p.shape for p in params], first.device)
        count, keys = len(params), len(periods)
        self.rows = first.new_zeros(keys + 1, self.layout.floats)  # K momenta and, last, the gradient of this step
        self.second = first.new_zeros(self.layout.floats)
        self._scratch = first.new_zeros(max(4, keys + 2), self.layout.floats)  # D, then what a step needs
        self.gram = first.new_zeros(count, keys, keys)
        self.cross = first.new_zeros(count, keys)
        self.prior = prior.to(first)
        self.weights = self.prior.repeat(count, 1)
        self.odds = first.new_zeros(count)
        self.graft = first.new_ones(count)
        self.errors = first.new_ones(count, 2)
        self.clock = torch.zeros((), dtype=torch.float32, device=first.device)
        self.attempts = 0
        self.lessons = 0
        self._last: tuple[Tensor, ...] | None = None  # of the last step: what ``figures`` shows
        scratch = self._scratch.view(len(self._scratch), -1, BLOCK)
        self._denominator, self._anchor, self._proposal, self._slow = scratch[:4].unbind()  # [blocks, BLOCK] each
        self._pair = scratch[1:3].transpose(0, 1)  # anchor and proposal, [blocks, 2, BLOCK]
        self._weighted = scratch[1 : keys + 2].transpose(0, 1)  # momenta and gradient over D, [blocks, K + 1, BLOCK]
        self._blocks = self.rows.view(keys + 1, -1, BLOCK).transpose(0, 1)
        self._momenta = self.rows[:-1].view(keys, -1, BLOCK).unbind()
        self._gradients = self.layout.views(self.rows[-1])
        self._steps = self.layout.views(self._scratch[1])
        self._adopt(states)
        self._shares: tuple[Tensor, ...] | None = None  # weights by block; None: what follows from them is out of date

    def _refresh(self) -> tuple[Tensor, ...]:
        """Spreads the weights over the blocks and mixes the slow momenta: both change every few steps only."""
        shares = self.layout.expand(self.weights)[..., None].unbind(1)  # K of [blocks, 1]
        self._slow.zero_()
        for momentum, share in zip(self._momenta[1:], shares[1:], strict=True):
            self._slow.addcmul_(momentum, share)
        self._shares = shares
        return shares

    def _views(self, index: int) -> dict[str, Tensor]:
        """Returns the live views that make up the state of one parameter."""
        small = {name: getattr(self, name)[index] for name in ("gram", "cross", "weights", "odds", "graft", "errors")}
        return {
            "exp_avg": self.layout.views(self.rows[0])[index],
            "exp_avg_sq": self.layout.views(self.second)[index],
            "slow": self.layout.stacked_views(self.rows[1:-1])[index],
            **small,
        }

    def _adopt(self, states: Sequence[dict[str, Any]]) -> None:
        """Copies given states in; what a state lacks stays at its fresh value."""
        for index, state in enumerate(states):
            for name, view in self._views(index).items():
                if name in state:
                    view.copy_(state[name])
        known = next((state for state in states if state), None)
        if known is not None:
            self.clock.copy_(torch.as_tensor(known["step"]))
            self.attempts = int(known.get("attempts", known["step"]))
            self.lessons = int(known.get("lessons", 0))

    def states(self, identity: int) -> list[dict[str, Any]]:
        """Returns one state per parameter; its tensors are views of the bucket's buffers."""
        counters = {"step": self.clock, "attempts": self.attempts, "lessons": self.lessons, "bucket": identity}
        return [{**counters, **self._views(index)} for index in range(len(self.params))]

    def gather(self) -> Tensor:
        """Copies the gradients in; returns a 0-d tensor that is finite if (and, short of overflow, only if) all are."""
        torch._foreach_copy_(self._gradients, [dense_gradient(p) for p in self.params])
        return self.rows[-1].sum()

    def step(self, group: dict[str, Any], options: MemoryOptions, learn: bool, ok: Tensor | None) -> None:
        """Advances every parameter of the bucket by one step.

        Args:
            group: the parameter group (lr, betas, eps, weight_decay).
            options: how the memory learns and what bounds it.
            learn: whether this gradient may teach the memory (it is of a first-epoch minibatch).
            ok: None when the gradients are known to be finite, else a 0-d bool tensor on the device.
        """
        if ok is not None:
            self.rows[-1].copy_(torch.where(ok, self.rows[-1], 0.0))
        self.attempts += 1
        self.clock.add_(1.0 if ok is None else ok)
        eps_scale, step_scale = self._corrections(group["betas"], ok)
        self._absorb_square(group["betas"][1], group["eps"] * eps_scale, ok)
        if learn:
            if self.lessons % options.learn_period == 0:
                self._learn(options, ok)
            self.lessons += 1
        self._absorb(group["betas"][0], options.slow_decay, ok)
        self._move(group, options, step_scale, ok)

    def _corrections(self, betas: tuple[float, float], ok: Tensor | None) -> tuple[Any, Any]:
        """Returns Adam's bias corrections: ``sqrt(1 - beta2^t)`` (for eps), and that over ``1 - beta1^t``."""
        beta1, beta2 = betas
        steps: Any = self.attempts if ok is None else self.clock.clamp_min(1).double()
        root = (1 - beta2**steps) ** 0.5
        return root, root / (1 - beta1**steps)

    def _absorb_square(self, beta2: float, eps: Any, ok: Tensor | None) -> None:
        """Second moment: v <- beta2 v + (1 - beta2) g^2, and the denominator D = sqrt(v) + eps (up to one factor)."""
        keep: Any = beta2 if ok is None else device_choice(ok, beta2, 1.0, self.second.dtype)
        self.second.mul_(keep).addcmul_(self.rows[-1], self.rows[-1], value=1 - beta2)
        torch.sqrt(self.second, out=self._scratch[0]).add_(eps)

    def _learn(self, options: MemoryOptions, ok: Tensor | None) -> None:
        """Judges what memory and anchor foretold, then teaches the memory (the momenta have not seen g yet)."""
        torch.div(self._blocks, self._denominator[:, None], out=self._weighted)
        products = self.layout.reduce(torch.bmm(self._weighted, self._blocks.transpose(1, 2)).flatten(1))
        lesson = gradient_memory.make_lesson(products.view(-1, len(self.rows), len(self.rows)))
        gains = gradient_memory.gains(lesson, self.weights, self.graft)
        odds = guard.hedge(self.odds, *gains, rate=options.hedge_rate, discount=options.hedge_discount)
        errors = gradient_memory.errors(lesson, self.weights)
        self.odds.copy_(odds if ok is None else torch.where(ok, odds, self.odds))
        self.errors.lerp_(errors, self._share(1 - MONITOR_DECAY, ok))
        self.gram.lerp_(lesson.keys, self._share(1 - options.retention, ok))
        self.cross.lerp_(lesson.cross, self._share(1 - options.retention, ok))
        ridges = {"ridge": options.ridge, "floor": options.ridge_floor}
        self.weights.copy_(gradient_memory.solve(self.gram, self.cross, self.prior, **ridges))
        self._shares = None

    def _absorb(self, beta1: float, slow_decay: float, ok: Tensor | None) -> None:
        """Momenta: m_1 <- m_1 + (1 - beta1)(g - m_1); a slower one absorbs the one before it, on its own period."""
        share = 1 - beta1
        self.rows[0].lerp_(self.rows[-1], self._share(share, ok))
        for level, period in enumerate(self.periods[1:], start=1):
            if self.attempts % period == 0:
                share = gradient_memory.slow_weight(self.attempts // period, slow_decay)
                self.rows[level].lerp_(self.rows[level - 1], self._share(share, ok))
                self._shares = None

    def _share(self, share: float, ok: Tensor | None) -> Any:
        """Returns the weight of a write: as given, or 0 on the device where the step is refused."""
        return share if ok is None else device_choice(ok, share, 0.0, self.rows.dtype)

    def _move(self, group: dict[str, Any], options: MemoryOptions, scale: Any, ok: Tensor | None) -> None:
        """Step: theta <- (1 - lr wd) theta - lr u, with u the guarded mixture of anchor and proposal."""
        anchor, proposal = self._anchor, self._proposal
        shares = self._refresh() if self._shares is None else self._shares
        torch.addcmul(self._slow, self._momenta[0], shares[0], out=proposal)
        proposal.div_(self._denominator)
        torch.div(self._momenta[0], self._denominator, out=anchor)
        products = self.layout.reduce(torch.bmm(self._pair, self._pair.transpose(1, 2)).view(-1, 4))
        anchor_sq, cross, _, proposal_sq = products.unbind(1)
        gate = guard.gate(self.odds, options.gate)
        alpha, beta, factor, cosine = guard.bound_grafted(
            anchor_sq, cross, proposal_sq, gate, rho=options.rho, tau=options.tau
        )
        self.graft.copy_(factor if ok is None else torch.where(ok, factor, self.graft))
        self._last = (alpha, beta, cosine)
        rate = -group["lr"] * scale if ok is None else -group["lr"] * scale * ok
        mixture = self.layout.expand(torch.stack([alpha, beta * factor], 1) * rate)[..., None]
        anchor.mul_(mixture[:, 0]).addcmul_(proposal, mixture[:, 1])
        if group["weight_decay"] != 0:
            torch._foreach_mul_(self.params, decay_factor(group, ok, self.second.dtype))
        torch._foreach_add_(self.params, self._steps)

    def figures(self, options: MemoryOptions) -> Tensor:
        """Returns [n, 5]: gate, cosine and relative length of the last step to the anchor, two prediction errors."""
        gate = guard.gate(self.odds, options.gate)
        cosine = length = torch.ones_like(gate)
        if self._last is not None:
            alpha, beta, along = self._last  # |q| = |a|
            length = (alpha**2 + 2 * alpha * beta * along + beta**2).clamp_min(0).sqrt()
            cosine = (alpha + beta * along) / length
        return torch.stack([gate, cosine, length, *self.errors.unbind(1)], 1)
