"""A CMS block whose weights are a stream's own: a perceptron that rewrites itself every C env steps (Eq. 71)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.delta_scan import pieces
from nl_agents.types import LevelInfo, Scope

Reduction = Literal["mean", "sum"]


class Context(NamedTuple):
    """What every block of one core sees beside its own input. T steps, B streams, P targets, A actions.

    Attributes:
        target: [T, B, P] the projected change of the core's input since the last valid step, before its squashing.
        last_action: [T, B, A], or None where there is none.
        learns: [T, B] bool, valid steps whose last step belongs to the same episode.
        resets: [T, B] bool, valid first steps of an episode.
        phase: the step clock before the first step.
    """

    target: Tensor
    last_action: Tensor | None
    learns: Tensor
    resets: Tensor
    phase: int


class FastState(NamedTuple):
    """What one stream keeps of a block, N = K D + P K weights flattened. All zero = fresh.

    Attributes:
        delta: [B, N] the weights' deviation from the meta-learned ones.
        gradient: [B, N] minus the local objective's gradient, summed since the last boundary.
        start: [B, N] the deviation that the block is re-initialised to (nested CMS); None where it never is.
    """

    delta: Tensor
    gradient: Tensor
    start: Tensor | None


class FastBlock(nn.Module):
    """A perceptron of two layers, both written at act time from a local objective (Nested Learning, Eqs. 70-72).

    With z_t the block's input, u_t = layer_norm(z_t) / sqrt(D) of length <= 1, a_t-1 the last action and the stream's
    own weights F = F_0 + Delta, G = G_0 + Delta' of the first and the second layer:

        kappa_t = tanh(F u_t + V a_t-1 + b) / sqrt(K)        kappa'_t: the same of u_t-1 and a_t-1
        tau_t   = tanh(s * Omega stop(x_t - x_t-1))          e_t = tau_t - G kappa'_t,    L_t = 1/2 ||e_t||^2
        r_t     = W_out [G kappa_t, e_t]                     the block's output; its caller adds it to z_t
        every C steps:  Delta <- ball(rho^C Delta - eta' sum_chunk grad L_t)          (Eq. 71, C terms, for F and G)

    The weights stand still inside a chunk, so that all its steps are products of matrices. ``ball`` shortens the
    deviation of both layers together to the norm ``radius``; with it Delta is bounded by construction, whatever is fed,
    for any step size and any target (tested over 10^5 hostile steps). ``reduction`` says what the step size means:
    *mean*: eta' = eta / C, and as ||kappa|| <= 1 and eta < 1 no write of G overshoots its chunk's targets, whatever
    the period; *sum*, as Eq. 71 is printed: eta' = eta is the step of one env step, and the reach of a write grows with
    C. Both start at eta' = 0.88 / C.

    **Nested** (Eq. 72, ``outer_period`` = C_s of the next slower level): the block's initial weights are themselves a
    state, and at every multiple of C_s, after the block's own write,

        start <- start + epsilon (Delta - start),    Delta <- start

    One step of Reptile (Nichol et al. 2018), the first-order solver of Eq. 72's argmin over the C_s steps just lived:
    the initial weights move towards where the block ended, then the block begins again there. epsilon -> 1 is no
    re-initialisation at all, epsilon -> 0 one to the meta-learned weights. A mean of points of the ball stays in it.

    Differs from the paper, which defines neither act-time loss nor episodes: the objective is **ours** (predict the
    next change of the core's input); it is local, no block sees another's error; a transition across an episode's start
    is not learnt from; rho forgets with time constant ``retention``; biases and V are slow. Gradients of the outer loss
    flow through the writes to all parameters but Omega (fixed), and stop at the target's input x.

    Args:
        width: D, features of z.
        targets: P, features of the target.
        action_size: features of the last action, 0 for none.
        period: C, env steps between two writes.
        hidden: K, features between the layers.
        scope: ``episode`` clears the stream's weights at first steps, ``never`` does not.
        reduction: ``mean`` or ``sum`` of the chunk's gradients.
        retention: time constant of forgetting (env steps).
        radius: largest norm of the deviation.
        outer_period: env steps between two re-initialisations, a multiple of ``period``; None for none.
        blend: epsilon at the start.
    """

    def __init__(
        self,
        width: int,
        targets: int,
        action_size: int,
        period: int,
        hidden: int,
        scope: Scope,
        reduction: Reduction,
        retention: float,
        radius: float,
        outer_period: int | None,
        blend: float,
    ) -> None:
        super().__init__()
        self.period, self.outer_period, self.scope, self.radius = period, outer_period, scope, radius
        self.mean = reduction == "mean"
        self.up_0 = nn.Parameter(torch.randn(hidden, width))  # unit inputs: pre-activations of size 1
        self.down_0 = nn.Parameter(torch.zeros(targets, hidden))
        nn.init.normal_(self.down_0, std=0.1)  # zero would keep all gradients from the first layer
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.action = nn.Linear(action_size, hidden, bias=False) if action_size else None
        self.gain = nn.Parameter(torch.full((targets,), 2.0))
        first = 0.88 if self.mean else 0.88 / period
        self.rate_logit = nn.Parameter(torch.tensor(math.log(first / (1.0 - first))))
        self.log_tau = nn.Parameter(torch.tensor(math.log(retention)))
        self.blend_logit = nn.Parameter(torch.tensor(math.log(blend / (1.0 - blend)))) if outer_period else None
        self.out = nn.Linear(2 * targets, width, bias=False)
        nn.init.zeros_(self.out.weight)

    @property
    def weights(self) -> int:
        """N, weights of a stream."""
        return self.up_0.numel() + self.down_0.numel()

    def forward(self, u: Tensor, before: Tensor, context: Context, state: FastState) -> tuple[Tensor, FastState]:
        """Runs the block along a sequence.

        Args:
            u: [T, B, D] the normalised input of each step, length <= 1.
            before: [T, B, D] that of the last valid step before.
            context: what all blocks see.
            state: the streams' weights before the first step.

        Returns:
            r [T, B, D], what the block adds to its input, and the state after the last step.
        """
        push = self.bias.expand(1, 1, -1)
        if self.action is not None and context.last_action is not None:
            push = push + self.action(context.last_action)
        inputs = torch.stack((u, before), dim=-2).transpose(0, 1)  # [B, T, 2, D]
        static = F.linear(inputs, self.up_0) + push.transpose(0, 1).unsqueeze(-2)  # [B, T, 2, K]
        target = torch.tanh(self.gain * context.target).transpose(0, 1)  # [B, T, P]
        reads, state = self._scan(inputs, static, target, context, state)
        read: Tensor = self.out(reads.transpose(0, 1))
        return read, state

    def _scan(
        self, inputs: Tensor, static: Tensor, target: Tensor, context: Context, state: FastState
    ) -> tuple[Tensor, FastState]:
        """Goes from boundary to boundary; returns [p, e] of every step, batch first [B, T, 2 P]."""
        steps, learns = inputs.shape[1], context.learns.T.unsqueeze(-1)
        episode = context.resets.cumsum(0).T.unsqueeze(-1) if self.scope == "episode" else None  # [B, T, 1]
        delta, gradient, start = state
        lives = counts = delta.new_ones(1, 1, 1)  # [B, c, 1]: the step has the stream's weights; the next write has it
        begun = torch.zeros(1, 1, 1, dtype=torch.int64, device=delta.device)  # episodes begun before this piece
        reads = []
        for first, last, closes in pieces(steps, self.period, context.phase):
            part = slice(first, last)
            if episode is not None:
                here, end = episode[:, part], episode[:, last - 1 : last]
                lives, counts = (here == begun).to(delta.dtype), (here == end).to(delta.dtype)
            read, step = self._piece(
                inputs[:, part], static[:, part], target[:, part], learns[:, part], (lives, counts), delta
            )
            reads.append(read)
            if episode is not None:
                kept = (end == begun).squeeze(-1)
                delta, gradient = delta * kept, gradient * kept
                start = None if start is None else start * kept
                begun = end
            gradient = gradient + step
            if closes:
                delta, gradient = self.write(delta, gradient), torch.zeros_like(gradient)
                if self.outer_period and start is not None and (context.phase + last) % self.outer_period == 0:
                    start = self.restart(delta, start)
                    delta = start
        return torch.cat(reads, dim=1), FastState(delta, gradient, start)

    def _piece(
        self,
        inputs: Tensor,
        static: Tensor,
        target: Tensor,
        learns: Tensor,
        masks: tuple[Tensor, Tensor],
        delta: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Steps of one chunk at once: [p, e] [B, c, 2 P] and minus the summed gradient [B, N], in closed form."""
        batch, count, _, width = inputs.shape
        lives, counts = masks
        up, down = self.split(delta)
        own = torch.bmm(inputs.reshape(batch, -1, width), up.mT).view(static.shape)
        key = torch.tanh(static + own * lives.unsqueeze(-1)) / math.sqrt(static.shape[-1])  # [B, c, 2, K]
        own = torch.bmm(key.reshape(batch, 2 * count, -1), down.mT).view(batch, count, 2, -1)
        read = F.linear(key, self.down_0) + own * lives.unsqueeze(-1)  # [B, c, 2, P]
        error = (target - read[:, :, 1]) * learns
        written, past = error * counts, key[:, :, 1]
        slope = 1.0 / math.sqrt(static.shape[-1]) - math.sqrt(static.shape[-1]) * past.square()  # d key / d (F u)
        back = (written @ self.down_0 + torch.bmm(written, down) * lives) * slope
        steps = torch.bmm(back.mT, inputs[:, :, 1]), torch.bmm(written.mT, past)  # [B, K, D], [B, P, K]
        return torch.cat((read[:, :, 0], error), dim=-1), torch.cat([step.flatten(1) for step in steps], dim=1)

    def split(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Views [B, N] as the two layers' weights [B, K, D] and [B, P, K]."""
        up, down = flat.split((self.up_0.numel(), self.down_0.numel()), dim=1)
        return up.unflatten(1, self.up_0.shape), down.unflatten(1, self.down_0.shape)

    def write(self, delta: Tensor, gradient: Tensor) -> Tensor:
        """Eq. 71 at a boundary, on [B, N]: forget, step, stay in the ball."""
        rate = torch.sigmoid(self.rate_logit) / (self.period if self.mean else 1)
        moved = torch.exp(-self.period * torch.exp(-self.log_tau)) * delta + rate * gradient
        norm = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
        bounded: Tensor = moved * (torch.full_like(norm, self.radius) / norm.clamp_min(self.radius))  # exactly 1 inside
        return bounded

    def restart(self, delta: Tensor, start: Tensor) -> Tensor:
        """Eq. 72 at a boundary of the next slower level: the new initial deviation [B, N]."""
        assert self.blend_logit is not None
        return torch.lerp(start, delta, torch.sigmoid(self.blend_logit))

    def mute(self) -> None:
        """Takes the block out, in place: it adds nothing to its input, as on the day it was born."""
        nn.init.zeros_(self.out.weight)

    def levels(self, prefix: str) -> list[LevelInfo]:
        """The block's row in a nest, and that of its initial weights where they are a level of their own."""
        floats = 2 * self.weights + self.up_0.shape[1]  # delta, gradient and the last input
        own = f"perceptron, {floats} floats a stream"
        goal = "L2: next change of the encoded input"
        rows = [LevelInfo(prefix, own, "its input and the action", goal, self.period, "env step", self.scope)]
        if self.outer_period:
            kept = f"initial weights, {self.weights} floats a stream"
            goal = f"the same over {self.outer_period} env steps (Reptile)"
            source = f"where {prefix} ended"
            rows.append(LevelInfo(f"{prefix}.start", kept, source, goal, self.outer_period, "env step", self.scope))
        return rows
