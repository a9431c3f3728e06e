"""The checksum of sources and frames: XXH3 of 64 bits, which costs less than reading the bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import xxhash


def checksum(data: Any) -> int:
    """Return the XXH3-64 of some bytes, 0 to 2**64 - 1.

    It tells damaged and edited bytes from whole ones; against forgery it is no protection.

    Args:
        data: Bytes, or a contiguous array, whose bytes are taken in C order.

    Example:
        >>> f"{checksum(b'events'):016x}"
        '61f51ddbc751e8af'

    Source: https://github.com/Cyan4973/xxHash
    """
    return xxhash.xxh3_64_intdigest(data)


def checksum_of_pieces(pieces: Iterable[bytes]) -> int:
    """Return the checksum of bytes that come in pieces; the same as of all at once."""
    running = xxhash.xxh3_64()
    for piece in pieces:
        running.update(piece)
    return running.intdigest()
