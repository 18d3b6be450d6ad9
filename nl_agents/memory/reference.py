"""Slow, honest Hope, the judge of the fast forms: one stream, one step, one head at a time, from the equations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nl_agents.memory.continuum import ActTimeLevel
from nl_agents.memory.hope import HopeCore, HopeState
from nl_agents.memory.self_modifying import SelfModifyingMemory


def _unit(z: Tensor) -> Tensor:
    norm: Tensor = z.norm()
    return z / norm.clamp_min(1e-6)


def head_step(
    memory: SelfModifyingMemory, head: int, c: Tensor, q: Tensor, delta: Tensor, anchor: Tensor
) -> tuple[Tensor, Tensor]:
    """One valid step of one head: unit inputs c, q [K], memories [R, K] -> read-out [K] and the new deviation."""
    size = memory.key_size
    matrix_0 = memory.memory_0[head] + memory.residual
    projected = (matrix_0 + anchor) @ c
    k, v = _unit(projected[:size]), projected[size : 2 * size]
    step, retention = torch.sigmoid(projected[2 * size : 2 * size + 2] + memory.gate_bias[head])
    alpha = torch.exp(-2.0 / memory.log_tau[head].exp() * retention)
    z = (matrix_0 + anchor) @ v
    target = z / torch.sqrt(1.0 + z.square())
    running = matrix_0 + delta
    read = (running @ q)[2 * size + 2 :]
    step = memory.step_limit * step
    if memory.step_limit > 1.0:  # steps that may reflect: all of the written memory fades, not only what it was
        written = running - torch.outer(step * (running @ k) - torch.minimum(step, 2.0 - step) * target, k)
        return read, alpha * (written - matrix_0)
    return read, alpha * delta - step * torch.outer(running @ k - target, k)


def _faded(delta: Tensor, memory: SelfModifyingMemory) -> Tensor:
    """All rows but mem's, a chunk older."""
    cut = 2 * memory.key_size + 2
    return torch.cat((memory.fade * delta[:cut], delta[cut:]))


def memory_reference(
    memory: SelfModifyingMemory,
    x: Tensor,
    delta: Tensor,
    anchor: Tensor,
    is_first: Tensor,
    is_valid: Tensor,
    phase: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """One stream: x [T, width], memories [H, R, K], flags [T] -> read-out [T, width] and both memories."""
    heads, size = memory.heads, memory.key_size
    running, anchors = list(delta.unbind()), list(anchor.unbind())
    out = []
    for t in range(x.shape[0]):
        mixed = memory.mix(x[t])
        reads = []
        for head in range(heads):
            if is_first[t] and is_valid[t] and memory.clears[head]:
                running[head], anchors[head] = torch.zeros_like(running[head]), torch.zeros_like(running[head])
            c = _unit(mixed[head * size : (head + 1) * size])
            q = _unit(mixed[(heads + head) * size : (heads + head + 1) * size])
            read, written = head_step(memory, head, c, q, running[head], anchors[head])
            reads.append(F.layer_norm(read, (size,)))
            if is_valid[t]:
                running[head] = written
            if (phase + t + 1) % memory.chunk == 0:
                if is_valid[t]:
                    running[head] = _faded(running[head], memory)
                anchors[head] = running[head]
        out.append(memory.out(torch.cat(reads) * F.silu(mixed[2 * heads * size :])))
    return torch.stack(out), torch.stack(running), torch.stack(anchors)


def level_reference(
    level: ActTimeLevel,
    z: Tensor,
    x: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    is_first: Tensor,
    is_valid: Tensor,
    last_action: Tensor,
    phase: int,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """One stream of the act-time level: z [T, width], x [T, input], flags [T], actions [T, A]."""
    delta, gradient, key_before, signal_before = state
    out = []
    for t in range(z.shape[0]):
        if level.scope == "episode" and is_first[t] and is_valid[t]:
            delta, gradient = torch.zeros_like(delta), torch.zeros_like(gradient)
        raw, signal = level.key(F.layer_norm(z[t], z.shape[1:])), level.omega @ x[t].detach()
        push = level.action(last_action[t]) if level.action is not None else torch.zeros_like(raw)
        now, before = _unit(F.silu(raw + push)), _unit(F.silu(key_before + push))
        matrix = level.memory_0 + delta
        error = torch.tanh(level.gain * (signal - signal_before)) - matrix @ before
        if is_first[t] or not is_valid[t]:
            error = torch.zeros_like(error)
        out.append(z[t] + level.out(torch.cat((matrix @ now, error))))
        gradient = gradient + torch.outer(error, before)
        if is_valid[t]:
            key_before, signal_before = raw, signal
        if (phase + t + 1) % level.period == 0:
            keep = torch.exp(-level.period / level.log_tau.exp())
            delta = keep * delta + torch.sigmoid(level.rate_logit) / level.period * gradient
            gradient = torch.zeros_like(gradient)
    return torch.stack(out), (delta, gradient, key_before, signal_before)


def hope_reference(
    core: HopeCore, x: Tensor, state: HopeState, is_first: Tensor, is_valid: Tensor, last_action: Tensor
) -> tuple[Tensor, HopeState]:
    """The whole core on [T, B, *], stream by stream, each with a step clock of its own."""
    outs, states = [], []
    for b in range(x.shape[1]):
        phase = int(state.phase[b])
        h = core.embed(x[:, b])
        flags = is_first[:, b], is_valid[:, b]
        read, delta, anchor = memory_reference(
            core.memory, core.norm(h), state.delta[b].mT, state.anchor[b].mT, *flags, phase
        )
        level_state = (state.level_delta[b], state.level_gradient[b], state.level_key[b], state.level_signal[b])
        z, level_state = level_reference(core.fast, h + read, x[:, b], level_state, *flags, last_action[:, b], phase)
        for level in core.slow:
            z = level(z)
        clock = torch.tensor((phase + x.shape[0]) % core.clock_period)
        outs.append(core.norm_out(z))
        states.append(HopeState(delta.mT, anchor.mT, *level_state, clock))
    return torch.stack(outs, dim=1), HopeState(*(torch.stack(leaves) for leaves in zip(*states, strict=True)))
