"""Slow judges of the peer cores: one step at a time, the equations as they are written in the papers.

Each takes the core (for its parameters), a sequence, the state before it and the flags, and returns what ``forward``
must return. They share no code with the fast path but the parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.feed_forward import FeedForwardCore
from nl_agents.memory.gated_delta import GatedDeltaCore, GatedDeltaState
from nl_agents.memory.recurrent import GruCore, GruState, LstmCore, LstmState


def lstm_reference(
    core: LstmCore, x: Tensor, state: LstmState, is_first: Tensor, is_valid: Tensor
) -> tuple[Tensor, LstmState]:
    """Long short-term memory, stream by stream and step by step."""
    w_x, w_h, b_x, b_h = (core.rnn.get_parameter(f"{name}_l0") for name in _NAMES)
    out, hidden, cell = _blank(x, core.width), list(state.hidden), list(state.cell)
    for t, b in _steps(x):
        if not is_valid[t, b]:
            continue
        if is_first[t, b] and core.scope == "episode":
            hidden[b], cell[b] = torch.zeros_like(hidden[b]), torch.zeros_like(cell[b])
        i, f, g, o = (w_x @ x[t, b] + b_x + w_h @ hidden[b] + b_h).chunk(4)
        cell[b] = f.sigmoid() * cell[b] + i.sigmoid() * g.tanh()
        hidden[b] = o.sigmoid() * cell[b].tanh()
        out[t][b] = hidden[b]
    return _stack(out), LstmState(torch.stack(hidden), torch.stack(cell))


def gru_reference(
    core: GruCore, x: Tensor, state: GruState, is_first: Tensor, is_valid: Tensor
) -> tuple[Tensor, GruState]:
    """Gated recurrent unit, stream by stream and step by step."""
    w_x, w_h, b_x, b_h = (core.rnn.get_parameter(f"{name}_l0") for name in _NAMES)
    out, hidden = _blank(x, core.width), list(state.hidden)
    for t, b in _steps(x):
        if not is_valid[t, b]:
            continue
        if is_first[t, b] and core.scope == "episode":
            hidden[b] = torch.zeros_like(hidden[b])
        r_x, z_x, n_x = (w_x @ x[t, b] + b_x).chunk(3)
        r_h, z_h, n_h = (w_h @ hidden[b] + b_h).chunk(3)
        r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
        hidden[b] = (1 - z) * (n_x + r * n_h).tanh() + z * hidden[b]
        out[t][b] = hidden[b]
    return _stack(out), GruState(torch.stack(hidden))


def gated_delta_reference(
    core: GatedDeltaCore, x: Tensor, state: GatedDeltaState, is_first: Tensor, is_valid: Tensor
) -> tuple[Tensor, GatedDeltaState]:
    """Gated delta rule (Yang et al. 2025, Eq. 10), head by head: S <- S alpha (I - beta k k^T) + beta v k^T."""
    width, heads, size = core.width, core.heads, core.key_size
    out = _blank(x, width)
    memory = [[state.memory[b, h] for h in range(heads)] for b in range(x.shape[1])]
    eye = torch.eye(size, dtype=x.dtype)
    for t, b in _steps(x):
        valid = bool(is_valid[t, b])
        residual = core.embed(x[t, b] if valid else torch.zeros_like(x[t, b]))
        mixed = core.mix(core.norm(residual))
        reads = []
        for h in range(heads):
            q, k, v = (mixed[part * width + h * size : part * width + (h + 1) * size] for part in range(3))
            q, k = q / q.norm(), k / k.norm()
            beta, gate = core.step_limit * mixed[4 * width + h].sigmoid(), mixed[4 * width + heads + h].sigmoid()
            alpha = torch.exp(-2.0 / core.log_tau[h].exp() * gate)
            s = memory[b][h]
            if valid:
                s = torch.zeros_like(s) if is_first[t, b] and core.clears[h] else s
                s = alpha * s @ (eye - beta * torch.outer(k, k)) + beta * torch.outer(v, k)
            memory[b][h] = s
            reads.append(core.norm_read(s @ q))
        read = torch.cat(reads) * F.silu(mixed[3 * width : 4 * width])
        out[t][b] = core.norm_out(residual + core.out(read))
    return _stack(out), GatedDeltaState(torch.stack([torch.stack(row) for row in memory]))


def feed_forward_reference(core: FeedForwardCore, x: Tensor) -> Tensor:
    """Residual perceptron, one step of one stream at a time."""
    out = _blank(x, core.width)
    for t, b in _steps(x):
        h = core.embed.weight @ x[t, b] + core.embed.bias
        for block in core.blocks:
            lifted = block.get_parameter("lift.weight") @ block.get_submodule("norm")(h)
            lifted = lifted + block.get_parameter("lift.bias")
            h = h + block.get_parameter("drop.weight") @ (lifted * lifted.sigmoid()) + block.get_parameter("drop.bias")
        out[t][b] = core.norm_out(h)
    return _stack(out)


_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _steps(x: Tensor) -> list[tuple[int, int]]:
    return [(t, b) for t in range(x.shape[0]) for b in range(x.shape[1])]


def _blank(x: Tensor, width: int) -> list[list[Tensor]]:
    return [[x.new_zeros(width) for _ in range(x.shape[1])] for _ in range(x.shape[0])]


def _stack(out: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row) for row in out])
