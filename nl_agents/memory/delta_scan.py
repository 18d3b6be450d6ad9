"""The chunk-parallel scan of the self-modifying linear memory, with a backward derived by hand.

One head of one stream keeps a matrix of R = 3K + 2 rows and K columns, in blocks of rows

    key [K] · value [K] · step [1] · retention [1] · mem [K],          M = M_0 + Delta

where M_0 is meta-learned and Delta is the stream's own (all zero = fresh). The residual of the paper's memories,
M(z) = z + W z, is part of M_0: the caller adds an identity to its key, value and mem blocks. Inside a chunk,
projections use the anchor Delta_a = Delta at the chunk's start (Nested Learning, Eq. 90); the write corrects the
*running* memory:

    k_t = norm(M_key c_t)      v_t = M_value c_t      beta_t = sigmoid(M_step c_t + b_step)
    log alpha_t = -(2/tau) sigmoid(M_retention c_t + b_retention)
    vhat_t = bound(M v_t), bound(z) = z / sqrt(1 + z^2)                self-generated targets, all rows (Eq. 84)
    o_t = Delta_mem,t-1 q_t                                            read before write (Eq. 83; static part outside)
    Delta_t = alpha_t Delta_t-1 - beta_t (Delta_t-1 k_t - u_t) k_t^T,  u_t = vhat_t - M_0 k_t          (Eqs. 88, 93)

All rows share key, step and retention, so one unit-triangular solve a chunk serves them all (the WY form of the delta
rule): with g = cumsum(log alpha), D_tj = exp(g_t-1 - g_j) for j < t in the same episode, e_t = exp(g_t-1) before the
first reset and 0 after it,

    (I + diag(beta) D * K K^T) W = diag(beta) (U - e * K Delta_0^T),    O = e * Q Delta_0^T + (D * Q K^T) W_mem.

Steps that reflect. With a largest step L other than 1, beta_t = L sigmoid(..). Beyond 1 a write turns the answer at its
key round instead of erasing it, M k -> (1 - beta) M k: the negative eigenvalue that finite-state tracking in one linear
step needs (Grazzi et al. 2024, arXiv 2411.12537). So that nothing grows, L > 1 writes

    Delta_t = alpha_t (M+ - M_0),   M+ = M_t-1 - (beta_t M_t-1 k_t - min(beta_t, 2 - beta_t) vhat_t) k_t^T,

which is the rule above with step alpha_t beta_t and the share min(1, 2 / beta_t - 1) of the target. One write then
lengthens a row by |row M+|^2 <= |row M|^2 + 1 at most (|vhat| < 1), hence after t writes of retention <= alpha

    |row M_t|^2 <= |row M_0|^2 + min(t, alpha / (1 - alpha)),   and a lone key's answers stay within max(|M_0 k|, 1).

With the whole target, signs that alternate would add 2 a step. Steps beyond 2 grow by themselves: they are refused.

Differs from the paper: retention acts on Delta only; the error is that of the running memory (the paper's
stale-gradient form diverges for long chunks); targets are bounded, row by row; the step and retention memories are one
row each.

Layout: N = H * B rows of work, head-major, time second: [N, T, K].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Piece(NamedTuple):
    """A stretch of steps [start, stop) inside one chunk; ``closes`` if the chunk ends with it."""

    start: int
    stop: int
    closes: bool


def pieces(steps: int, period: int, phase: int) -> list[Piece]:
    """Cuts ``steps`` into stretches that end at multiples of ``period`` of a clock that stands at ``phase``."""
    cut, start = [], 0
    while start < steps:
        stop = min(steps, start + period - (phase + start) % period)
        cut.append(Piece(start, stop, (phase + stop) % period == 0))
        start = stop
    return cut


class _Saved(NamedTuple):
    """What one piece keeps for its backward."""

    k: Tensor  # [N, C, K] unit keys
    key_norm: Tensor  # [N, C, 1]
    v: Tensor  # [N, C, K]
    gate: Tensor  # [N, C, 2] sigmoid of step and retention
    beta: Tensor  # [N, C, 1] step size, 0 at invalid steps
    share: Tensor | None  # [N, C, 1] of the target that is written; None where steps cannot reflect
    target: Tensor | None  # [N, C, R] the target before that; None there too
    slope: Tensor  # [N, C, R] 1 / sqrt(1 + z^2), z = M v
    error: Tensor  # [N, C, R] u - e * K Delta^T
    k_delta: Tensor  # [N, C, R]
    q_delta: Tensor  # [N, C, K]
    decay: Tensor  # [N, C, C] D
    kk: Tensor  # [N, C, C] D * K K^T
    qk: Tensor  # [N, C, C] D * Q K^T
    lower: Tensor  # [N, C, C] strictly lower part of the solve's matrix
    w: Tensor  # [N, C, R]
    before: Tensor  # [N, C, 1] e
    after: Tensor  # [N, C, 1] f_j = decay from j to the end of the piece, last episode only
    keep: Tensor  # [N, 1, 1] decay of Delta over the piece, 0 after a reset
    head: Tensor  # [N, C, 1] 1 before the first reset
    delta: Tensor  # [N, R, K] at the start
    anchor: Tensor  # [N, R, K]


def _by_head(z: Tensor, matrix: Tensor) -> Tensor:
    """Applies a matrix a head [H, R, K] to z [H * B, C, K]; returns [H * B, C, R]."""
    heads, rows, width = matrix.shape
    return torch.bmm(z.reshape(heads, -1, width), matrix.mT).view(z.shape[0], z.shape[1], rows)


def _by_head_adjoint(grad: Tensor, matrix: Tensor) -> Tensor:
    """Adjoint of ``_by_head`` in z: grad [H * B, C, R] -> [H * B, C, K]."""
    heads, rows, width = matrix.shape
    return torch.bmm(grad.reshape(heads, -1, rows), matrix).view(grad.shape[0], grad.shape[1], width)


class SelfModifyingScan(torch.autograd.Function):
    """See the module's docstring. Gradients flow to every tensor input but ``valid`` and ``segment``."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        c: Tensor,  # [N, T, K] unit-norm inputs
        q: Tensor,  # [N, T, K] unit-norm queries
        memory_0: Tensor,  # [H, R, K]
        bias: Tensor,  # [H, 2] b_step, b_retention
        rate: Tensor,  # [H] 2 / tau
        delta: Tensor,  # [N, R, K]
        anchor: Tensor,  # [N, R, K]
        valid: Tensor,  # [N, T, 1] float 0/1
        segment: Tensor,  # [N, T] float, number of resets up to and including t
        cut: list[Piece],
        limit: float = 1.0,  # largest step size, in (0, 2]
    ) -> tuple[Tensor, Tensor, Tensor]:
        heads, _, width = memory_0.shape
        count = c.shape[0]
        two = 2 * width + 2
        static = _by_head(c, memory_0[:, :two])  # [N, T, 2K+2]
        static.view(heads, -1, two)[..., 2 * width :] += bias[:, None]
        head_rate = rate.repeat_interleave(count // heads)[:, None]  # [N, 1]
        o = torch.empty_like(q)
        saved: list[_Saved] = []
        start_segment = segment.new_zeros(count, 1)
        for start, stop, closes in cut:
            length = stop - start
            q_p, ok, seg = q[:, start:stop], valid[:, start:stop], segment[:, start:stop]
            head = (seg == start_segment).unsqueeze(-1).to(c.dtype)
            p = torch.baddbmm(static[:, start:stop], c[:, start:stop] * head, anchor[:, :two].mT)
            key_norm = p[..., :width].norm(dim=-1, keepdim=True).clamp_min_(1e-6)
            k = p[..., :width] / key_norm
            v = p[..., width : 2 * width]
            gate = torch.sigmoid(p[..., 2 * width :])
            beta = gate[..., :1] * ok
            if limit != 1.0:
                beta = limit * beta
            log_alpha = gate[..., 1] * ok[..., 0] * -head_rate
            z = torch.baddbmm(_by_head(v, memory_0), v * head, anchor.mT)
            slope = (z * z).add_(1.0).rsqrt_()
            share = target = None
            if limit > 1.0:
                share, target = (2.0 / beta - 1.0).clamp_max_(1.0), z * slope
                beta = beta * log_alpha.exp().unsqueeze(-1)
                error = torch.addcmul(-_by_head(k, memory_0), target, share)
            else:
                error = torch.addcmul(-_by_head(k, memory_0), z, slope)
            decay_sum = log_alpha.cumsum(1)
            decay_prev = decay_sum - log_alpha
            k_delta = torch.bmm(k, delta.mT)
            q_delta = torch.bmm(q_p, delta[:, two:].mT)
            before = decay_prev.exp().unsqueeze(-1) * head
            error.addcmul_(before, k_delta, value=-1.0)
            if length > 1:
                same = (seg.unsqueeze(2) == seg.unsqueeze(1)).tril_(-1)
                decay = (decay_prev.unsqueeze(2) - decay_sum.unsqueeze(1)).masked_fill_(~same, -torch.inf).exp_()
                kk = torch.bmm(k, k.mT).mul_(decay)
                qk = torch.bmm(q_p, k.mT).mul_(decay)
                lower = kk * beta
                w = torch.linalg.solve_triangular(lower, error * beta, upper=False, unitriangular=True)
                o[:, start:stop] = torch.baddbmm(before * q_delta, qk, w[..., two:])
            else:
                decay = kk = qk = lower = k.new_zeros(count, 1, 1)  # a lone step has no earlier one in its piece
                w = error * beta
                o[:, start:stop] = before * q_delta
            last = seg == seg[:, -1:]
            after = ((decay_sum[:, -1:] - decay_sum).exp_() * last).unsqueeze(-1)
            keep = (decay_sum[:, -1:].exp() * (seg[:, -1:] == start_segment)).unsqueeze(-1)
            saved.append(
                _Saved(
                    k,
                    key_norm,
                    v,
                    gate,
                    beta,
                    share,
                    target,
                    slope,
                    error,
                    k_delta,
                    q_delta,
                    decay,
                    kk,
                    qk,
                    lower,
                    w,
                    before,
                    after,
                    keep,
                    head,
                    delta,
                    anchor,
                )
            )
            delta = torch.baddbmm(delta * keep, (w * after).mT, k)
            anchor = delta if closes else anchor * (seg[:, -1:] == start_segment).unsqueeze(-1).to(c.dtype)
            start_segment = seg[:, -1:]
        ctx.save_for_backward(c, q, memory_0, rate, valid)
        ctx.saved, ctx.cut, ctx.limit = saved, cut, limit
        return o, delta, anchor

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_o: Tensor, grad_delta: Tensor, grad_anchor: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        c, q, memory_0, rate, valid = ctx.saved_tensors
        heads, rows, width = memory_0.shape
        count = c.shape[0]
        two = 2 * width + 2
        head_rate = rate.repeat_interleave(count // heads)[:, None]
        grad_q, grad_p = torch.empty_like(q), c.new_empty(count, c.shape[1], two)
        grad_c = torch.empty_like(c)
        grad_memory = torch.zeros_like(memory_0)
        grad_rate = torch.zeros_like(head_rate)
        for (start, stop, closes), s in zip(reversed(ctx.cut), reversed(ctx.saved), strict=True):
            go, ok, q_p = grad_o[:, start:stop], valid[:, start:stop], q[:, start:stop]
            beta = s.beta
            # the state handed on: Delta' = keep * Delta + (after * W)^T K, and the anchor's copy
            if closes:
                grad_delta = grad_delta + grad_anchor
                grad_anchor = torch.zeros_like(grad_anchor)
            else:
                grad_anchor = grad_anchor * s.head[:, -1:]
            weighted = s.w * s.after
            grad_weighted = torch.bmm(s.k, grad_delta.mT)
            grad_k = torch.bmm(weighted, grad_delta)
            decay_flow = (grad_weighted * weighted).sum(-1)  # [N, C], of log after
            grad_sum = -decay_flow  # of decay_sum
            grad_sum[:, -1] += decay_flow.sum(1) + (grad_delta * s.delta).sum((1, 2)) * s.keep[:, 0, 0]
            grad_w = grad_weighted.mul_(s.after)
            grad_delta = grad_delta * s.keep
            # the read: O = before * Q Delta_mem^T + (D * Q K^T) W_mem
            grad_read = go * s.before
            grad_log_before = (grad_read * s.q_delta).sum(-1)
            gq = torch.bmm(grad_read, s.delta[:, two:])
            grad_delta[:, two:] += torch.bmm(grad_read.mT, q_p)
            alone = stop - start == 1
            if alone:
                grad_y = grad_w
            else:
                grad_qk = torch.bmm(go, s.w[..., two:].mT)
                grad_w[..., two:] += torch.bmm(s.qk.mT, go)
                grad_decay = grad_qk * s.qk  # of log D
                grad_qk.mul_(s.decay)
                gq.baddbmm_(grad_qk, s.k)
                grad_k.baddbmm_(grad_qk.mT, q_p)
                # the solve: (I + beta D K K^T) W = beta * error
                grad_y = torch.linalg.solve_triangular(s.lower.mT, grad_w, upper=True, unitriangular=True)
                grad_lower = torch.bmm(grad_y, s.w.mT).neg_()
            grad_q[:, start:stop] = gq
            grad_beta = (grad_y * s.error).sum(-1, keepdim=True)
            grad_error = grad_y * beta
            if not alone:
                flow = grad_lower * s.kk
                grad_beta += flow.sum(-1, keepdim=True)
                grad_decay.addcmul_(flow, beta)
                grad_lower.mul_(s.decay).mul_(beta)
                grad_k.baddbmm_(grad_lower + grad_lower.mT, s.k)
                grad_sum -= grad_decay.sum(1)
                grad_prev = grad_decay.sum(2)
            else:
                grad_prev = torch.zeros_like(grad_sum)
            grad_k_delta = grad_error * -s.before
            grad_log_before += (grad_k_delta * s.k_delta).sum(-1)
            grad_prev += grad_log_before
            grad_k.baddbmm_(grad_k_delta, s.delta)
            grad_delta.baddbmm_(grad_k_delta.mT, s.k)
            # error = vhat - M_0 k (the running part was taken off above)
            grad_k -= _by_head_adjoint(grad_error, memory_0)
            # vhat = bound(M_0 v + Delta_a v), a share of it where the step reflects
            grad_z = grad_error * s.slope.pow(3)
            if s.share is not None:
                grad_z *= s.share
            lifted = s.v * s.head
            grad_v = torch.bmm(grad_z, s.anchor).mul_(s.head)
            grad_v += _by_head_adjoint(grad_z, memory_0)
            grad_anchor = torch.baddbmm(grad_anchor, grad_z.mT, lifted)
            grad_memory += torch.bmm(grad_z.reshape(heads, -1, rows).mT, s.v.reshape(heads, -1, width))
            grad_memory -= torch.bmm(grad_error.reshape(heads, -1, rows).mT, s.k.reshape(heads, -1, width))
            # projections p = M_0 c + Delta_a c + bias
            gp = grad_p[:, start:stop]
            gp[..., :width] = (grad_k - s.k * (grad_k * s.k).sum(-1, keepdim=True)) / s.key_norm
            gp[..., width : 2 * width] = grad_v
            # decay_prev_t sums log alpha over i < t, decay_sum_t over i <= t
            grad_log_alpha = (grad_sum + grad_prev).flip(1).cumsum(1).flip(1) - grad_prev
            slope = s.gate * (1 - s.gate)
            if s.share is not None and s.target is not None:  # beta = alpha limit sigma, share = 2 / (limit sigma) - 1
                flow = grad_beta * beta  # of log beta
                grad_log_alpha += flow[..., 0]
                fall = (grad_error * s.target).sum(-1, keepdim=True) * (1 + s.share) * (s.share < 1)
                gp[..., 2 * width] = ((flow - fall) * ok * (1 - s.gate[..., :1]))[..., 0]
            else:
                gp[..., 2 * width] = (grad_beta * ok)[..., 0] * slope[..., 0] * ctx.limit
            grad_log_alpha *= ok[..., 0]
            grad_rate -= (grad_log_alpha * s.gate[..., 1]).sum(1, keepdim=True)
            gp[..., 2 * width + 1] = grad_log_alpha * -head_rate * slope[..., 1]
            c_p = c[:, start:stop] * s.head
            grad_c[:, start:stop] = torch.bmm(gp, s.anchor[:, :two]).mul_(s.head)
            grad_anchor[:, :two] += torch.bmm(gp.mT, c_p)
        grad_c += _by_head_adjoint(grad_p, memory_0[:, :two])
        by_head = grad_p.view(heads, -1, two)
        grad_memory[:, :two] += torch.bmm(by_head.mT, c.reshape(heads, -1, width))
        grad_bias = by_head[..., 2 * width :].sum(1)
        return (
            grad_c, grad_q, grad_memory, grad_bias, grad_rate.view(heads, -1).sum(1),
            grad_delta, grad_anchor, None, None, None, None,
        )  # fmt: skip
