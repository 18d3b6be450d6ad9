"""Diagonal linear recurrence with input-dependent decay: the state-space peer (Mamba-like), scanned in parallel.

Each of W channels drives N numbers of state, each with a time constant of its own (env steps):

    h_t = a_t * h_t-1 + b_t,    a_t = exp(-Delta_t / tau),    b_t = sqrt(1 - a_t^2) * B_t u_t,    o_t = C_t^T h_t

with u_t, Delta_t = softplus(.) per channel and B_t, C_t in R^N, all linear in the input (Gu & Dao 2023, "Mamba",
Algorithm 2: selective state space with real diagonal). The factor sqrt(1 - a^2) is that of the linear recurrent unit
(Orvieto et al. 2023; De et al. 2024, "Griffin", Eq. 4): driven by noise, slow and fast numbers have equal size.

The recurrence is associative: (a, b) then (a', b') is (a' a, a' b + b'). ``scan`` uses that pair by pair, in O(T) work
and O(log T) tensor operations. It only multiplies and adds factors in 0 .. 1, so nothing is divided by a product that
has vanished, and a = 0 cuts exactly: this is how an episode starts.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.base import MemoryCore
from nl_agents.memory.options import check_retention, whole
from nl_agents.memory.sound import mend, sort_out, spoil
from nl_agents.types import LevelInfo, Scope

ChannelScope = Literal["episode", "never", "split"]


class DiagonalState(NamedTuple):
    """What one stream remembers. All zero = fresh.

    Attributes:
        hidden: [B, W, N] h.
    """

    hidden: Tensor


class DiagonalCore(MemoryCore):
    """Diagonal linear recurrence whose decay depends on the input (Mamba-like).

        r_t = W_in x_t,  y_t = norm(r_t + W_out (norm(o_t) * silu(W_gate norm(r_t)))), o_t from the recurrence.

    Differs from Mamba: no short convolution (previous action and reward are inputs), one layer, no widening of the
    channels, sqrt(1 - a^2) in place of Delta_t before B_t, a normalised read-out, and time constants that start
    log-spaced over the N numbers of every channel.

    Gradients flow through the whole sequence and to the state that was handed in, and never across a reset. For given
    weights h is bounded whatever is fed: the input is normalised, hence u_t, B_t and 1 / Delta_t are bounded, and
    |h| <= sqrt(2 tau / Delta) |B u| + |B u|.

    Args:
        input_size: features of x.
        width: features of y and of the residual stream; also the channels W.
        scope: ``episode``, ``never``, or ``split``: the first half of the channels is cleared at episodes.
        states: N, numbers of state a channel.
        retention: shortest and longest initial time constant (env steps, at Delta = 1).
    """

    state_type = DiagonalState
    clears: Tensor

    def __init__(
        self,
        input_size: int,
        width: int,
        *,
        scope: ChannelScope = "split",
        states: int = 16,
        retention: tuple[float, float] = (10.0, 1e5),
    ) -> None:
        super().__init__(input_size, width)
        if scope not in ("episode", "never", "split"):
            raise ValueError(f"scope must be 'episode', 'never' or 'split', got {scope!r}")
        check_retention(retention)
        self.states = whole("states", states, 1, "numbers a channel")
        episode_channels = {"episode": width, "never": 0, "split": width // 2}[scope]
        self.register_buffer("clears", torch.arange(width) < episode_channels, persistent=False)
        self.embed = nn.Linear(input_size, width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width + 2 * states)
        self.norm_read = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        low, high = (math.log10(tau) for tau in retention)
        self.log_tau = nn.Parameter(torch.logspace(low, high, states).log().repeat(width, 1))

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> DiagonalState:
        """Returns newborn memories for ``batch_size`` streams."""
        shape = (batch_size, self.width, self.states)
        return DiagonalState(self.log_tau.new_zeros(shape, device=device or self.log_tau.device))

    def forward(
        self,
        x: Tensor,
        state: DiagonalState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, DiagonalState]:
        """See ``MemoryCore.forward``; ``last_action`` and ``phase`` are not used. Never synchronises with the host."""
        self.check(x, state, is_first, is_valid, last_action)
        x, resets, writes, spoilt = sort_out(x, is_first, is_valid)
        residual = self.embed(x)
        parts = self.mix(self.norm(residual)).split((self.width,) * 3 + (self.states,) * 2, -1)
        drive, gate, delta, into, out_of = parts
        cut = (resets.unsqueeze(-1) & self.clears).unsqueeze(-1)  # [T, B, W, 1]
        log_retention = F.softplus(delta).unsqueeze(-1) * -torch.exp(-self.log_tau)  # [T, B, W, N]
        size = (-torch.expm1(2.0 * log_retention)).clamp_min(1e-12).sqrt()
        idle = ~writes[..., None, None]
        a = log_retention.exp().masked_fill(idle, 1.0).masked_fill(cut, 0.0)
        b = (size * drive.unsqueeze(-1) * into.unsqueeze(-2)).masked_fill(idle, 0.0)
        start, broken = mend(state.hidden)
        hidden = _Recurrence.apply(a, b, start)  # type: ignore[no-untyped-call]
        read = (hidden @ out_of.unsqueeze(-1)).squeeze(-1)  # [T, B, W]
        y = self.norm_out(residual + self.out(self.norm_read(read) * F.silu(gate)))
        still = broken.any(-1) & (cut.squeeze(-1).cumsum(0) == 0)  # [T, B, W] what is broken has not been cleared yet
        last = hidden[-1].masked_fill(broken & still[-1].unsqueeze(-1), torch.nan)
        return spoil(cast(Tensor, y), spoilt, still.any(-1)), DiagonalState(last)

    def matrices(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """See ``MemoryCore.matrices``: none, each number decays by itself."""
        return {}

    def levels(self) -> list[LevelInfo]:
        """One row a kind of channel."""
        cleared = int(self.clears.sum())
        kinds: tuple[tuple[Scope, int], ...] = (("episode", cleared), ("never", self.width - cleared))
        return [
            LevelInfo(
                f"core.diagonal.{scope}",
                f"{count} channels, {count * self.states} floats a stream",
                "encoded observation, action, reward",
                "none of its own: decay and drive trained by the outer loss",
                1,
                "env step",
                scope,
            )
            for scope, count in kinds
            if count
        ]


def scan(a: Tensor, b: Tensor) -> Tensor:
    """Returns h with h_t = a_t * h_t-1 + b_t along the first axis, h before the first step being zero.

    Neighbours are joined to pairs, the pairs' recurrence of half the length is solved by itself, and the steps between
    are filled in: 2 log2 T rounds of vectorised products.

    Args:
        a: [T, ...] factors.
        b: same shape, what is added.
    """
    steps = a.shape[0]
    if steps == 1:
        return b
    even = steps - steps % 2
    later = a[1:even:2]
    odd = scan(later * a[0:even:2], torch.addcmul(b[1:even:2], later, b[0:even:2]))  # h_1, h_3, ...
    h = torch.empty_like(b)
    h[0] = b[0]
    h[1::2] = odd
    between = h[2::2]
    torch.addcmul(b[2::2], a[2::2], odd[: between.shape[0]], out=between)
    return h


class _Recurrence(torch.autograd.Function):
    """h_t = a_t * h_t-1 + b_t from a given start; its adjoint is the same recurrence backwards.

    With G_t = dL/dh_t + a_t+1 G_t+1: dL/da_t = G_t h_t-1, dL/db_t = G_t, dL/dh_-1 = a_0 G_0. So only a and h are kept.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, start: Tensor) -> Tensor:
        b = b.clone()
        b[0] = torch.addcmul(b[0], a[0], start)
        h = scan(a, b)
        ctx.save_for_backward(a, h, start)
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h, start = ctx.saved_tensors
        back = scan(torch.cat((a[1:], torch.zeros_like(a[:1]))).flip(0), grad.flip(0)).flip(0)
        return back * torch.cat((start.unsqueeze(0), h[:-1])), back, a[0] * back[0]
