"""Slow judges of the Titans memory, the windowed attention and the diagonal recurrence: stream by stream, step by step.

They share no code with the fast paths but the parameters. See ``reference_peers``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.attention import AttentionCore, AttentionState
from nl_agents.memory.diagonal import DiagonalCore, DiagonalState
from nl_agents.memory.titans import TitansCore, TitansState, largest_step


def titans_reference(
    core: TitansCore, x: Tensor, state: TitansState, is_first: Tensor, is_valid: Tensor
) -> tuple[Tensor, TitansState]:
    """Titans (Behrouz et al. 2025, Eqs. 9-14): S <- eta S - theta grad, then M <- (1 - alpha) M + S."""
    width, heads, size = core.width, core.heads, core.key_size
    outs, states = [], []
    for b in range(x.shape[1]):
        memory = [matrix.mT for matrix in state.memory[b]]  # values are rows here, as in the paper
        momentum = [matrix.mT for matrix in state.momentum[b]]
        anchor = [matrix.mT for matrix in state.anchor[b]]
        clock, out = int(state.phase[b]), []
        for t in range(x.shape[0]):
            valid = bool(is_valid[t, b])
            residual = core.embed(x[t, b] if valid else torch.zeros_like(x[t, b]))
            mixed = core.mix(core.norm(residual))
            reads = []
            for h in range(heads):
                if valid and is_first[t, b] and core.clears[h]:
                    memory[h], momentum[h] = torch.zeros_like(memory[h]), torch.zeros_like(memory[h])
                    anchor[h] = torch.zeros_like(anchor[h])
                at = memory[h] if core.chunk == 1 or clock == 0 else anchor[h]
                if core.chunk > 1:
                    anchor[h] = at
                q, k, v = (mixed[part * width + h * size : part * width + (h + 1) * size] for part in range(3))
                q, k = q / q.norm(), k / k.norm()
                forget, carry, write = (mixed[4 * width + part * heads + h].sigmoid() for part in range(3))
                kept = torch.exp(-2.0 / core.log_tau[h].exp() * forget)  # 1 - alpha
                eta = kept * core.momentum * carry
                theta = kept * largest_step(core.momentum) / core.chunk * write
                if valid:
                    gradient = torch.outer(at @ k - v, k)
                    momentum[h] = eta * momentum[h] - theta * gradient
                    memory[h] = kept * memory[h] + momentum[h]
                reads.append(core.norm_read(memory[h] @ q))
            read = torch.cat(reads) * F.silu(mixed[3 * width : 4 * width])
            out.append(core.norm_out(residual + core.out(read)))
            clock = (clock + 1) % core.chunk
            if clock == 0 and core.chunk > 1:
                anchor = list(memory)
        outs.append(torch.stack(out))
        ends = [torch.stack([matrix.mT for matrix in kind]) for kind in (memory, momentum, anchor)]
        states.append(TitansState(ends[0], ends[1], ends[2], torch.tensor(clock)))
    return torch.stack(outs, 1), TitansState(*(torch.stack(leaves) for leaves in zip(*states, strict=True)))


def attention_reference(
    core: AttentionCore, x: Tensor, state: AttentionState, is_first: Tensor, is_valid: Tensor
) -> tuple[Tensor, AttentionState]:
    """Attention over a list of past keys and values: one query, one head at a time."""
    width, size, groups = core.width, core.key_size, core.groups
    outs, states = [], []
    for b in range(x.shape[1]):
        filled = int(state.length[b])
        first = core.window - filled
        past = list(zip(state.key[b, first:], state.value[b, first:], strict=True))  # oldest first, each [G, K]
        out = []
        for t in range(x.shape[0]):
            if not is_valid[t, b]:
                out.append(x.new_zeros(width))  # nobody's business
                continue
            if is_first[t, b] and core.scope == "episode":
                past = []
            residual = core.embed(x[t, b])
            mixed = core.mix(core.norm(residual))
            key, value = mixed[2 * width :].view(2, groups, size)
            past.append((key, value))
            reads = []
            for h in range(core.heads):
                group, q = h * groups // core.heads, mixed[h * size : (h + 1) * size]
                scores = [
                    q @ k[group] / size**0.5 + core.bias[h, age]
                    for age, (k, _) in zip(range(len(past) - 1, -1, -1), past, strict=True)
                ]
                share = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
                reads.append(sum(weight * v[group] for weight, (_, v) in zip(share, past, strict=True)))
            past = past[-core.window :]
            read = torch.cat([torch.as_tensor(part) for part in reads]) * F.silu(mixed[width : 2 * width])
            out.append(core.norm_out(residual + core.out(read)))
        outs.append(torch.stack(out))
        empty = [torch.zeros_like(state.key[b, 0])] * (core.window - len(past))
        keys, values = (torch.stack(empty + [pair[kind] for pair in past]) for kind in (0, 1))
        states.append(AttentionState(keys, values, torch.tensor(len(past))))
    return torch.stack(outs, 1), AttentionState(*(torch.stack(leaves) for leaves in zip(*states, strict=True)))


def diagonal_reference(
    core: DiagonalCore, x: Tensor, state: DiagonalState, is_first: Tensor, is_valid: Tensor
) -> tuple[Tensor, DiagonalState]:
    """The recurrence h <- a h + sqrt(1 - a^2) B u, channel by channel."""
    width, states = core.width, core.states
    outs, ends = [], []
    for b in range(x.shape[1]):
        hidden, out = list(state.hidden[b]), []
        for t in range(x.shape[0]):
            valid = bool(is_valid[t, b])
            residual = core.embed(x[t, b] if valid else torch.zeros_like(x[t, b]))
            mixed = core.mix(core.norm(residual))
            into, out_of = mixed[3 * width : 3 * width + states], mixed[3 * width + states :]
            for channel in range(width) if valid else ():
                if is_first[t, b] and core.clears[channel]:
                    hidden[channel] = torch.zeros_like(hidden[channel])
                a = torch.exp(-F.softplus(mixed[2 * width + channel]) / core.log_tau[channel].exp())
                hidden[channel] = a * hidden[channel] + torch.sqrt(1.0 - a * a) * into * mixed[channel]
            read = torch.stack([numbers @ out_of for numbers in hidden])
            gate = F.silu(mixed[width : 2 * width])
            out.append(core.norm_out(residual + core.out(core.norm_read(read) * gate)))
        outs.append(torch.stack(out))
        ends.append(torch.stack(hidden))
    return torch.stack(outs, 1), DiagonalState(torch.stack(ends))
