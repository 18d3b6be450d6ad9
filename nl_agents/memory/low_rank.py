"""Low-rank storage of a memory's matrices: the r directions that matter, by singular value decomposition."""

from __future__ import annotations

import torch
from torch import Tensor

from nl_agents.errors import ConfigError, NonFiniteError
from nl_agents.memory.state_codec import Form, StateCodec
from nl_agents.memory.state_layout import StateLayout, StatePiece

LARGEST = 1e36
"""Numbers beyond this are refused like infinities: sums of their products would be."""


class LowRankCodec(StateCodec):
    """Each matrix M [m, n] as two factors: M ~ U_r (U_r^T M), 4 r (m + n) bytes instead of 4 m n.

    U_r are the singular vectors of its r largest singular values (those of the shorter side: M V_r V_r^T where m > n).

    By Eckart and Young (1936) no matrix of rank r lies nearer; what is read back is off, in every number, by at most
    the first singular value that was dropped. Matrices (``MemoryCore.matrices``) written w times since they were fresh
    have rank w at most. Vectors, and matrices that the factors would not make smaller, are kept as they are.

    Args:
        layout: what the packed vector is made of.
        rank: r, directions kept of every matrix, >= 1.

    Raises:
        ConfigError: the rank makes no matrix of the state smaller, or there is no matrix.
        NonFiniteError: (``encode``) a number beyond ``LARGEST``.
    """

    bound = "first dropped singular value of the matrix"

    def __init__(self, layout: StateLayout, rank: int) -> None:
        self.name, self.rank = f"low-rank:{rank}", rank
        sizes = [piece.matrix for piece in layout.pieces if piece.matrix is not None]
        if not sizes:
            raise ConfigError(
                f"low-rank needs a memory of matrices, and the state of a {layout.core} has none; give bf16 or int8"
            )
        if not any(self._saves(size) for size in sizes):
            highest = max((rows * columns - 1) // (rows + columns) for rows, columns in sizes)
            advice = f"give low-rank:{highest} or less" if highest else "give bf16 or int8"
            shown = ", ".join(f"{rows} x {columns}" for rows, columns in dict.fromkeys(sizes))
            raise ConfigError(
                f"rank {rank} is too large for the state of a {layout.core}: its matrices are {shown}, and two "
                f"factors of that rank are no smaller; {advice}"
            )
        super().__init__(layout)

    def _saves(self, matrix: tuple[int, int] | None) -> bool:
        return matrix is not None and self.rank * (matrix[0] + matrix[1]) < matrix[0] * matrix[1]

    def _plan(self, piece: StatePiece) -> list[Form]:
        count = len(piece.columns)
        if piece.matrix is None or not self._saves(piece.matrix):
            return [Form(torch.float32, (count,))]
        rows, columns = piece.matrix
        matrices = count // (rows * columns)
        shapes = (matrices, rows, self.rank), (matrices, self.rank, columns)
        return [Form(torch.float32, shape) for shape in shapes]

    def _write(self, piece: StatePiece, values: Tensor) -> list[Tensor]:
        if piece.matrix is None or not self._saves(piece.matrix):
            return [values]
        if bool((values.abs() > LARGEST).any()):
            raise NonFiniteError(
                f"the memory holds numbers beyond {LARGEST:g} (in {piece.name}), whose factors would not be finite; "
                "give such streams a newborn memory, or go back to a checkpoint"
            )
        matrices, directions, _ = self._decompose(values, piece.matrix)
        kept = directions[..., -self.rank :]
        wide = piece.matrix[0] <= piece.matrix[1]  # U_r and U_r^T M, else M V_r and V_r^T
        parts = (kept, kept.mT @ matrices) if wide else (matrices @ kept, kept.mT)
        return [part.to(torch.float32) for part in parts]

    def _read(self, piece: StatePiece, parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else (parts[0] @ parts[1]).flatten(1)

    def _bound(self, piece: StatePiece, values: Tensor) -> Tensor:
        if piece.matrix is None or not self._saves(piece.matrix):
            return torch.zeros_like(values)
        sizes = self._decompose(values, piece.matrix)[2]  # [B, matrices, min(m, n)], ascending
        rounding = 16 * max(piece.matrix) * torch.finfo(torch.float32).eps * sizes[..., -1]
        bound = (sizes[..., -self.rank - 1] + rounding).to(torch.float32)
        return bound.repeat_interleave(piece.matrix[0] * piece.matrix[1], dim=1)

    def _decompose(self, values: Tensor, matrix: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Matrices [B, count, m, n], singular vectors of their shorter side [..., k, k], singular values [..., k].

        By the eigenvectors of M M^T or M^T M, whichever is smaller, in float64: its rounding, squared away by the
        product, stays below float32's, and it takes half the time of a general decomposition. Weakest direction first.
        """
        matrices = values.to(torch.float64).view(len(values), -1, *matrix)
        product = matrices @ matrices.mT if matrix[0] <= matrix[1] else matrices.mT @ matrices
        squares, directions = torch.linalg.eigh(product)
        return matrices, directions, squares.clamp_min(0.0).sqrt()
