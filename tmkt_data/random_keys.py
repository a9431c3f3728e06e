"""Counter-based random numbers: a pure function of seed, epoch, sample, occurrence and purpose.

There is no generator state, so workers, batch size, sample order and resuming never change a draw.

Source: the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), chained over the words of the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tmkt_data.errors import SpecError
from tmkt_data.sample_ids import Ids, bytes_of


class Purpose(IntEnum):
    """Purpose of a draw; different purposes are independent. The numbers are part of the cache format."""

    MIX = 1
    SLIDE = 2
    PAIR = 3
    CROP = 4
    FLIP = 5
    ROTATE = 6
    POISSON = 7
    SAMPLER = 8
    SPLIT = 9
    SIMULATE = 10
    EPISODE = 11
    SACCADE = 12
    BACKGROUND = 13


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mix64(value: ArrayLike) -> NDArray[np.uint64]:
    """Hash 64-bit words; a bijection on uint64.

    Args:
        value: Words, any shape, uint64.

    Returns:
        Hashed words of the same shape, uint64.

    Example:
        >>> hex(int(mix64(0)))
        '0xe220a8397b1dcdaf'
    """
    with np.errstate(over="ignore"):
        z = np.asarray(value, dtype=np.uint64) + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


BELL_SCALE = 3.0**0.5
"""Brings the draws of `bell` to standard deviation 1."""


def sample_uid(sample_id: str) -> int:
    """Return a 64-bit hash of a sample id: the first 8 bytes, little-endian, of its BLAKE2b digest.

    Example:
        >>> sample_uid("airplanes/image_0001") == sample_uid("airplanes/image_0001")
        True
    """
    return int(uids_of((sample_id,))[0])


def uids_of(ids: Ids) -> NDArray[np.uint64]:
    """Return the `sample_uid` of each id, shape (N,).

    Example:
        >>> uids_of(("a/1", "b/2")).tolist() == [sample_uid("a/1"), sample_uid("b/2")]
        True
    """
    digests = b"".join([hashlib.blake2b(sample).digest()[:8] for sample in bytes_of(ids).tolist()])
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def draw_key(
    seed: ArrayLike,
    epoch: ArrayLike,
    uid: ArrayLike,
    occurrence: ArrayLike,
    purpose: Purpose | int,
    k: ArrayLike = 0,
) -> NDArray[np.uint64]:
    """Hash the words of a draw into one 64-bit key; arguments broadcast against each other.

    Args:
        seed: Seed of the run, 0 or more.
        epoch: Epoch, 0 or more.
        uid: Hash of the sample id, see `sample_uid`.
        occurrence: Number of earlier draws of the sample in the same epoch.
        purpose: Purpose of the draw.
        k: Index of the draw within its purpose.

    Returns:
        Keys of the broadcast shape, uint64.

    Raises:
        SpecError: A word is not of whole numbers, which would be rounded down to those of another draw.
    """
    key = mix64(_word(seed))
    for word in (epoch, uid, occurrence, int(purpose), k):
        key = mix64(key ^ _word(word))
    return key


def _word(value: ArrayLike) -> NDArray[np.uint64]:
    given = np.asarray(value)
    if given.dtype.kind == "f" and given.size:
        raise SpecError(f"draw key: found a word of type {given.dtype}, expected whole numbers of 0 or more")
    return np.asarray(value, dtype=np.uint64)


def uniform(
    seed: ArrayLike,
    epoch: ArrayLike,
    uid: ArrayLike,
    occurrence: ArrayLike,
    purpose: Purpose | int,
    k: ArrayLike = 0,
) -> NDArray[np.float64]:
    """Draw uniform numbers in [0, 1) with 53 random bits; arguments as for `draw_key`.

    Example:
        >>> round(float(uniform(42, 0, 7, 0, Purpose.MIX, 1)), 12)
        0.357339984547
    """
    key = draw_key(seed, epoch, uid, occurrence, purpose, k)
    return np.asarray((key >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def bell(draw: Callable[[int], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return sums of four uniform draws about 0: a bell without a logarithm, whose last bits would differ by machine.

    Args:
        draw: Returns uniform draws for k = 0 to 3.

    Returns:
        Values of standard deviation 1 / `BELL_SCALE`, between -2 and 2, with the shape of a draw.

    Example:
        >>> round(float((BELL_SCALE * bell(lambda k: uniform(1, 0, np.arange(1000), 0, Purpose.MIX, k))).std()), 1)
        1.0
    """
    return np.asarray(draw(0) + draw(1) + draw(2) + draw(3) - 2.0)


def shuffled(uids: NDArray[np.uint64], seed: int, epoch: int, occurrence: int = 0) -> NDArray[np.int64]:
    """Return an order of samples that depends on their numbers, not on their indices: indices, shape (N,), int64.

    Args:
        uids: Hashes of the sample ids, see `sample_uid`; shape (N,).
        seed: Seed of the run.
        epoch: Epoch.
        occurrence: Number of earlier orders in this epoch.
    """
    draws = uniform(seed, epoch, uids, occurrence, Purpose.SAMPLER)
    return np.lexsort((uids, draws)).astype(np.int64, copy=False)
