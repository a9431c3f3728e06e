"""Compress and decompress a cache for storage or transfer, without changing its content."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

from tmkt_data.cache.digests import PieceDigests
from tmkt_data.cache.format import FrameArray, row_pieces
from tmkt_data.cache.hdf5_output import hdf5_output, writing
from tmkt_data.cache.read_back import read_back
from tmkt_data.cache.reader import Cache
from tmkt_data.cache.stored_frames import require_zstd
from tmkt_data.cache.writer import FramesFile, put_in_place, seal, write_tables
from tmkt_data.errors import CacheError
from tmkt_data.locks import lock

LEVEL = 3
_ROWS = 256
_Writing = Generator[tuple[int, int], None, PieceDigests]


def compress_cache(path: str | Path, out: str | Path, *, undo: bool = False) -> Iterator[tuple[int, int]]:
    """Rewrite a cache with Zstandard-compressed rows, or with contiguous arrays.

    Both have the same content, digest and time of change: a run started with one can be resumed with the other.

    Args:
        path: A cache of either kind; the checksum of each row is verified.
        out: File to write; an existing file is never replaced.
        undo: Write contiguous arrays, which are memory-mapped on reading.

    Yields:
        (rows done, total rows), over all arrays.

    Raises:
        CacheError: The cache is damaged, `out` already exists or is not writable, or hdf5plugin is missing.
    """
    cache, out = Cache(path), Path(out)
    written_ns = cache.info.path.stat().st_mtime_ns
    arrays = [FrameArray(name, frames.shape, frames.dtype) for name, frames in cache.arrays.items()]
    # Named without a process or a chance: what a killed run left is removed by the next one, which holds the lock.
    temporary = out.with_name(f".{out.name}.tmp")
    busy = CacheError(f"{out}: another process is writing it; wait for it to end")
    held = lock(out.with_name(f".{out.name}.lock"), busy)
    if out.exists():
        # What a killed run left beside the finished file goes, unless another process is at it.
        with suppress(CacheError), held:
            temporary.unlink(missing_ok=True)
        raise _taken(out)
    with held:
        try:
            temporary.unlink(missing_ok=True)
            if out.exists():
                raise _taken(out)
            pieces = yield from (_write_contiguous if undo else _write_compressed)(cache, arrays, temporary)
            digest = write_tables(temporary, cache.header, sorted(cache.tables.items()))
            read_back(temporary, seal(temporary, digest, pieces), arrays, rows=True)
            # Sources that were changed since the cache was written are known by its time.
            with suppress(OSError):
                os.utime(temporary, ns=(time.time_ns(), written_ns))
            put_in_place(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)


def _taken(out: Path) -> CacheError:
    return CacheError(f"{out}: already exists; remove it or give another --out")


def _write_compressed(cache: Cache, arrays: list[FrameArray], path: Path) -> _Writing:
    zstd = require_zstd(cache.info.path.name).Zstd(clevel=LEVEL)
    done, total = 0, sum(array.shape[0] for array in arrays)
    with hdf5_output(path, "w") as file:
        before = None
        for array in arrays:
            choices = {"chunks": (1, *array.shape[1:]), **zstd} if 0 not in array.shape else {}
            with writing(path):
                dataset = file.create_dataset(array.name, shape=array.shape, dtype=array.dtype, **choices)
                if before is not None:
                    # What an array that is let go still holds is written without a word when that fails.
                    before.flush()
            before = dataset
            for rows in row_pieces(array, _ROWS):
                stored = cache.arrays[array.name].rows(rows)
                with writing(path):
                    dataset[rows[0] : rows[-1] + 1] = stored
                done += len(rows)
                yield done, total
    return PieceDigests()


def _write_contiguous(cache: Cache, arrays: list[FrameArray], path: Path) -> _Writing:
    done, total = 0, sum(array.shape[0] for array in arrays)
    frames = FramesFile(path, arrays)
    try:
        for array in arrays:
            for rows in row_pieces(array, _ROWS):
                frames.write(array.name, int(rows[0]), cache.arrays[array.name].rows(rows))
                done += len(rows)
                yield done, total
    finally:
        frames.close()
    return frames.digests
