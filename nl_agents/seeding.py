"""One seed, many independent streams of randomness, each with a name."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


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


def hash_uniform(keys: npt.NDArray[np.uint64], draws: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Returns the number in [0, 1) that belongs to each (key, draw): SplitMix64 (Steele, Lea & Flood 2014).

    Randomness without a state: the same key and number of the draw give the same number, whatever was drawn before.

    Args:
        keys: one for each source of randomness, from ``spawn``.
        draws: which draw of that source; broadcast against ``keys``.
    """
    uniform: npt.NDArray[np.float64] = (hash_bits(keys, draws) >> np.uint64(11)).astype(np.float64) / (1 << 53)
    return uniform


def hash_bits(keys: npt.NDArray[np.uint64], draws: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Returns the 64 bits that belong to each (key, draw); see ``hash_uniform``."""
    counter: npt.NDArray[np.uint64] = keys + draws * _GOLDEN
    mixed: npt.NDArray[np.uint64] = (counter ^ (counter >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    bits: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return bits


def hash_normal(
    keys: npt.NDArray[np.uint64], draws: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns two independent standard normals for each (key, draw): Box and Muller on the two halves of its bits."""
    bits = hash_bits(keys, draws)
    low, high = (bits & np.uint64(0xFFFFFFFF)).astype(np.float32), (bits >> np.uint64(32)).astype(np.float32)
    radius = np.sqrt(np.float32(-2.0) * np.log((low + np.float32(1.0)) * np.float32(2.0**-32)))
    angle = high * np.float32(2.0 * np.pi * 2.0**-32)
    return radius * np.cos(angle), radius * np.sin(angle)
