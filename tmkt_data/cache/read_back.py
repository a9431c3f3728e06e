"""Read back a cache that was just written, before it gets its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tmkt_data.cache.format import (
    LEADING_BYTES,
    ContentDigest,
    FrameArray,
    LeadingBlock,
    Table,
    encode_leading_block,
    row_pieces,
)
from tmkt_data.errors import CacheError
from tmkt_data.files import checksum

_ROWS = 64


def read_back(path: Path, block: LeadingBlock, arrays: Sequence[FrameArray], *, rows: bool = False) -> None:
    """Check that a file holds what was written to it: leading block, header, tables, types and places of the arrays.

    Args:
        path: The file, still under a temporary name.
        block: Its leading block.
        arrays: Its arrays of frames.
        rows: Whether to read the rows, too, and compare each with its checksum.

    Raises:
        CacheError: It does not, such as on a broken disk.
    """
    try:
        with path.open("rb") as handle:
            is_same = handle.read(LEADING_BYTES) == encode_leading_block(block)
            is_same = is_same and handle.seek(0, 2) == block.num_bytes
        with h5py.File(path, "r", locking=False) as file:
            is_same = is_same and _digest(file, arrays) == block.digest
            is_same = is_same and all(_is_stored(file[array.name], array, block.num_bytes) for array in arrays)
            is_same = is_same and (not rows or all(_are_whole(file, array) for array in arrays))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        is_same = False
    if not is_same:
        raise CacheError(f"{path}: does not hold what was just written to it; check the disk, and run it again")


def _digest(file: h5py.File, arrays: Sequence[FrameArray]) -> str:
    digest = ContentDigest({name: bytes(file.attrs[name]).decode() for name in set(file.attrs) - {"digest"}})
    for name in _tables(file, {array.name for array in arrays}):
        # One by one: all of them take as much memory as the rest of a large dataset.
        digest.add(name, _whole(file[name]))
    return digest.hexdigest()


def _tables(file: h5py.File, arrays: set[str]) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(set(names) - arrays)


def _whole(dataset: Any) -> Table:
    return np.asarray(dataset[...])


def _is_stored(dataset: Any, array: FrameArray, num_bytes: int) -> bool:
    if dataset.shape != array.shape or dataset.id.get_type() != h5py.h5t.py_create(array.dtype, logical=True):
        return False
    if dataset.chunks is not None or not dataset.size:
        return True
    return bool(0 < (dataset.id.get_offset() or 0) <= num_bytes - dataset.nbytes)


def _are_whole(file: h5py.File, array: FrameArray) -> bool:
    dataset, checksums = file[array.name], file[f"{array.name}_xxh3"][...].tolist()
    for rows in row_pieces(array, _ROWS):
        first, last = int(rows[0]), int(rows[-1])
        if [checksum(row) for row in dataset[first : last + 1]] != checksums[first : last + 1]:
            return False
    return True
