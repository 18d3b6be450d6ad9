"""What a self-modifying memory is to do: the options of the paper, each removable, and how long a step may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nl_agents.memory.options import check_retention, whole
from nl_agents.memory.titans import largest_step

Form = Literal["linear", "mlp"]
Write = Literal["dgd", "gd"]
Objective = Literal["l2", "dot"]
Read = Literal["running", "anchor"]
NAMES = ("key", "value", "step", "retention", "query", "mem")


@dataclass(frozen=True)
class Rule:
    """The options of one self-modifying memory (Nested Learning, Eqs. 83-93 and Table 6).

    Attributes:
        memory: ``linear``, M(z) = z + W z, or ``mlp``, M(z) = z + W_1 silu(W_2 z) (Eqs. 89, 91).
        modifies: names of the memories that write themselves, ``mem`` among them; the others of ``NAMES`` stay as the
            learner made them.
        write: ``dgd``, delta gradient descent: erase along the key, then a gradient step (Eq. 88); ``gd``: the
            gradient step alone.
        objective: ``l2``, 1/2 |M(k) - vhat|^2 (Eq. 93), or ``dot``, -<M(k), vhat> (Eq. 92 with its sign mended).
        retention: whether memories fade, by alpha_t < 1.
        momentum: largest momentum g in [0, 1) (Titans' S_t); 0 is none.
        own_targets: vhat_b = bound(M_b(v)), the paper's, or the one shared bound(v).
        read: ``running``, from the memory as it is, or ``anchor``, as it was when the chunk began (Eq. 90).
        chunk: env steps for which ``mem`` stays anchored; 1 is the exact form.
        projection_chunk: the same for all other memories.
        step_limit: eta_max, in (0, 1]; None is the bound of ``step_bound``. Beyond it a rule may swing to and fro, with
            ``radius`` as its only hold; ``dgd`` with ``l2`` still does not grow up to 2 / (chunk + 1).
        radius: a row of a deviation with I entries is at most radius * sqrt(I) long where a chunk ends; infinite means
            that nothing bounds it.
    """

    memory: Form = "linear"
    modifies: tuple[str, ...] = ("key", "value", "step", "retention", "mem")
    write: Write = "dgd"
    objective: Objective = "l2"
    retention: bool = True
    momentum: float = 0.5
    own_targets: bool = True
    read: Read = "running"
    chunk: int = 8
    projection_chunk: int = 8
    step_limit: float | None = None
    radius: float = 4.0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("memory", ("linear", "mlp")),
            ("write", ("dgd", "gd")),
            ("objective", ("l2", "dot")),
            ("read", ("running", "anchor")),
        ):
            if getattr(self, name) not in allowed:
                expected = " or ".join(map(repr, allowed))
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")
        if set(self.modifies) - set(NAMES) or "mem" not in self.modifies:
            raise ValueError(f"modifies must name mem and may name {', '.join(NAMES[:-1])}; got {self.modifies}")
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        for name in ("chunk", "projection_chunk"):
            whole(name, getattr(self, name), 1, "env steps")
        if self.step_limit is not None and not 0.0 < self.step_limit <= 1.0:
            raise ValueError(f"step_limit must lie in (0, 1] or be None, got {self.step_limit}")
        if not self.radius > 0.0:
            raise ValueError(f"radius must be > 0, got {self.radius}")

    @property
    def largest_step(self) -> float:
        """The largest step size eta_max: eta_t = eta_max * sigmoid."""
        if self.step_limit is not None:
            return self.step_limit
        chunk = max(self.chunk, self.projection_chunk)
        is_proven = self.write == "gd" and self.objective == "l2"
        factor = largest_step(self.momentum) if is_proven else 1.0 - self.momentum
        return step_bound(self.write, self.objective, chunk) * factor


def step_bound(write: Write, objective: Objective, chunk: int) -> float:
    """Returns the largest step size eta_max under which the linear rule, without its targets, makes no matrix longer.

    With unit keys, anchor M_a = M where the chunk of C steps began, and A_t = alpha_t I - eta_t k_t k_t^T:

    * ``dgd`` with ``dot``: M_C = M_a A_1 ... A_C + targets, and |A_t| <= 1 for eta_t <= 1, whatever C.
    * ``gd`` with ``dot``: M_C = alpha_1 ... alpha_C M_a + targets; eta_t <= 1 bounds a target's weight.
    * ``gd`` with ``l2``, alpha = 1: M_C = M_a (I - sum eta_t k_t k_t^T) + targets. A repeated key demands
      C eta <= 1 (beyond it the memory swings to the other side), and then the bracket lies between 0 and I for all
      keys.
    * ``dgd`` with ``l2``, alpha = 1: the gradients at M_a telescope, M_C = M_a (2 A_1 ... A_C - I) + targets. A
      repeated key gives 2 (1 - eta)^C - 1 >= 0 for eta <= 1 - 2^(-1/C). For any keys, a product of averaged maps A_t
      (constants eta_t / 2) is firmly non-expansive, hence the bracket no longer than 1, if
      sum eta_t / (2 - eta_t) <= 1: true up to 2 / (C + 1) >= 1 - 2^(-1/C).

    Either ``l2`` bracket is affine in each alpha_t, so its length is largest at alphas of 0 and 1; where the last 0
    stands at step j, the remaining terms are at most 2 eta + (C - j) eta <= 1 long.

    Momentum g lets a constant gradient do up to 1 / (1 - g) of its work in the end, so ``Rule.largest_step`` takes
    1 - g times this bound, and for ``gd`` with ``l2`` the smaller ``titans.largest_step(g)``, which is proven; for
    ``dgd`` with momentum nothing is.

    Not growing by itself is not yet bounded: keys chosen by an adversary let targets add up as a random walk, and
    hidden units make the rule non-linear. What bounds every variant is ``modify_layer.confine``.
    """
    if objective == "dot":
        return 1.0
    return 1.0 / chunk if write == "gd" else 1.0 - math.pow(2.0, -1.0 / chunk)


def check_sizes(
    scope: str, heads: int, key_size: int, window: int, expansion: float, retention: tuple[float, float]
) -> None:
    """Raises ValueError, saying what was expected, for a core's options that are not the rule's."""
    if scope not in ("episode", "never", "split"):
        raise ValueError(f"scope must be 'episode', 'never' or 'split', got {scope!r}")
    for name, value, least in (("heads", heads, 1), ("key_size", key_size, 1), ("window", window, 0)):
        whole(name, value, least)
    if round(expansion * key_size) < 1:
        raise ValueError(f"expansion must give at least one hidden unit, got {expansion} of {key_size}")
    check_retention(retention)
