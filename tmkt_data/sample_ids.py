"""Sample ids as text, or as fixed-width bytes for millions of samples."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 16

Ids = Sequence[str] | NDArray[np.bytes_]
"""Ids as text, or as UTF-8 bytes as in cache tables."""


def normal_name(name: str) -> str:
    """Return a name in Unicode normalization form C, so a copy made by macOS (form D) has the same name.

    Example:
        >>> normal_name("cafe\u0301") == "caf\u00e9"
        True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def evenly_spaced(count: int, most: int, *, nearest: bool = False) -> NDArray[np.int64]:
    """Return at most `most` of the places 0 to `count` - 1, ascending, from the first to the last.

    Args:
        count: Number of places.
        most: Most of them to choose.
        nearest: Round what falls between two places to the nearest one; otherwise down.

    Example:
        >>> evenly_spaced(9, 3).tolist(), evenly_spaced(2, 3).tolist()
        ([0, 4, 8], [0, 1])
        >>> evenly_spaced(10, 4).tolist(), evenly_spaced(11, 4, nearest=True).tolist()
        ([0, 3, 6, 9], [0, 3, 7, 10])
    """
    places = np.linspace(0, count - 1, min(count, most))
    return np.unique((places.round() if nearest else places).astype(np.int64))


def encode_id(sample_id: str) -> bytes:
    """Encode an id as UTF-8; invalid bytes of file names are preserved."""
    return sample_id.encode("utf-8", "surrogateescape")


def decode_id(data: bytes) -> str:
    """Decode an id; the inverse of `encode_id`."""
    return data.decode("utf-8", "surrogateescape")


def texts_of(ids: Ids) -> Iterator[str]:
    """Yield ids as text."""
    if not isinstance(ids, np.ndarray):
        yield from ids
        return
    for first in range(0, len(ids), _CHUNK):
        yield from map(decode_id, ids[first : first + _CHUNK].tolist())


def bytes_of(ids: Ids) -> NDArray[np.bytes_]:
    """Return ids as UTF-8 bytes, shape (N,), as wide as the longest id and at least 1."""
    if isinstance(ids, np.ndarray):
        return ids
    encoded = [encode_id(sample_id) for sample_id in ids]
    return np.array(encoded, dtype=f"S{max(1, max(map(len, encoded), default=1))}")


def rows_of(wanted: NDArray[np.bytes_], ids: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Return the row of each wanted id in `ids`, which is sorted bytewise; -1 if absent.

    Example:
        >>> rows_of(np.array([b"b", b"x"]), np.array([b"a", b"b"])).tolist()
        [1, -1]
    """
    if not len(ids):
        return np.full(len(wanted), -1, np.int64)
    rows = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[rows] == wanted, rows, -1).astype(np.int64)


def first_disorder(ids: NDArray[np.bytes_]) -> int | None:
    """Return the row of the first id that is not greater than its predecessor, or None."""
    wrong = np.flatnonzero(ids[1:] <= ids[:-1])
    return int(wrong[0]) + 1 if len(wrong) else None
