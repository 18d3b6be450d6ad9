"""One seed, many independent streams of randomness, each with a name."""

from __future__ import annotations

import zlib

import numpy as np


def spawn(seed: int, *names: str | int) -> int:
    """Derives an independent 63-bit seed from ``seed`` and a path of names.

    The same seed and names give the same number on every machine; different names give unrelated streams, so that
    (say) one more draw in the replay buffer never moves the task schedule.
    """
    if seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed}; drop the sign")
    keys = [zlib.crc32(str(name).encode()) for name in names]
    words = np.random.SeedSequence([seed, *keys]).generate_state(2, dtype=np.uint32)
    return int(words[0]) << 31 ^ int(words[1])


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Returns a NumPy generator on the stream ``spawn(seed, *names)``."""
    return np.random.default_rng(spawn(seed, *names))
