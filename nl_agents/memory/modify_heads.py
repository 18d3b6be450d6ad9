"""H heads of self-modifying memory: keys, values, step sizes and retention come from memories that write themselves.

Per head and stream, with inputs c_t and q_t of unit length and n memories M_b of one form (``modify_form``),

    k_t = norm(M_key c_t)        v_t = M_value c_t        q_t = norm(M_query q_t)     (Eq. 83; M_query fixed by default)
    eta_t = eta_max sigmoid(w_step . M_step c_t + b_step)
    log alpha_t = -(2 / tau) sigmoid(w_ret . M_retention c_t + b_ret)
    vhat_b,t = bound(M_b v_t), bound(z) = z / sqrt(1 + z^2)                                (Eqs. 84, 85)
    o_t = M_mem,t-1 q_t                                                                    (Eq. 86: read before write)
    M_b,t = M_b,t-1 (alpha_t I - eta_t k_t k_t^T) - eta_t grad L(M_b; k_t, vhat_b,t)       (Eq. 88, ``modify_layer``)

Memories that do not modify themselves stay at their meta-learned start. Everything but the recurrence is taken at the
anchor, the memory as it was where the chunk began (Eq. 90); ``mem`` and the others may have chunks of different
length. A stretch of steps between two moves of an anchor is solved at once; chunks follow one another in a loop, which
for chunks of one step (the exact Eq. 88) is a loop over time: there keys depend on the write before, and no parallel
form is known.

Differs from the paper: step size and retention are numbers a head, read from their memories by a vector each (the
residual of Eq. 91 makes memories map R^K to R^K; that their outputs are numbers, or how they are squashed, is not
said); targets are bounded; rows are confined where a chunk ends; retention acts on the deviation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.modify_form import At, apply, read_running, tell
from nl_agents.memory.modify_layer import Kept, Stretch, confine, fade, write
from nl_agents.memory.modify_rule import NAMES, Rule

Layers = tuple[Tensor, ...]


class Memories(NamedTuple):
    """What heads remember: each [B, H, n, S] with S numbers a memory, or with n = 0 where the rule has no use for it.

    Attributes:
        delta: deviation from the meta-learned memories.
        momentum: Titans' S_t.
        anchor: the deviation where the current chunk began.
    """

    delta: Tensor
    momentum: Tensor
    anchor: Tensor


class Told(NamedTuple):
    """What heads are told in a sequence.

    Attributes:
        content: [B, H, T, K] c, unit length.
        query: [B, H, T, K] q, unit length.
        log_momentum: [B, H, T] log mu without retention's part; None without momentum.
        alive: [B, 1, T] bool, steps that write.
        segment: [B, H, T] number of resets up to and including t (0 throughout for heads never cleared).
    """

    content: Tensor
    query: Tensor
    log_momentum: Tensor | None
    alive: Tensor
    segment: Tensor

    def part(self, start: int, stop: int) -> Told:
        """The steps start .. stop - 1."""
        cut = (leaf[:, :, start:stop] if leaf is not None else None for leaf in self)
        return Told(*cut)  # type: ignore[arg-type]


class ModifyingHeads(nn.Module):
    """See the module's docstring.

    Gradients flow through every write of the sequence, to the meta-learned memories, to the gates and to the memories
    that were handed in; none is stopped. The gradient of the inner loss is written down, not taken.

    Args:
        rule: the options.
        heads: H.
        key_size: K.
        hidden: m, hidden units of a perceptron (unused by ``linear``).
        time_constants: [H] first tau in env steps.
    """

    is_mem: Tensor

    def __init__(self, rule: Rule, heads: int, key_size: int, hidden: int, time_constants: Tensor) -> None:
        super().__init__()
        self.rule, self.heads, self.key_size = rule, heads, key_size
        needed = [name for name in NAMES if name != "query" and (name != "retention" or rule.retention)]
        self.adaptive = [name for name in NAMES if name in rule.modifies and (name in needed or name == "query")]
        self.fixed = [name for name in needed if name not in self.adaptive]
        count, spread = len(self.adaptive) + len(self.fixed), 0.5 / math.sqrt(key_size)
        if rule.memory == "linear":
            self.shapes = [(key_size, key_size)]
            first = [spread * torch.randn(heads, count, key_size, key_size)]
        else:
            self.shapes = [(hidden, key_size), (key_size, hidden)]
            first = [2.0 * spread * torch.randn(heads, count, hidden, key_size)]
            first.append(0.5 / math.sqrt(hidden) * torch.randn(heads, count, key_size, hidden))
        self.memory_0 = nn.ParameterList(first)  # layers [H, n, O, I], fixed memories first
        gates = 2 if rule.retention else 1
        self.gate_weight = nn.Parameter(torch.randn(heads, gates, key_size))
        self.gate_bias = nn.Parameter(torch.zeros(heads, gates))
        self.log_tau = nn.Parameter(time_constants.log()) if rule.retention else None
        self.size = sum(rows * columns for rows, columns in self.shapes)
        is_mem = torch.tensor([name == "mem" for name in self.adaptive], dtype=torch.bool)
        self.register_buffer("is_mem", is_mem[:, None, None], persistent=False)

    def initial(self, batch_size: int, device: torch.device | str | None = None) -> Memories:
        """Returns newborn memories."""
        rule, shape = self.rule, (batch_size, self.heads, len(self.adaptive), self.size)
        zero = self.gate_bias.new_zeros(shape, device=device or self.gate_bias.device)
        none = zero[:, :, :0]
        is_anchored = max(rule.chunk, rule.projection_chunk) > 1
        momentum, anchor = (zero.clone() if has else none.clone() for has in (rule.momentum > 0.0, is_anchored))
        return Memories(zero, momentum, anchor)

    def forward(self, told: Told, memories: Memories, phase: int) -> tuple[Tensor, Memories]:
        """Reads and writes along a sequence that begins at ``phase`` of the clock: [B, H, T, K], memories after."""
        base = self._base()
        fixed = At(tuple(layer[:, : len(self.fixed)] for layer in base), None, None)
        own = tuple(layer[:, len(self.fixed) :] for layer in base)
        settled = apply(fixed, told.content.unsqueeze(2)) if self.fixed else told.content[:, :, None][:, :, :0]
        has_momentum = memories.momentum.shape[2] > 0
        delta, anchor = self._layers(memories.delta), self._layers(memories.anchor)
        momentum = self._layers(memories.momentum)
        before, reads = torch.zeros_like(told.segment[..., :1]), []
        for start, stop, closes in self._cuts(told.content.shape[2], phase):
            part = told.part(start, stop)
            at = At(own, anchor if memories.anchor.shape[2] else delta, _head(part, before))
            kept = [Kept(*pair) for pair in zip(delta, momentum if has_momentum else [None] * len(delta), strict=True)]
            read, kept = self._stretch(part, at, settled[:, :, :, start:stop], kept, before)
            reads.append(read)
            delta = tuple(layer.delta for layer in kept)
            if has_momentum:
                momentum = tuple(layer.momentum for layer in kept if layer.momentum is not None)
            unbroken = (part.segment[..., -1:] == before)[..., None, None]
            delta, anchor = self._close(delta, anchor, closes, unbroken)
            before = part.segment[..., -1:]
        after = (_flat(delta), _flat(momentum) if has_momentum else memories.momentum)
        return torch.cat(reads, 2), Memories(*after, _flat(anchor) if memories.anchor.shape[2] else memories.anchor)

    def _stretch(
        self, told: Told, at: At, settled: Tensor, kept: list[Kept], before: Tensor
    ) -> tuple[Tensor, list[Kept]]:
        """One stretch with a still anchor: the read-out [B, H, L, K] and the memories after it."""
        rule, made = self.rule, {name: settled[:, :, i] for i, name in enumerate(self.fixed)}
        if len(self.adaptive) > 1:
            inputs = [told.query if name == "query" else told.content for name in self.adaptive[:-1]]
            outputs = apply(_only(at, slice(None, -1)), torch.stack(inputs, 2))
            made |= {name: outputs[:, :, i] for i, name in enumerate(self.adaptive[:-1])}
        key = F.normalize(made["key"], dim=-1, eps=1e-6).unsqueeze(2)
        query = F.normalize(made["query"], dim=-1, eps=1e-6) if "query" in made else told.query
        step = rule.largest_step * self._gate(made["step"], 0) * told.alive
        log_retention = torch.zeros_like(step)
        if self.log_tau is not None:
            rate = (2.0 * torch.exp(-self.log_tau))[:, None]
            log_retention = (-rate * self._gate(made["retention"], 1)).masked_fill(~told.alive, 0.0)
        log_momentum = None
        if told.log_momentum is not None:
            log_momentum = told.log_momentum + log_retention  # mu <= g alpha and eta <= alpha eta_max: ``largest_step``
            step = step * log_retention.exp()
        fading = fade(log_retention, log_momentum, told.alive, told.segment, before)
        value = made["value"].unsqueeze(2)
        target = apply(at, value) if rule.own_targets else value
        target = target * torch.rsqrt(1.0 + target.square())
        courses, after = [], []
        for layer, base, memory in zip(
            tell(at, key, target, step[:, :, None, :, None], rule.objective), at.base, kept, strict=True
        ):
            course, memory = write(layer, base, memory, fading, rule.write == "dgd")
            courses.append(course)
            after.append(memory)
        asked = query.unsqueeze(2)
        if rule.read == "running":
            read = read_running([_last(course) for course in courses], asked, fading)
        else:
            read = apply(_only(at, slice(-1, None)), asked)
        return read.squeeze(2), after

    def _gate(self, made: Tensor, index: int) -> Tensor:
        """A number in (0, 1) a head and step [B, H, L] from a memory's output [B, H, L, K]."""
        return torch.sigmoid((made @ self.gate_weight[:, index, :, None]).squeeze(-1) + self.gate_bias[:, index, None])

    def _base(self) -> Layers:
        """The meta-learned layers, with the identity where a matrix is the whole map."""
        layers = tuple(self.memory_0)
        if len(layers) == 1:
            return (layers[0] + torch.eye(self.key_size, dtype=layers[0].dtype, device=layers[0].device),)
        return layers

    def _cuts(self, steps: int, phase: int) -> list[tuple[int, int, tuple[bool, bool]]]:
        """Stretches (start, stop, whether the anchors of the projections and of mem move at its end)."""
        cuts, start, periods = [], 0, (self.rule.projection_chunk, self.rule.chunk)
        while start < steps:
            stop = min(steps, *(start + period - (phase + start) % period for period in periods))
            closes = tuple((phase + stop) % period == 0 for period in periods)
            cuts.append((start, stop, (closes[0], closes[1])))
            start = stop
        return cuts

    def _close(
        self, delta: Layers, anchor: Layers, closes: tuple[bool, bool], unbroken: Tensor
    ) -> tuple[Layers, Layers]:
        """Confines and anchors the memories whose chunk ends; other anchors are cleared by a reset on the way."""
        if all(closes):
            delta = tuple(confine(layer, self.rule.radius) for layer in delta)
            return delta, delta
        anchor = tuple(layer * unbroken for layer in anchor)
        if not any(closes):
            return delta, anchor
        which = self.is_mem if closes[1] else ~self.is_mem
        delta = tuple(torch.where(which, confine(layer, self.rule.radius), layer) for layer in delta)
        return delta, tuple(torch.where(which, *pair) for pair in zip(delta, anchor, strict=True))

    def _layers(self, flat: Tensor) -> Layers:
        """[B, H, n, S] -> layers [B, H, n, O, I]."""
        parts = flat.split([rows * columns for rows, columns in self.shapes], -1)
        return tuple(part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True))


def _flat(layers: Layers) -> Tensor:
    return torch.cat([layer.flatten(-2) for layer in layers], -1)


def _head(told: Told, before: Tensor) -> Tensor:
    return (told.segment == before).to(told.content.dtype)[:, :, None, :, None]


def _only(at: At, which: slice) -> At:
    """Some of the memories."""
    delta = None if at.delta is None else tuple(layer[:, :, which] for layer in at.delta)
    return At(tuple(layer[:, which] for layer in at.base), delta, at.head)


def _last(course: Stretch) -> Stretch:
    """The course of the last memory, mem."""
    momentum, erased = course.before.momentum, course.erased
    return Stretch(
        course.key[:, :, -1:],
        course.base[:, -1:],
        Kept(course.before.delta[:, :, -1:], None if momentum is None else momentum[:, :, -1:]),
        None if erased is None else erased[:, :, -1:],
        course.pushed[:, :, -1:],
    )
