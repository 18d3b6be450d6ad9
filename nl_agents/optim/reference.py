"""The slow judge of DeepMomentum: one tensor at a time, whole vectors, plain Python figures; written for reading."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nl_agents.optim.gradient_memory import MemoryOptions
from nl_agents.optim.guard import guarded_step


@dataclass
class TensorMemory:
    """Everything DeepMomentum keeps for one tensor.

    Attributes:
        momenta: K tensors shaped like the parameter.
        second: Adam's second moment.
        gram: [K, K] discounted inner products of the momenta, in Adam's metric.
        cross: [K] discounted inner products with the next gradient.
        weights: [K] of the next-gradient regression.
        odds: log-odds of the proposal against the anchor.
        graft: length factor of the last proposal.
        clock: steps taken.
        lessons: fresh steps seen.
    """

    momenta: list[Tensor]
    second: Tensor
    gram: Tensor
    cross: Tensor
    weights: Tensor
    odds: float = 0.0
    graft: float = 1.0
    clock: int = 0
    lessons: int = 0


@dataclass
class ReferenceDeepMomentum:
    """Steps a list of tensors as DeepMomentum with ``memory="linear"`` must.

    Attributes:
        params: the tensors, changed in place by ``step``.
        lr: learning rate.
        betas: decays of Adam's moments.
        eps: added to the root of the second moment.
        weight_decay: decoupled.
        periods: of the momenta, from 1.
        options: as of the optimizer.
        memories: one per tensor, made at its first gradient.
        refused: steps refused for a gradient that was not finite.
    """

    params: list[Tensor]
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    periods: tuple[int, ...] = (1, 10, 100)
    options: MemoryOptions = field(default_factory=MemoryOptions)
    memories: dict[int, TensorMemory] = field(default_factory=dict)
    refused: int = 0

    def step(self, grads: list[Tensor | None], learn: bool = True) -> None:
        """Steps every tensor that has a gradient; none where any gradient is not finite."""
        if not all(bool(torch.isfinite(grad).all()) for grad in grads if grad is not None):
            self.refused += 1
            return
        for index, (param, grad) in enumerate(zip(self.params, grads, strict=True)):
            if grad is not None:
                if index not in self.memories:
                    self.memories[index] = self._newborn(param)
                self._step_one(param, grad, self.memories[index], learn)

    def _newborn(self, param: Tensor) -> TensorMemory:
        keys = len(self.periods)
        zeros = [torch.zeros_like(param) for _ in range(keys + 1)]
        prior = torch.eye(keys, dtype=param.dtype)[0]
        return TensorMemory(zeros[:-1], zeros[-1], param.new_zeros(keys, keys), param.new_zeros(keys), prior)

    def _step_one(self, param: Tensor, grad: Tensor, memory: TensorMemory, learn: bool) -> None:
        beta1, beta2 = self.betas
        memory.clock += 1
        memory.second = beta2 * memory.second + (1 - beta2) * grad * grad
        denominator = (memory.second / (1 - beta2**memory.clock)).sqrt() + self.eps
        if learn:
            if memory.lessons % self.options.learn_period == 0:
                self._learn(grad, denominator, memory)
            memory.lessons += 1
        memory.momenta[0] = beta1 * memory.momenta[0] + (1 - beta1) * grad
        for level, period in enumerate(self.periods):
            if level > 0 and memory.clock % period == 0:
                share = max(1 - self.options.slow_decay, period / memory.clock)
                older, newer = memory.momenta[level], memory.momenta[level - 1]
                memory.momenta[level] = (1 - share) * older + share * newer
        mixture = sum(float(w) * m for w, m in zip(memory.weights, memory.momenta, strict=True))
        correction = 1 - beta1**memory.clock
        anchor, raw = memory.momenta[0] / correction / denominator, mixture / correction / denominator
        memory.graft = float(anchor.norm() / raw.norm()) if float(raw.norm()) > 0 else 0.0
        prior = math.log(self.options.gate / (1 - self.options.gate))
        share = 1 / (1 + math.exp(-memory.odds - prior))
        update = guarded_step(anchor, memory.graft * raw, share, rho=self.options.rho, tau=self.options.tau)
        param.mul_(1 - self.lr * self.weight_decay).sub_(self.lr * update)

    def _learn(self, grad: Tensor, denominator: Tensor, memory: TensorMemory) -> None:
        """Judges the two predictions of this gradient, then absorbs it into the regression."""
        options, keys = self.options, len(memory.momenta)
        metric = 1 / denominator.flatten()
        g, ms = grad.flatten(), [m.flatten() for m in memory.momenta]
        total = (metric * g * g).sum() + sum((metric * m * m).sum() for m in ms)
        if float(total) == 0:
            total = torch.ones_like(total)
        gram = torch.stack([torch.stack([(metric * a * b).sum() for b in ms]) for a in ms]) / total
        cross = torch.stack([(metric * m * g).sum() for m in ms]) / total
        scale = math.sqrt(float((metric * g * g).sum() / total * gram[0, 0]))
        foretold = memory.graft * float(memory.weights @ cross)
        if scale > 0:
            gain = max(-1.0, min(1.0, foretold / scale)) - max(-1.0, min(1.0, float(cross[0]) / scale))
        else:
            gain = 0.0
        memory.odds = options.hedge_discount * memory.odds + options.hedge_rate * gain
        memory.gram = options.retention * memory.gram + (1 - options.retention) * gram
        memory.cross = options.retention * memory.cross + (1 - options.retention) * cross
        prior = torch.eye(keys, dtype=grad.dtype)[0]
        strength = options.ridge * memory.gram.trace() / keys + options.ridge_floor
        regular = memory.gram + strength * torch.eye(keys, dtype=grad.dtype)
        memory.weights = prior + torch.linalg.inv(regular) @ (memory.cross - memory.gram @ prior)
