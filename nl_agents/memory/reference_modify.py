"""Slow judge of the self-modifying core: a stream, a step, a head, a memory at a time, the inner gradient by autograd.

It shares no code with the fast path but the parameters and the numbers of the rule.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.modify_core import ModifyingState, SelfModifyingCore

Weights = list[Tensor]  # the layers of one memory, each [O, I]


def modify_reference(
    core: SelfModifyingCore, x: Tensor, state: ModifyingState, is_first: Tensor, is_valid: Tensor
) -> tuple[Tensor, ModifyingState]:
    """The whole core on x [T, B, D], each stream with a clock of its own; read-outs [T, B, W] and the state after."""
    outs, states = [], []
    for b in range(x.shape[1]):
        lives = [HeadLife(core, state, b, head) for head in range(core.heads)]
        clock, out = int(state.phase[b]), []
        for t in range(x.shape[0]):
            valid = bool(is_valid[t, b])
            h = core.embed(x[t, b] if valid else torch.zeros_like(x[t, b]))
            mixed, size = core.mix(core.norm(h)), core.key_size
            reads = []
            for life in lives:
                if valid and is_first[t, b] and core.clears[life.head]:
                    life.clear()
                content, query, _ = (mixed[part * core.heads * size :][life.head * size :][:size] for part in range(3))
                logit = mixed[3 * core.heads * size + life.head] if core.rule.momentum else None
                reads.append(core.norm_read(life.step(content, query, logit, valid)))
                life.tick(clock + t + 1)
            read = torch.cat(reads) * F.silu(mixed[2 * core.heads * size : 3 * core.heads * size])
            out.append(core.norm_out(h + core.out(read)))
        outs.append(torch.stack(out))
        leaves = [torch.stack(kind) for kind in zip(*(life.leaves(state) for life in lives), strict=True)]
        states.append((*leaves, torch.tensor((clock + x.shape[0]) % core.clock_period)))
    return torch.stack(outs, 1), ModifyingState(*(torch.stack(leaf) for leaf in zip(*states, strict=True)))


class HeadLife:
    """One head of one stream, as it lives through a sequence."""

    def __init__(self, core: SelfModifyingCore, state: ModifyingState, stream: int, head: int) -> None:
        self.core, self.rule, self.heads, self.head = core, core.rule, core.memory, head
        names = self.heads.adaptive
        self.delta = {name: self._cut(state.delta[stream, head, i]) for i, name in enumerate(names)}
        self.momentum = {name: [torch.zeros_like(w) for w in self.delta[name]] for name in names}
        if self.rule.momentum:
            self.momentum = {name: self._cut(state.momentum[stream, head, i]) for i, name in enumerate(names)}
        anchored = state.anchor.shape[2] > 0
        source = state.anchor if anchored else state.delta
        self.anchor = {name: self._cut(source[stream, head, i]) for i, name in enumerate(names)}
        self.past = list(state.past[stream, head])

    def clear(self) -> None:
        """The first step of an episode begins."""
        for memory in (self.delta, self.momentum, self.anchor):
            for name in memory:
                memory[name] = [torch.zeros_like(w) for w in memory[name]]
        self.past = [torch.zeros_like(old) for old in self.past]

    def step(self, content: Tensor, query: Tensor, logit: Tensor | None, valid: bool) -> Tensor:
        """One step: the raw c and q [K] and the momentum's logit -> the read-out [K]."""
        rule, core, size = self.rule, self.core, self.core.key_size
        if core.kernel is not None:
            now = torch.cat((content, query))
            window = [now, *reversed(self.past)]
            mixed = sum(tap * old for tap, old in zip(core.kernel[self.head], window, strict=True))
            content, query = mixed[:size], mixed[size:]
            if valid and self.past:
                self.past = [*self.past[1:], now]
        c, q = _unit(content), _unit(query)
        k, v = _unit(self.made("key", c)), self.made("value", c)
        if "query" in self.delta:
            q = _unit(self.made("query", q))
        eta, alpha = rule.largest_step * self.gate("step", 0, c), torch.ones(())
        if rule.retention and self.heads.log_tau is not None:
            alpha = torch.exp(-2.0 / self.heads.log_tau[self.head].exp() * self.gate("retention", 1, c))
        mu = torch.zeros(())
        if logit is not None:
            mu, eta = alpha * rule.momentum * torch.sigmoid(logit), alpha * eta
        stands = self.delta if rule.read == "running" else self.anchor
        read = self._map(self._whole("mem", stands["mem"]), q)
        if valid:
            told = {name: self._told(name, k, v) for name in self.delta}
            for name, (inputs, gradients, shrink) in told.items():
                self._write(name, inputs, gradients, [eta * factor for factor in shrink], alpha, mu)
        return read

    def _told(self, name: str, k: Tensor, v: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Inputs, inner gradients and shrinking of the steps, for each layer of a memory at its anchor."""
        weights = self._whole(name, self.anchor[name])
        target = _bound(self._map(weights, v) if self.rule.own_targets else v)
        outputs = []  # of each layer, as leaves of the graph of the inner loss
        with torch.enable_grad():
            inputs, out = [k], weights[0] @ k
            out = out if out.requires_grad else out.requires_grad_()
            outputs.append(out)
            answer = out
            if len(weights) == 2:
                hidden = F.silu(out)
                inputs.append(hidden)
                out = weights[1] @ hidden
                outputs.append(out)
                answer = k + out
            loss = -(answer * target).sum()
            if self.rule.objective == "l2":
                loss = 0.5 * (answer - target).square().sum()
        errors = torch.autograd.grad(loss, outputs, create_graph=True, materialize_grads=True, allow_unused=True)
        shrink = [torch.ones(())]
        if len(weights) == 2:
            shrink = [1.0 / weights[1].square().sum().clamp_min(1.0), 1.0 / inputs[1].square().sum().clamp_min(1.0)]
        return inputs, [torch.outer(error, x) for error, x in zip(errors, inputs, strict=True)], shrink

    def _write(
        self, name: str, inputs: list[Tensor], gradients: list[Tensor], steps: list[Tensor], alpha: Tensor, mu: Tensor
    ) -> None:
        """M <- M (alpha I - eta x x^T) + S, S <- mu S - eta grad; alpha acts on the deviation."""
        running = self._whole(name, self.delta[name])
        for i, (x, gradient, eta) in enumerate(zip(inputs, gradients, steps, strict=True)):
            erased = eta * torch.outer(running[i] @ x, x) if self.rule.write == "dgd" else torch.zeros_like(gradient)
            self.momentum[name][i] = mu * self.momentum[name][i] - eta * gradient
            self.delta[name][i] = alpha * self.delta[name][i] - erased + self.momentum[name][i]

    def tick(self, clock: int) -> None:
        """The step clock stands at ``clock``: memories whose chunk ends are confined and anchored."""
        for name in self.delta:
            if clock % (self.rule.chunk if name == "mem" else self.rule.projection_chunk) == 0:
                self.delta[name] = [self._confined(w) for w in self.delta[name]]
                self.anchor[name] = list(self.delta[name])

    def _confined(self, w: Tensor) -> Tensor:
        limit = self.rule.radius * w.shape[1] ** 0.5
        return torch.stack([row if row.norm() <= limit else row * limit / row.norm() for row in w])

    def made(self, name: str, z: Tensor) -> Tensor:
        """M(z) of a memory, at its anchor."""
        return self._map(self._whole(name, self.anchor.get(name)), z)

    def gate(self, name: str, index: int, c: Tensor) -> Tensor:
        """The number in (0, 1) that is read from a memory."""
        logit = self.heads.gate_weight[self.head, index] @ self.made(name, c) + self.heads.gate_bias[self.head, index]
        return torch.sigmoid(logit)

    def _whole(self, name: str, deviation: Weights | None) -> Weights:
        """The layers of a memory: what was meta-learned, and the deviation."""
        place = [*self.heads.fixed, *self.heads.adaptive].index(name)
        first = [layer[self.head, place] for layer in self.heads.memory_0]
        if len(first) == 1:
            first = [first[0] + torch.eye(self.core.key_size)]
        return first if deviation is None else [w + d for w, d in zip(first, deviation, strict=True)]

    def _map(self, weights: Weights, z: Tensor) -> Tensor:
        return weights[0] @ z if len(weights) == 1 else z + weights[1] @ F.silu(weights[0] @ z)

    def _cut(self, flat: Tensor) -> Weights:
        sizes = [rows * columns for rows, columns in self.heads.shapes]
        return [part.view(shape) for part, shape in zip(flat.split(sizes), self.heads.shapes, strict=True)]

    def leaves(self, state: ModifyingState) -> tuple[Tensor, ...]:
        """The head's part of the state after."""
        kinds = []
        for memory, leaf in zip((self.delta, self.momentum, self.anchor), state[:3], strict=True):
            rows = [torch.cat([w.flatten() for w in memory[name]]) for name in self.delta]
            kinds.append(torch.stack(rows) if leaf.shape[2] else leaf[0, 0])
        return (*kinds, torch.stack(self.past) if self.past else state.past[0, 0])


def _unit(z: Tensor) -> Tensor:
    length: Tensor = z.norm().clamp_min(1e-6)
    return z / length


def _bound(z: Tensor) -> Tensor:
    return z / torch.sqrt(1.0 + z.square())
