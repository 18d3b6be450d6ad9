"""Compressed memory state: one small interface, encode [B, S] -> bytes [B, N] -> decode.

A stream's memory is worth keeping: replay stores one with every chunk, a server one for every user. A codec says how
many bytes that takes and how far what is read back may lie from what was stored. The forms: ``float32`` (exact),
``bf16``, ``int8`` (block-quantised) and ``low-rank`` (per matrix).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from nl_agents.errors import NonFiniteError, StateMismatchError
from nl_agents.memory.state_layout import StateLayout, StatePiece


class Form(NamedTuple):
    """One tensor of a stream's code: dtype and shape."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes a stream."""
        return math.prod(self.shape) * self.dtype.itemsize


class StateCodec(ABC):
    """Stores packed states in fewer bytes.

    Counters (step clocks) are kept exactly by every codec, and a fresh state (all zero) is read back as all zero. What
    the layout leaves out is read back as 0.

    Args:
        layout: what the packed vector is made of.

    Attributes:
        name: how options call it, with its parameters.
    """

    name: str
    bound: ClassVar[str]
    """The error bound in words; ``error_bound`` gives it in numbers."""

    def __init__(self, layout: StateLayout) -> None:
        self.layout = layout
        self._forms = [self._plan(piece) for piece in layout.pieces]

    @property
    def bytes_per_stream(self) -> int:
        """N, bytes of one stream's code."""
        return 4 * len(self.layout.counters) + sum(form.bytes for forms in self._forms for form in forms)

    def encode(self, packed: Tensor) -> Tensor:
        """Returns the code, uint8 [B, N], of packed states [B, S].

        Raises:
            StateMismatchError: states of another size.
            NonFiniteError: a state holds NaN or infinity; the text says which streams and which part.
        """
        if packed.dim() != 2 or packed.shape[1] != self.layout.size:
            raise StateMismatchError(
                f"codec {self.name} of a {self.layout.core} expects packed states [B, {self.layout.size}], got "
                f"{tuple(packed.shape)}; build the codec from the core that packed them"
            )
        packed = packed.to(torch.float32)
        self._refuse_non_finite(packed)
        parts = [packed[:, self.layout.counters.to(packed.device)]]
        for piece in self.layout.pieces:
            parts += self._write(piece, packed[:, piece.columns.to(packed.device)])
        return torch.cat([part.reshape(len(packed), -1).contiguous().view(torch.uint8) for part in parts], dim=1)

    def decode(self, code: Tensor) -> Tensor:
        """Returns packed states, float32 [B, S], from their code [B, N].

        Raises:
            StateMismatchError: not a code of this codec and core.
        """
        if code.dim() != 2 or code.shape[1] != self.bytes_per_stream or code.dtype != torch.uint8:
            raise StateMismatchError(
                f"codec {self.name} of a {self.layout.core} expects codes uint8 [B, {self.bytes_per_stream}], got "
                f"{code.dtype} {tuple(code.shape)}; decode with the codec that encoded"
            )
        packed = torch.zeros(len(code), self.layout.size, device=code.device)
        counters, start = self.layout.counters, 4 * len(self.layout.counters)
        packed[:, counters.to(code.device)] = _read(code[:, :start], Form(torch.float32, (len(counters),)))
        for piece, forms in zip(self.layout.pieces, self._forms, strict=True):
            parts = []
            for form in forms:
                parts.append(_read(code[:, start : start + form.bytes], form))
                start += form.bytes
            packed[:, piece.columns.to(code.device)] = self._read(piece, parts)
        return packed

    def error_bound(self, packed: Tensor) -> Tensor:
        """Returns the largest possible distance between ``decode(encode(packed))`` and packed, number by number [B, S].

        Columns that the layout leaves out are off by their own size.
        """
        packed = packed.to(torch.float32)
        bound = packed.abs()
        bound[:, self.layout.counters.to(packed.device)] = 0.0
        for piece in self.layout.pieces:
            columns = piece.columns.to(packed.device)
            bound[:, columns] = self._bound(piece, packed[:, columns])
        return bound

    def _refuse_non_finite(self, packed: Tensor) -> None:
        finite = torch.isfinite(packed)
        if bool(finite.all()):
            return
        streams = torch.nonzero(~finite.all(dim=1)).squeeze(1).tolist()
        parts = [piece.name for piece in self.layout.pieces if not finite[:, piece.columns.to(packed.device)].all()]
        raise NonFiniteError(
            f"the memory of stream{'s' * (len(streams) > 1)} {', '.join(map(str, streams[:8]))} is not finite (in "
            f"{', '.join(parts) or 'a counter or a part left out'}) and was not stored; give such streams a newborn "
            "memory, or go back to a checkpoint"
        )

    @abstractmethod
    def _plan(self, piece: StatePiece) -> list[Form]:
        """The tensors that a piece becomes."""

    @abstractmethod
    def _write(self, piece: StatePiece, values: Tensor) -> list[Tensor]:
        """Codes values [B, n]; returns tensors [B, *shape] as planned."""

    @abstractmethod
    def _read(self, piece: StatePiece, parts: list[Tensor]) -> Tensor:
        """Reads values [B, n] back."""

    @abstractmethod
    def _bound(self, piece: StatePiece, values: Tensor) -> Tensor:
        """The error bound of values [B, n]."""


