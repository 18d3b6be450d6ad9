"""Continuum Memory System: blocks chained from fast to slow, each with its own update period (Eqs. 70-71).

Two kinds of level stand in one chain. *Act-time* levels write a matrix of their own for every stream from a local
objective, every ``period`` env steps. *Learner-time* levels are residual MLP blocks, ordinary parameters whose
gradients the learner sums over ``period`` updates before it steps them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.delta_scan import Piece, pieces
from nl_agents.memory.form import compiled
from nl_agents.memory.options import whole
from nl_agents.types import LevelInfo, Scope


class ActTimeState(NamedTuple):
    """What one stream keeps of an act-time level. All zero = fresh.

    Attributes:
        delta: [B, P, K] the stream's deviation from the meta-learned matrix.
        gradient: [B, P, K] the write summed since the last boundary.
        key: [B, K] last valid step's key before the action is known.
        signal: [B, P] last valid step's projected input.
    """

    delta: Tensor
    gradient: Tensor
    key: Tensor
    signal: Tensor


class ActTimeLevel(nn.Module):
    """A CMS level that writes itself while acting: a linear predictor of how the input will change.

    With z_t the level's input, x_t the core's input, a_t-1 the last action, F = F_0 + Delta:

        kappa_t = unit(silu(U z_t + V a_t-1 + b))      kappa'_t = unit(silu(U z_t-1 + V a_t-1 + b))
        tau_t   = tanh(s * Omega stop(x_t - x_t-1))    e_t = tau_t - F kappa'_t
        y_t     = z_t + W_out [F kappa_t, e_t]
        every C steps:  Delta <- rho Delta + (eta / C) sum_chunk e_t kappa'_t^T                    (Eq. 71, C terms)

    so the read-out is what the level expects if the last action goes on, and how wrong it has just been. The objective
    is 1/2 ||e_t||^2, applied at t from (input, action) at t - 1 (ours: the paper defines no act-time loss). Keys have
    unit length, targets lie in -1 .. 1 and eta <= 1: no write overshoots its target (tested over 10^5 steps).

    A transition across an episode's start is not learnt from; with scope ``never`` Delta itself survives it. W_out
    starts at zero: a new level leaves its host as it was. Gradients flow through the writes; none flows into Omega (a
    fixed random projection) or through the target's input.
    """

    omega: Tensor

    def __init__(
        self,
        width: int,
        input_size: int,
        action_size: int,
        period: int = 64,
        size: int = 16,
        scope: Scope = "never",
        retention: float = 1e4,
    ) -> None:
        super().__init__()
        period = whole("period", period, 1, "env steps")
        if scope not in ("episode", "never"):
            raise ValueError(f"scope must be 'episode' or 'never', got {scope!r}")
        self.period, self.size, self.scope, self.action_size = period, size, scope, action_size
        self.key = nn.Linear(width, size)
        self.action = nn.Linear(action_size, size, bias=False) if action_size else None
        self.memory_0 = nn.Parameter(torch.zeros(size, size))
        self.gain = nn.Parameter(torch.full((size,), 2.0))
        self.rate_logit = nn.Parameter(torch.tensor(2.0))
        self.log_tau = nn.Parameter(torch.tensor(math.log(retention)))
        self.out = nn.Linear(2 * size, width, bias=False)
        nn.init.zeros_(self.out.weight)
        projection = torch.randn(size, input_size) / math.sqrt(input_size)
        self.register_buffer("omega", projection)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> ActTimeState:
        """Returns newborn memories for ``batch_size`` streams."""
        size, like = self.size, self.memory_0
        zeros = [like.new_zeros(batch_size, *shape, device=device or like.device) for shape in ((size, size), (size,))]
        return ActTimeState(zeros[0], zeros[0].clone(), zeros[1], zeros[1].clone())

    def forward(
        self,
        z: Tensor,
        x: Tensor,
        state: ActTimeState,
        is_first: Tensor,
        is_valid: Tensor | None,
        last_action: Tensor | None,
        phase: int,
        acting: bool = False,
    ) -> tuple[Tensor, ActTimeState]:
        """Maps z [T, B, width] and x [T, B, input_size] to y [T, B, width] and the memory after the last step.

        ``acting`` gives the state away and asks for no gradients (``MemoryCore.act``).
        """
        steps = z.shape[0]
        raw = self.key(F.layer_norm(z, z.shape[-1:]))  # [T, B, K]
        signal = F.linear(x.detach(), self.omega)
        before, signal_before, last = _previous(raw, signal, state, is_valid)
        both = torch.stack((raw, before))  # [2, T, B, K]: this step's key, and the last one's with this step's action
        if self.action is not None and last_action is not None:
            both = both + self.action(last_action)
        active = F.silu(both)
        target = torch.tanh(self.gain * (signal - signal_before))  # [T, B, P]
        learns = ~is_first if is_valid is None else ~is_first & is_valid
        resets = (is_first if is_valid is None else is_first & is_valid) if self.scope == "episode" else None
        if compiled is not None and z.device.type == "cpu":
            flags = (learns, torch.zeros_like(learns) if resets is None else resets)
            weights, memories = (self.memory_0, self.log_tau, self.rate_logit), (state.delta, state.gradient)
            if acting:
                reads, delta, gradient = compiled.act_level(
                    active, target, weights, *memories, flags, (self.period, phase)
                )
            else:
                reads, delta, gradient = compiled.CompiledLevel.apply(
                    active, target, *weights, *memories, *flags, self.period, phase
                )
        else:
            keys = F.normalize(active, dim=-1, eps=1e-6).permute(2, 1, 0, 3)  # [B, T, 2, K]
            given = (keys, target.transpose(0, 1), learns.T.unsqueeze(-1), resets, state)
            reads, delta, gradient = self._scan(*given, pieces(steps, self.period, phase))
            reads = reads.transpose(0, 1)
        return z + self.out(reads), ActTimeState(delta, gradient, *last)

    def _scan(
        self,
        keys: Tensor,
        target: Tensor,
        learns: Tensor,
        resets: Tensor | None,
        state: ActTimeState,
        cut: list[Piece],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the chunks one after the other; inside a chunk the matrix stands still. Reads come batch first."""
        batch, steps, _, size = keys.shape
        keep, rate = torch.exp(-self.period * torch.exp(-self.log_tau)), torch.sigmoid(self.rate_logit) / self.period
        delta, gradient = state.delta, state.gradient
        static = keys.reshape(batch, steps * 2, size) @ self.memory_0.T
        static = static.view(batch, steps, 2, size)
        episode = None if resets is None else resets.cumsum(0).T.unsqueeze(-1)  # [B, T, 1]
        before = torch.zeros(batch, 1, 1, dtype=torch.int64, device=keys.device)  # episodes begun before this chunk
        reads = []
        for start, stop, closes in cut:
            piece = keys[:, start:stop]
            dynamic = torch.bmm(piece.reshape(batch, -1, size), delta.mT).view(batch, stop - start, 2, size)
            learn = learns[:, start:stop]
            if episode is not None:
                here = episode[:, start:stop]
                dynamic = dynamic * (here == before).unsqueeze(-1)
                kept = here[:, -1:] == before
                delta, gradient = delta * kept, gradient * kept
                before = here[:, -1:]
            expected = static[:, start:stop] + dynamic
            error = (target[:, start:stop] - expected[:, :, 1]) * learn
            reads.append(torch.cat((expected[:, :, 0], error), dim=-1))
            written = error if episode is None else error * (episode[:, start:stop] == before)
            gradient = torch.baddbmm(gradient, written.mT, piece[:, :, 1])
            if closes:
                delta = keep * delta + rate * gradient
                gradient = torch.zeros_like(gradient)
        return torch.cat(reads, dim=1), delta, gradient

    def mute(self) -> None:
        """Takes the level out, in place: it passes its input on, as on the day it was born."""
        nn.init.zeros_(self.out.weight)

    def levels(self, prefix: str) -> list[LevelInfo]:
        """The level's row in a nest."""
        stores = f"{self.size}x{self.size} matrix, {2 * self.size * (self.size + 1)} floats a stream"
        objective = "L2: next change of the encoded input"
        return [LevelInfo(prefix, stores, "its input and the action", objective, self.period, "env step", self.scope)]


