"""The one contract of every memory core: state in, state out, time first.

A core maps a stream of features to a stream of read-outs and keeps a state a stream ("memory state"). Nothing learns
behind the caller's back: parameters change only by the learner, memory only through the returned state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from nl_agents.errors import StateMismatchError
from nl_agents.memory.options import whole
from nl_agents.types import LevelInfo

CLOCK = -1
"""Owner of the numbers of a state that belong to no level: step clocks, counts of filled slots."""

LONGEST_CLOCK = 2**24
"""Env steps; float32 holds every integer up to here."""


class MemoryCore(nn.Module, ABC):
    """Base of all memory cores.

    Laws (tests/memory/test_laws*.py run them over every registered core): a sequence equals its steps; it may be split
    anywhere; ``is_first`` equals a fresh state for every level of scope ``episode`` and leaks neither values nor
    gradients; streams do not touch each other; an invalid step leaves what is remembered as it was; train() equals
    eval(); what is not finite is gone after the reset that clears it.

    Attributes:
        direct: the core is the whole network: it reads the features themselves, with no encoder before it, and heads
            read its read-out alone.
        shared: leaves of the state that every level with state looks at, whoever owns them.
        solves: the core solves systems of equations, which no half precision does.
        input_size: features of ``x``.
        width: features of the read-out.
        action_size: features of ``last_action``, 0 where the core makes no use of it.
        clock_period: env steps after which the core's step clock (``phase``) returns to 0; 1 where it has none. A
            caller that always starts sequences at multiples of it may pass ``phase=0`` and spare a host
            synchronisation.
    """

    state_type: ClassVar[type[Any]]
    direct: ClassVar[bool] = False
    shared: ClassVar[tuple[str, ...]] = ()
    solves: ClassVar[bool] = False

    def __init__(self, input_size: int, width: int, action_size: int = 0, clock_period: int = 1) -> None:
        super().__init__()
        self.input_size = whole("input_size", input_size)
        self.width = whole("width", width)
        self.action_size = whole("action_size", action_size, 0)
        self.clock_period = whole("clock_period", clock_period)
        if self.clock_period > LONGEST_CLOCK:
            raise ValueError(
                f"the periods of a core may have {LONGEST_CLOCK:,} env steps in common at most, as clocks are kept "
                f"in float32, got {self.clock_period:,}; take periods that divide each other"
            )
        self._leaves: list[tuple[torch.Size, torch.dtype | None]] | None = None  # see _check_state

    def __call__(self, x: Any, *given: Any, **named: Any) -> Any:
        """``forward``, under autocast too in the precision of the parameters: half of it holds no long memory."""
        kind = x.device.type if isinstance(x, Tensor) else "cpu"
        if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return super().__call__(x, *given, **named)
        own = next(self.parameters()).dtype

        def raised(part: Any) -> Any:
            if isinstance(part, self.state_type):
                return type(part)(*map(raised, part))
            return part.to(own) if isinstance(part, Tensor) and part.is_floating_point() else part

        with torch.autocast(kind, enabled=False):
            return super().__call__(*map(raised, (x, *given)), **{name: raised(part) for name, part in named.items()})

    @abstractmethod
    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> Any:
        """Returns a newborn memory for ``batch_size`` streams: a NamedTuple of tensors, batch first, all zero."""

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        state: Any,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, Any]:
        """Reads and writes memory along a sequence.

        Args:
            x: features [T, B, input_size].
            state: memory before the first step, batch first.
            is_first: [T, B] bool, True on the first step of an episode; clears ``episode`` levels *before* the step.
            is_valid: [T, B] bool, False on dummy steps (NEXT_STEP autoreset, refused observations): nothing is
                written or cleared there, only step clocks go on. None means all valid.
            last_action: [T, B, action_size] float, the action taken at the previous step (one-hot where discrete);
                None is fed as zeros.
            phase: the step clock of all streams at the first step, where the caller knows it; None reads it from
                ``state`` (one host synchronisation on an accelerator).

        Returns:
            read-out [T, B, width] and the memory after the last step.
        """

    @torch.no_grad()
    def act(
        self,
        x: Tensor,
        state: Any,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, Any]:
        """``forward`` for who acts: no gradients, and ``state`` is given away (it may be overwritten; use it no more).

        Same numbers as ``forward`` to rounding. A core overrides it where copies of the memory or calls can be spared.
        """
        result: tuple[Tensor, Any] = self(x, state, is_first, is_valid, last_action, phase)
        return result

    @abstractmethod
    def levels(self) -> list[LevelInfo]:
        """Returns one row for each thing in the core that learns on a time scale of its own."""

    def state_levels(self) -> list[LevelInfo]:
        """Returns the rows of ``levels()`` that keep state a stream: those written in env steps."""
        return [row for row in self.levels() if row.unit == "env step"]

    def owners(self) -> Any:
        """Tells which level every number of the state belongs to.

        Returns:
            A state whose leaves are int64 [...] (shaped as one stream's): the index of the owner in ``state_levels()``,
            or ``CLOCK``. Here: one level owns all; of two, told apart by scope, each owns the heads or channels (the
            leaves' first axis) that ``clears`` gives it. A core of other levels says so itself.
        """
        rows = [row.scope for row in self.state_levels()]
        clears = getattr(self, "clears", None)
        own = torch.zeros(1, dtype=torch.int64)
        if len(rows) > 1 and sorted(rows) == ["episode", "never"] and isinstance(clears, Tensor):
            own = torch.where(clears.cpu(), rows.index("episode"), rows.index("never"))
        elif len(rows) > 1:
            raise NotImplementedError(f"{type(self).__name__} has {len(rows)} levels with state: override owners()")
        leaves = []
        for leaf in self.initial_state(1, device="cpu"):
            owner = torch.full(leaf.shape[1:], CLOCK if not (rows and leaf.is_floating_point()) else 0)
            if len(rows) > 1 and leaf.is_floating_point():
                owner += own.view(-1, *[1] * (owner.dim() - 1))
            leaves.append(owner)
        return self.state_type(*leaves)

    def matrices(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Tells which numbers of a state form matrices that every write changes by one of rank 1.

        Returns:
            Leaf -> (rows, columns) of the matrices that lie in it one after the other, again and again, row by row.
            Here: a leaf [B, ..., m, n] holds matrices of m x n. A core that keeps them otherwise says so itself.
        """
        leaves = self.initial_state(1, device="cpu")._asdict().items()
        return {name: (tuple(leaf.shape[-2:]),) for name, leaf in leaves if leaf.dim() > 2}

    def clock_marks(self) -> tuple[int, ...]:
        """Periods (env steps) at whose multiples the step clock makes the core write or anchor something.

        Between two marks an invalid step changes nothing but the clock. (1,): every step may be a mark.
        """
        return (1,)

    @property
    def state_size(self) -> int:
        """Floats a stream that ``pack`` returns."""
        return sum(leaf[0].numel() for leaf in self.initial_state(1, device="cpu"))

    def pack(self, state: Any) -> Tensor:
        """Flattens a state to one vector a stream [B, state_size]; ``unpack`` is its inverse.

        In the state's precision, float32 at least: clocks are kept exactly.
        """
        batch = state[0].shape[0]
        dtype = next((leaf.dtype for leaf in state if leaf.is_floating_point()), torch.get_default_dtype())
        dtype = torch.promote_types(dtype, torch.float32)
        return torch.cat([leaf.reshape(batch, -1).to(dtype) for leaf in state], dim=1)

    def unpack(self, vector: Tensor) -> Any:
        """Rebuilds the state from ``pack``'s vector [B, state_size]: a copy, which may be given away (``act``).

        Raises:
            StateMismatchError: if the vector has another width than ``state_size``.
        """
        if vector.dim() != 2 or vector.shape[1] != self.state_size:
            raise StateMismatchError(
                f"{type(self).__name__} expects packed states [B, {self.state_size}], got {tuple(vector.shape)}; "
                "it was packed by a core of other type or size"
            )
        template = self.initial_state(1, device="cpu")
        leaves, start = [], 0
        for leaf in template:
            size = leaf[0].numel()
            piece = vector[:, start : start + size].reshape(vector.shape[0], *leaf.shape[1:])
            if not leaf.is_floating_point():
                piece = piece.round()
            if not leaf.is_floating_point() or leaf.dtype.itemsize < 4:  # half precision was packed as float32
                piece = piece.to(leaf.dtype)
            leaves.append(piece.clone(memory_format=torch.contiguous_format))
            start += size
        return type(template)(*leaves)

    def check(
        self,
        x: Tensor,
        state: Any,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
    ) -> None:
        """Raises a clear error for a wrong width, axis order or type, or a state of another core or batch."""
        for name, given in (("x", x), ("is_first", is_first), ("is_valid", is_valid), ("last_action", last_action)):
            if not isinstance(given, Tensor) and (given is not None or name in ("x", "is_first")):
                raise TypeError(
                    f"{name} must be a tensor, got {type(given).__name__}; take torch.as_tensor({name}), and flags of "
                    "False for is_first where no episode begins"
                )
        if x.dim() != 3 or x.shape[2] != self.input_size or not (x.shape[0] and x.shape[1]):
            raise ValueError(
                f"x must be [T, B, {self.input_size}] (time first, T >= 1, B >= 1), got {tuple(x.shape)}; "
                "build the core with input_size equal to the features you feed"
            )
        for name, flags in (("is_first", is_first), ("is_valid", is_valid)):
            if flags is None:
                continue
            if flags.shape != x.shape[:2]:
                raise ValueError(
                    f"{name} must be [T, B] = {tuple(x.shape[:2])}, got {tuple(flags.shape)}; "
                    "one flag a step and stream, time first as in x"
                )
            if flags.dtype != torch.bool:
                raise TypeError(f"{name} must be bool, got {flags.dtype}; write {name}.bool()")
        if last_action is not None and self.action_size and last_action.shape != (*x.shape[:2], self.action_size):
            raise ValueError(
                f"last_action must be [T, B, {self.action_size}] with [T, B] = {tuple(x.shape[:2])}, got "
                f"{tuple(last_action.shape)}; discrete actions are fed one-hot, action_size is an option of the core"
            )
        self._check_state(state, x)

    def _check_state(self, state: Any, x: Tensor) -> None:
        if not isinstance(state, self.state_type):
            raise StateMismatchError(
                f"{type(self).__name__} expects a {self.state_type.__name__}, got {type(state).__name__}; "
                "start from core.initial_state(batch_size)"
            )
        if self._leaves is None:  # shapes without the batch; dtypes where they are not the core's precision
            fresh = self.initial_state(1, device="cpu")
            self._leaves = [(leaf.shape[1:], None if leaf.is_floating_point() else leaf.dtype) for leaf in fresh]
        own = x.dtype
        for name, leaf, (shape, dtype) in zip(self.state_type._fields, state, self._leaves, strict=True):
            if leaf.shape[:1] != x.shape[1:2]:
                raise StateMismatchError(
                    f"the state holds {leaf.shape[0]} streams and x has {x.shape[1]}; x is [T, B, D], time first"
                )
            if leaf.shape[1:] != shape:
                raise StateMismatchError(
                    f"{type(self).__name__} expects {name} of shape [B, {', '.join(map(str, shape))}], got "
                    f"{tuple(leaf.shape)}; the state is that of a core with other options: start from "
                    "core.initial_state(batch_size)"
                )
            if leaf.dtype != (dtype or own):
                self._refuse_dtype(name, leaf.dtype, dtype, own)
        if self.solves and own.itemsize < 4:
            raise TypeError(
                f"{type(self).__name__} does not run in {own}: keep the core in float32 and use torch.autocast for "
                "what stands around it; codecs keep states in fewer bytes (nl_agents.memory.make_codec)"
            )

    def _refuse_dtype(self, name: str, given: torch.dtype, dtype: torch.dtype | None, fed: torch.dtype) -> None:
        own = next(self.parameters()).dtype
        if dtype is None and fed != own:
            raise TypeError(f"x must be {own} as the core is, got {fed}; write x.to({own}), or move the core to {fed}")
        raise StateMismatchError(
            f"{type(self).__name__} expects {name} of {dtype or own}, got {given}; start from "
            "core.initial_state(batch_size), or cast the state"
        )

    def _fed(self, last_action: Tensor | None, x: Tensor) -> Tensor | None:
        """The last action in x's precision (one-hot integers too), or None where the core makes no use of it."""
        return None if last_action is None or not self.action_size else last_action.to(x.dtype)


class NoState(NamedTuple):
    """State of a core that remembers nothing (one empty leaf keeps the batch size)."""

    empty: Tensor