def _read(code: Tensor, form: Form) -> Tensor:
    """Bytes [B, form.bytes] as a tensor [B, *shape]."""
    if form.bytes == 0:
        return torch.zeros(len(code), *form.shape, dtype=form.dtype, device=code.device)
    fresh = code.clone(memory_format=torch.contiguous_format)  # a storage of its own: aligned for every dtype
    return fresh.view(form.dtype).view(len(code), *form.shape)


class Float32Codec(StateCodec):
    """Every number as it is: 4 bytes, no error."""

    bound = "0"

    def __init__(self, layout: StateLayout) -> None:
        self.name = "float32"
        super().__init__(layout)

    def _plan(self, piece: StatePiece) -> list[Form]:
        return [Form(torch.float32, (len(piece.columns),))]

    def _write(self, piece: StatePiece, values: Tensor) -> list[Tensor]:
        return [values]

    def _read(self, piece: StatePiece, parts: list[Tensor]) -> Tensor:
        return parts[0]

    def _bound(self, piece: StatePiece, values: Tensor) -> Tensor:
        return torch.zeros_like(values)


class Bf16Codec(StateCodec):
    """Every number with 8 significant bits and float32's exponent: 2 bytes, off by at most 2^-8 of itself."""

    bound = "2^-8 |x|"

    def __init__(self, layout: StateLayout) -> None:
        self.name = "bf16"
        super().__init__(layout)

    def _plan(self, piece: StatePiece) -> list[Form]:
        return [Form(torch.bfloat16, (len(piece.columns),))]

    def _write(self, piece: StatePiece, values: Tensor) -> list[Tensor]:
        largest = torch.finfo(torch.bfloat16).max
        return [values.clamp(-largest, largest).to(torch.bfloat16)]

    def _read(self, piece: StatePiece, parts: list[Tensor]) -> Tensor:
        return parts[0].to(torch.float32)

    def _bound(self, piece: StatePiece, values: Tensor) -> Tensor:
        return values.abs() * 2.0**-8 + torch.finfo(torch.float32).tiny


class Int8Codec(StateCodec):
    """Blocks of numbers on a common scale: q = round(x / s), s = max |block| / 127; 1 byte a number, 4 a block.

    Off by at most s / 2. A block that holds one large number knows little of its small ones.

    Args:
        layout: what the packed vector is made of.
        block: numbers that share a scale, >= 1.
    """

    bound = "max |block| / 254"

    def __init__(self, layout: StateLayout, block: int) -> None:
        self.name, self.block = f"int8:{block}", block
        super().__init__(layout)

    def _plan(self, piece: StatePiece) -> list[Form]:
        count = len(piece.columns)
        return [Form(torch.int8, (count,)), Form(torch.float32, (math.ceil(count / self.block),))]

    def _write(self, piece: StatePiece, values: Tensor) -> list[Tensor]:
        scale = self._scale(values)
        steps = self._blocks(values) / scale.unsqueeze(-1).clamp_min(torch.finfo(torch.float32).tiny)
        codes = steps.round().clamp(-127, 127).to(torch.int8)
        return [codes.flatten(1)[:, : values.shape[1]], scale]

    def _read(self, piece: StatePiece, parts: list[Tensor]) -> Tensor:
        codes, scale = parts
        largest = torch.finfo(torch.float32).max
        values = (self._blocks(codes.to(torch.float32)) * scale.unsqueeze(-1)).clamp(-largest, largest)
        return values.flatten(1)[:, : codes.shape[1]]

    def _bound(self, piece: StatePiece, values: Tensor) -> Tensor:
        bound = self._scale(values) * (0.5 + 1e-4) + 128 * torch.finfo(torch.float32).tiny
        return bound.repeat_interleave(self.block, dim=1)[:, : values.shape[1]]

    def _scale(self, values: Tensor) -> Tensor:
        """[B, blocks] size of one step."""
        return self._blocks(values).abs().amax(dim=-1) / 127.0

    def _blocks(self, values: Tensor) -> Tensor:
        """[B, n] -> [B, blocks, block], the last one filled up with zeros."""
        missing = -values.shape[1] % self.block
        return torch.nn.functional.pad(values, (0, missing)).view(len(values), -1, self.block)
