"""How large a memory can become, whatever it is fed: the proven bound of every leaf of every core's state.

What a core writes is bounded because it sees its input through a layer norm, whose output is at most
n = sqrt(W) max|gain| + |bias| long, so a linear row w, b of it stays within |w| n + |b|. Three lemmas do the rest:

*Delta rule.* With a unit key, alpha in [2/3, 1] and beta in [0, 1], one step d' = alpha d - beta (d k - u) k^T on a row
d has |d'|^2 <= alpha^2 |d|^2 + 4/3 beta u^2 (convexity; for alpha >= beta even without the 4/3). Keys that an adversary
turns away from what is stored come near that: |d_t| <= u sqrt(4 t / 3) after t steps, and u sqrt(4/3 / (1 - A^2)) if
alpha never exceeds A < 1. With the decay inside the error (gated delta) the same holds without 4/3, for any alpha.
Where alpha may be less than 2/3, |alpha I - beta k k^T| <= 1 still gives |d_t| <= t u. Steps beyond 1: Hope's fade and
take a share of their target, so that |d_t| <= u sqrt(t) (``delta_scan``); gated delta's may add up in step.

*Contraction.* A recurrence that shrinks what is there by at least A < 1 and adds at most w stays within w / (1 - A).

*Confinement.* What is shortened to a length where a chunk ends is no longer than that there.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nl_agents.memory.attention import AttentionCore
from nl_agents.memory.base import MemoryCore
from nl_agents.memory.cms import ContinuumMemory
from nl_agents.memory.diagonal import DiagonalCore
from nl_agents.memory.feed_forward import FeedForwardCore
from nl_agents.memory.gated_delta import GatedDeltaCore
from nl_agents.memory.hope import HopeCore
from nl_agents.memory.mlp import MlpCore
from nl_agents.memory.modify_core import SelfModifyingCore
from nl_agents.memory.recurrent import GruCore, LstmCore
from nl_agents.memory.sound import LARGEST
from nl_agents.memory.titans import TitansCore, largest_step


@torch.no_grad()
def state_bounds(core: MemoryCore, steps: int, largest_input: float) -> dict[str, float]:
    """Returns the largest absolute number that each leaf of a state may hold.

    Args:
        core: any core of the registry, with its weights as they are.
        steps: env steps since the memory was fresh, at an end of all chunks (a multiple of ``clock_period``).
        largest_input: of all |x|; what lies beyond ``LARGEST`` counts as that.

    Raises:
        NotImplementedError: a core that nobody has proven anything of.
    """
    for kind, prove in _PROOFS.items():
        if isinstance(core, kind):
            found: dict[str, float] = prove(core, steps, min(largest_input, LARGEST))
            return found
    raise NotImplementedError(f"no bound is known for a {type(core).__name__}: add its proof to {__name__}")


def _normal(norm: nn.LayerNorm) -> float:
    """Longest output of a layer norm."""
    return math.sqrt(norm.normalized_shape[0]) * float(norm.weight.abs().max()) + float(norm.bias.norm())


def _reach(weight: Tensor, bias: Tensor, length: float) -> Tensor:
    """Largest absolute outputs of linear rows [.., I] for inputs of a length."""
    reach: Tensor = weight.norm(dim=-1) * length + bias.abs()
    return reach


def _hope(core: HopeCore, steps: int, largest_input: float) -> dict[str, float]:
    memory, level = core.memory, core.fast
    target = 1.0 + float((memory.memory_0 + memory.residual).norm(dim=2).max())
    is_slow = float(memory.log_tau.min().exp()) >= 2.0 / math.log(1.5)  # alpha >= 2/3
    written = target * (math.sqrt(4.0 / 3.0 * steps) if is_slow else steps)  # |alpha I - beta k k^T| <= 1 all the same
    if memory.step_limit > 1.0:
        written = target * math.sqrt(steps)  # beta fades with alpha and takes a share of the target (``delta_scan``)
    keep = math.exp(-level.period * math.exp(-float(level.log_tau)))
    row = 1.0 + float(level.memory_0.norm(dim=1).max())
    deviation = row * math.sqrt(4.0 / 3.0 / (1.0 - keep**2)) if keep >= 2.0 / 3.0 else math.inf
    return {
        "delta": written,
        "anchor": written,
        "level_delta": deviation,
        "level_gradient": level.period * (row + deviation),
        "level_key": float(_reach(level.key.weight, level.key.bias, math.sqrt(core.width)).max()),
        "level_signal": float(level.omega.abs().sum(1).max()) * largest_input,
        "phase": core.clock_period - 1,
    }


def _cms(core: ContinuumMemory, steps: int, largest_input: float) -> dict[str, float]:
    gradient = radius = 0.0
    for block in core.fast:
        down = float(block.down_0.norm()) + float(block.radius)  # type: ignore[operator, arg-type]
        error = math.sqrt(core.size) + down
        period = int(block.period)  # type: ignore[arg-type]
        gradient = max(gradient, period * error * max(1.0, down / math.sqrt(core.size)))
        radius = float(block.radius)  # type: ignore[arg-type]
    return {
        "level_delta": radius,
        "level_gradient": gradient,
        "level_start": radius,
        "level_input": 1.0,
        "signal": float(core.omega.abs().sum(1).max()) * largest_input,
        "phase": core.clock_period - 1,
    }


def _decay(core: GatedDeltaCore | TitansCore, rows: slice, length: float) -> float:
    """A: the largest retention that the gate in these rows of ``mix`` can ask for."""
    weight, bias = core.mix.weight[rows], core.mix.bias[rows]
    least = torch.sigmoid(bias - weight.norm(dim=1) * length)
    return float(torch.exp(-2.0 * torch.exp(-core.log_tau) * least).max())


def _gated_delta(core: GatedDeltaCore, steps: int, largest_input: float) -> dict[str, float]:
    width, heads, length = core.width, core.heads, _normal(core.norm)
    values = _reach(core.mix.weight[2 * width : 3 * width], core.mix.bias[2 * width : 3 * width], length)
    keep = _decay(core, slice(4 * width + heads, 4 * width + 2 * heads), length)
    if core.step_limit > 1.0:  # values may add up in step
        longest = steps if keep == 1.0 else min(steps, 1.0 / (1.0 - keep))
        return {"memory": core.step_limit * float(values.max()) * longest}
    longest = steps if keep == 1.0 else min(steps, 1.0 / (1.0 - keep**2))
    return {"memory": float(values.max()) * math.sqrt(longest)}


def _titans(core: TitansCore, steps: int, largest_input: float) -> dict[str, float]:
    width, length, momentum, bound = core.width, _normal(core.norm), core.momentum, largest_step(core.momentum)
    size = slice(2 * width, 3 * width)
    value = float(_reach(core.mix.weight[size], core.mix.bias[size], length).max())
    weight = 1.0 / (1.0 - momentum)
    energy = momentum * weight**1.5  # c of ``largest_step``
    write = bound * value * math.sqrt(weight**2 + energy)
    keep = _decay(core, slice(4 * width, 4 * width + core.heads), length)
    chunks = steps / core.chunk + 1.0
    if core.chunk == 1 and keep < 1.0:  # for longer chunks nothing is proven but that the energy does not grow
        chunks = min(chunks, 1.0 / (1.0 - keep))
    memory = write * chunks * (1.0 + ((weight - 1.0) / math.sqrt(energy) if energy else 0.0))
    return {
        "memory": memory,
        "momentum": bound * (memory + value) * weight,
        "anchor": memory,
        "phase": core.clock_period - 1,
    }


def _attention(core: AttentionCore, steps: int, largest_input: float) -> dict[str, float]:
    told = float(_reach(core.mix.weight[2 * core.width :], core.mix.bias[2 * core.width :], _normal(core.norm)).max())
    return {"key": told, "value": told, "length": core.window}


def _diagonal(core: DiagonalCore, steps: int, largest_input: float) -> dict[str, float]:
    width, states = core.width, core.states
    reach = _reach(core.mix.weight, core.mix.bias, _normal(core.norm))
    drive = reach[:width, None] * reach[3 * width : 3 * width + states]
    delta = core.mix.weight[2 * width : 3 * width], core.mix.bias[2 * width : 3 * width]
    least = F.softplus(delta[1] - delta[0].norm(dim=1) * _normal(core.norm))
    slowest = torch.exp(-least[:, None] * torch.exp(-core.log_tau)).double()
    longest = ((1.0 + slowest) / (1.0 - slowest)).sqrt().clamp_max(steps)  # b <= drive, whatever a
    return {"hidden": float((longest * drive).max())}


def _modifying(core: SelfModifyingCore, steps: int, largest_input: float) -> dict[str, float]:
    rule, heads, key_size = core.rule, core.heads, core.key_size
    rows = [rule.radius * math.sqrt(columns) for _, columns in core.memory.shapes]
    answer = 1.0
    for layer, longest in zip(core.memory._base(), rows, strict=True):
        answer *= float((layer.norm(dim=-1) + longest).square().sum(-1).max().sqrt())
    error = 1.0 + math.sqrt(key_size) + answer
    told = 2 * heads * key_size
    content = float(_reach(core.mix.weight[:told], core.mix.bias[:told], _normal(core.norm)).max())
    return {
        "delta": max(rows),
        "momentum": 1.1 * rule.largest_step * error / (1.0 - rule.momentum),  # 1.1: the steepest slope of silu
        "anchor": max(rows),
        "past": content,
        "phase": core.clock_period - 1,
    }


_PROOFS: dict[type[MemoryCore], Any] = {
    HopeCore: _hope,
    ContinuumMemory: _cms,
    SelfModifyingCore: _modifying,
    GatedDeltaCore: _gated_delta,
    TitansCore: _titans,
    AttentionCore: _attention,
    DiagonalCore: _diagonal,
    LstmCore: lambda core, steps, largest_input: {"hidden": 1.0, "cell": float(steps)},  # |c'| <= |c| + 1
    GruCore: lambda core, steps, largest_input: {"hidden": 1.0},  # a mean of numbers within 1
    FeedForwardCore: lambda core, steps, largest_input: {"empty": 0.0},
    MlpCore: lambda core, steps, largest_input: {"empty": 0.0},
}
