"""Low-rank storage of a memory's matrices: the r directions that matter, by singular value decomposition."""

from __future__ import annotations

import torch
from torch import Tensor

from nl_agents.errors import ConfigError
from nl_agents.memory.state_codec import Form, StateCodec
from nl_agents.memory.state_layout import StateLayout, StatePiece


class LowRankCodec(StateCodec):
    """Each matrix M [m, n] as two factors: M ~ (U_r S_r) V_r^T, 4 r (m + n) bytes instead of 4 m n.

    By Eckart and Young (1936) no matrix of rank r lies nearer; what is read back is off, in every number, by at most
    the first singular value that was dropped. A memory written w times since it was fresh has rank w at most. Vectors,
    and matrices that the factors would not make smaller, are kept as they are.

    Args:
        layout: what the packed vector is made of.
        rank: r, directions kept of every matrix, >= 1.

    Raises:
        ConfigError: the rank makes no matrix of the state smaller, or there is no matrix.
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
        left, size, right = self._decompose(values, piece.matrix)
        kept = slice(self.rank)
        return [left[..., kept] * size[..., None, kept], right[..., kept, :]]

    def _read(self, piece: StatePiece, parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else (parts[0] @ parts[1]).flatten(1)

    def _bound(self, piece: StatePiece, values: Tensor) -> Tensor:
        if piece.matrix is None or not self._saves(piece.matrix):
            return torch.zeros_like(values)
        _, size, _ = self._decompose(values, piece.matrix)  # [B, matrices, min(m, n)]
        rounding = 16 * max(piece.matrix) * torch.finfo(torch.float32).eps * size[..., 0]
        return (size[..., self.rank] + rounding).repeat_interleave(piece.matrix[0] * piece.matrix[1], dim=1)

    def _decompose(self, values: Tensor, matrix: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """U [B, matrices, m, k], singular values [B, matrices, k], V^T [B, matrices, k, n]; k = min(m, n)."""
        matrices = values.view(len(values), -1, *matrix)
        left, size, right = torch.linalg.svd(matrices, full_matrices=False)
        return left, size, right
