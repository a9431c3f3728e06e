"""A file that stands in for a cache elsewhere: its header and its tables, with holes in place of the frames.

Whatever reads no frames takes it for the cache: what is prepared already, the index of shards, what is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import h5py

from tmkt_data.cache.format import LEADING_BYTES, LeadingBlock, decode_leading_block
from tmkt_data.errors import CacheError, write_failure
from tmkt_data.files import atomic_write
from tmkt_data.storage.objects import StoredObject
from tmkt_data.storage.transfer import open_object, read_range

_PIECE = 8 << 20

Read = Callable[[int, int], bytes]
"""Takes where a range begins and ends, and returns its bytes."""


def fetch_stand_in(url: str, found: StoredObject, path: Path) -> None:
    """Write the stand-in of a cache in a store, with its time of change.

    Raises:
        CacheError: It is no cache, or damaged, or the stand-in cannot be written.
        StoreError: It cannot be read.
    """
    require_cache(url, found)
    with closing(open_object(url)) as file:
        frames = _frames(file, url)
    write_stand_in(path, found.num_bytes, frames, lambda first, end: read_range(url, first, end))
    os.utime(path, ns=(found.modified_ns, found.modified_ns))


def require_cache(url: str, found: StoredObject) -> LeadingBlock:
    """Return the leading block of an object of a store; errors as `fetch_stand_in`."""
    start = read_range(url, 0, LEADING_BYTES) if found.num_bytes >= LEADING_BYTES else b""
    return decode_leading_block(start, url)


def become_stand_in(path: Path) -> None:
    """Replace a cache on this disk by its stand-in, which frees the room of its frames; errors as `fetch_stand_in`."""
    with path.open("rb") as file:
        frames = _frames(file, path.name)

        def read(first: int, end: int) -> bytes:
            file.seek(first)
            return file.read(end - first)

        write_stand_in(path, path.stat().st_size, frames, read)


def write_stand_in(path: Path, num_bytes: int, frames: list[tuple[int, int]], read: Read) -> None:
    """Write a stand-in.

    Args:
        path: The file; replaced where it exists.
        num_bytes: Size of the cache.
        frames: Where the frames begin and end in it.
        read: Reads the rest.

    Raises:
        CacheError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as broken:
        raise CacheError(write_failure(path, broken)) from broken
    with atomic_write(path, sync="nothing", error=CacheError) as out:
        out.truncate(num_bytes)
        for first, end in _beside(frames, num_bytes):
            out.seek(first)
            out.write(read(first, end))


def _frames(file: IO[bytes] | BufferedReader | Any, place: str) -> list[tuple[int, int]]:
    """Return where the frames of a cache begin and end in its file."""
    try:
        with h5py.File(file, "r") as opened:
            # Tables have one axis, frames three or more.
            datasets = [
                item for side in ("events", "images") for item in opened[side].values() if getattr(item, "ndim", 0) > 2
            ]
            offsets = [(dataset.id.get_offset(), dataset.nbytes) for dataset in datasets if not dataset.is_virtual]
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as broken:
        reason = str(broken).split("\n")[0]
        raise CacheError(f"{place}: damaged cache ({reason}); remove it or prepare it again") from broken
    return sorted((int(offset), int(offset) + num_bytes) for offset, num_bytes in offsets if offset is not None)


def _beside(frames: list[tuple[int, int]], num_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges outside of the frames, in pieces."""
    at = 0
    for first, end in [*frames, (num_bytes, num_bytes)]:
        while at < first:
            yield at, min(at + _PIECE, first)
            at = min(at + _PIECE, first)
        at = max(at, end)