def _previous(
    raw: Tensor, signal: Tensor, state: ActTimeState, is_valid: Tensor | None
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Shifts both [T, B, *] by one *valid* step, the state before the first; returns also the pair to hand on."""
    if len(raw) == 1:  # an act step
        now = raw[0], signal[0]
        if is_valid is not None:
            valid = is_valid[0].unsqueeze(-1)
            now = torch.where(valid, now[0], state.key), torch.where(valid, now[1], state.signal)
        return state.key.unsqueeze(0), state.signal.unsqueeze(0), now
    keys = torch.cat((state.key.unsqueeze(0), raw))
    signals = torch.cat((state.signal.unsqueeze(0), signal))
    if is_valid is None:
        return keys[:-1], signals[:-1], (keys[-1], signals[-1])
    steps, batch = is_valid.shape
    count = torch.arange(1, steps + 1, device=raw.device).unsqueeze(1)
    newest = torch.where(is_valid, count, 0).cummax(0).values  # [T, B] index of the last valid step up to t, 0 = state
    index = torch.cat((newest.new_zeros(1, batch), newest))  # what step t (0-based) finds stands at index[t]
    keys = keys.gather(0, index.unsqueeze(-1).expand(-1, -1, keys.shape[-1]))
    signals = signals.gather(0, index.unsqueeze(-1).expand(-1, -1, signals.shape[-1]))
    return keys[:-1], signals[:-1], (keys[-1], signals[-1])


class LearnerTimeLevel(nn.Module):
    """A CMS level in learner time: y = z + W_2 silu(W_1 norm(z)), stepped every ``period`` learner updates (Eq. 71).

    Its parameters lie in the same flow of gradients as all others; the learner sums their gradients over ``period``
    updates. W_2 starts at zero, so that a new level leaves its host as it was.
    """

    def __init__(self, width: int, hidden: int, period: int) -> None:
        super().__init__()
        self.period = whole("period", period, 1, "learner updates")
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, z: Tensor) -> Tensor:
        """Maps z [..., width] to y [..., width]."""
        change: Tensor = self.down(F.silu(self.up(self.norm(z))))
        return z + change

    def mute(self) -> None:
        """Takes the level out, in place: it passes its input on, as on the day it was born."""
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def levels(self, prefix: str) -> list[LevelInfo]:
        """The level's row in a nest."""
        count = sum(parameter.numel() for parameter in self.parameters())
        return [
            LevelInfo(
                prefix, f"{count} weights", "gradients", "the agent's loss", self.period, "learner update", "life"
            )
        ]
