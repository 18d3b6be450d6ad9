"""Observations as one flat row a stream: how a space is stored, and how its row becomes features."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nl_agents.errors import SpaceNotSupportedError

GRID_SCALE = 10.0
"""MiniGrid codes objects (0-10), colours (0-5) and states (0-2); divided by this they lie in 0 .. 1."""
GRID_CODES = (11, 6, 4)
"""How many objects, colours and states (with the fourth for an agent's direction) one-hot codes tell apart."""


Grid = Literal["scaled", "one-hot"]


class Part(NamedTuple):
    """One leaf of an observation space inside the flat row."""

    key: str | None  # key in a Dict space, None for a plain space
    kind: str  # "vector", "grid" (small uint8 image of codes), "codes" (the same, one-hot), "discrete" or "binary"
    start: int
    stop: int
    size: int  # features it becomes: values of discrete numbers, else stop - start
    values: tuple[tuple[int, int], ...] = ()  # of discrete numbers: (how many, the first) of each


class ObservationCodec:
    """Packs observations of one space into rows and unpacks rows into features.

    Rows are raw (decisions: observations are stored raw, normalised when used): uint8 if every leaf is, float32 else.

    Args:
        space: single-env observation space: Box (any shape; small uint8 boxes are read as MiniGrid codes), Discrete,
            MultiDiscrete, MultiBinary, or a Dict of these. Text leaves (``mission``) are left out.
        grid: how codes become features. "scaled": a number in 0 .. 1 each, as small as can be; a key and a ball then
            differ by .1 in one of 147 numbers. "one-hot": a feature for every code of every cell, seven times as many;
            for grids [..., 3] of MiniGrid's objects, colours and states.

    Raises:
        SpaceNotSupportedError: for any other leaf; with "one-hot", for a small uint8 box of another shape.
    """

    def __init__(self, space: gym.Space[Any], grid: Grid = "scaled") -> None:
        leaves = dict(space.spaces) if isinstance(space, spaces.Dict) else {None: space}
        self.parts: list[Part] = []
        start = 0
        for key, leaf in leaves.items():
            if isinstance(leaf, spaces.Text):
                continue
            length, kind, size, values = _describe(key, leaf, grid)
            self.parts.append(Part(key, kind, start, start + length, size, values))
            start += length
        if not self.parts:
            raise SpaceNotSupportedError(f"nothing in {space} can be encoded; give at least one Box or Discrete leaf")
        self.space = space
        self.row_size = start
        self.feature_size = sum(part.size for part in self.parts)
        self.vector_size = sum(part.stop - part.start for part in self.parts if part.kind == "vector")
        self.dtype = torch.float32 if self.vector_size else torch.uint8
        numbers = [number for part in self.parts for number in part.values]
        if self.dtype == torch.uint8 and any(first < 0 or first + count > 256 for count, first in numbers):
            self.dtype = torch.float32
        self._single = self.parts[0] if len(self.parts) == 1 and self.parts[0].key is None else None

    def pack(self, observation: Any, out: NDArray[Any]) -> None:
        """Writes a batch of observations (array, or dict of arrays, batch first) into rows ``out`` [B, row_size]."""
        if self._single is not None:
            out[...] = np.asarray(observation).reshape(out.shape)
            return
        for part in self.parts:
            value = observation if part.key is None else observation[part.key]
            out[:, part.start : part.stop] = np.asarray(value).reshape(out.shape[0], -1)

    def vectors(self, rows: Tensor) -> Tensor:
        """The leaves that are normalised by running moments [..., vector_size]."""
        picked = [rows[..., part.start : part.stop] for part in self.parts if part.kind == "vector"]
        return picked[0] if len(picked) == 1 else torch.cat(picked, dim=-1)

    def features(self, rows: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Turns rows [..., row_size] into features [..., feature_size].

        Vectors become clip((x - mean) * scale, ±10), grid codes lie in 0 .. 1 or are one-hot (codes beyond MiniGrid's
        count as its last), discrete values are one-hot, bits are 0 or 1.
        """
        features, used = [], 0
        for part in self.parts:
            piece = rows if part.stop - part.start == self.row_size else rows[..., part.start : part.stop]
            if part.kind == "vector":
                own = slice(used, used + part.stop - part.start)
                if own.stop - own.start == self.vector_size:
                    moved = (piece - mean).mul_(scale)
                else:
                    moved = (piece - mean[own]).mul_(scale[own])
                features.append(moved.clamp_(-10.0, 10.0))
                used = own.stop
            elif part.kind == "grid":
                features.append(piece.to(mean.dtype) / GRID_SCALE)
            elif part.kind == "codes":
                features.append(_one_hot_codes(piece, part.size, mean.dtype))
            elif part.kind == "binary":
                features.append(piece.to(mean.dtype))
            else:
                features += [
                    F.one_hot(piece[..., n].long() - first, count).to(mean.dtype)
                    for n, (count, first) in enumerate(part.values)
                ]
        return features[0] if len(features) == 1 else torch.cat(features, dim=-1)


def _one_hot_codes(codes: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Cells' codes [..., cells * 3] as one-hot features [..., cells * sum(GRID_CODES)]."""
    things, colours, states = GRID_CODES
    entry = torch.arange(codes.shape[-1], device=codes.device)  # made where it is used: an update sends no constants
    is_colour, is_state = (entry % 3 == 1).long(), (entry % 3 == 2).long()
    start = entry // 3 * sum(GRID_CODES) + is_colour * things + is_state * (things + colours)
    last = things - 1 + is_colour * (colours - things) + is_state * (states - things)
    features = torch.zeros(*codes.shape[:-1], size, dtype=dtype, device=codes.device)
    return features.scatter_(-1, start + torch.minimum(codes.long(), last), 1.0)


def _describe(key: str | None, leaf: gym.Space[Any], grid: Grid) -> tuple[int, str, int, tuple[tuple[int, int], ...]]:
    """Returns (entries in the row, kind, features, values of discrete numbers) of one leaf."""
    if isinstance(leaf, spaces.Discrete):
        return 1, "discrete", int(leaf.n), ((int(leaf.n), int(leaf.start)),)
    if isinstance(leaf, spaces.MultiDiscrete):
        counts, firsts = leaf.nvec.ravel().tolist(), np.asarray(leaf.start).ravel().tolist()
        return len(counts), "discrete", sum(counts), tuple(zip(counts, firsts, strict=True))
    if isinstance(leaf, spaces.MultiBinary):
        bits = int(np.prod(leaf.shape, dtype=int))
        return bits, "binary", bits, ()
    if isinstance(leaf, spaces.Box):
        length = int(np.prod(leaf.shape, dtype=int)) or 1
        if leaf.dtype == np.uint8:
            if length > 1024:
                raise SpaceNotSupportedError(
                    f"Box leaf {key!r} of shape {leaf.shape} is a large image; only small code grids (<= 1024 entries, "
                    "as MiniGrid's) have an encoder: encode or crop it in a wrapper"
                )
            if grid == "one-hot":
                if leaf.shape[-1:] != (len(GRID_CODES),):
                    raise SpaceNotSupportedError(
                        f"one-hot codes are MiniGrid's object, colour and state, so a box [..., 3]; leaf {key!r} has "
                        f"shape {leaf.shape}: take grid='scaled' (memory.grid), or give it as Discrete leaves"
                    )
                return length, "codes", length // len(GRID_CODES) * sum(GRID_CODES), ()
            return length, "grid", length, ()
        return length, "vector", length, ()
    raise SpaceNotSupportedError(
        f"no encoder for leaf {key!r} of type {type(leaf).__name__}; expected Box, Discrete, MultiDiscrete or "
        "MultiBinary, or a Dict of them"
    )
