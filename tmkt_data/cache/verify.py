"""Verify a cache: all bytes against the digest in the leading block, each frame against its checksum, its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.consistency import (
    event_frame_problems,
    fact_problems,
    require,
    spike_problems,
    table_problems,
)
from tmkt_data.cache.digests import PIECE_BYTES, PieceDigests
from tmkt_data.cache.format import LEADING_BYTES, decode_leading_block
from tmkt_data.cache.reader import Cache
from tmkt_data.errors import CacheError

_ROWS = 64


def verify_cache(path: str | Path) -> Iterator[tuple[int, int]]:
    """Verify a cache, yielding (bytes done, total bytes).

    Raises:
        CacheError: The file was modified after it was written, cannot be read, or holds what cannot be, such as a label
            that is no class.
    """
    path = Path(path)
    cache = Cache(path)
    total = cache.info.num_bytes
    try:
        with path.open("rb", buffering=0) as handle:
            block = decode_leading_block(handle.read(LEADING_BYTES), path.name)
            pieces = PieceDigests()
            for done in pieces.fill(handle):
                yield min(LEADING_BYTES + done * PIECE_BYTES, total), total
            digest = pieces.total(handle)
    except OSError as broken:
        raise CacheError(f"{path}: cannot be read ({broken.strerror or broken})") from broken
    problems = _problems(cache)
    # Damage is named before what it means.
    problem = next(problems, None)
    for _ in problems:
        pass
    if digest != block.pieces:
        raise CacheError(f"{path.name}: the file was changed after it was written; restore it or prepare it again")
    require(path.name, [problem] if problem else [])


def _problems(cache: Cache) -> Iterator[str]:
    """Yield what is wrong with what a cache means, once all of its rows are read."""
    yield from fact_problems(cache.info.facts)
    yield from table_problems(cache.tables, cache.spec)
    yield from _frame_problems(cache)


def _frame_problems(cache: Cache) -> Iterator[str]:
    for rows in _blocks(cache.info.num_recordings):
        stored = cache.arrays["events/frames"].rows(rows)
        yield from event_frame_problems(stored, rows, cache.tables, cache.spec)
    for rows in _blocks(cache.info.num_images):
        cache.image_frames(rows)
        if cache.spec.image_scale > 1:
            cache.finest_frames(rows)
        if cache.has_spikes:
            yield from spike_problems(cache.image_spikes(rows), rows, cache.spec)


def _blocks(num_rows: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, num_rows, _ROWS):
        yield np.arange(start, min(start + _ROWS, num_rows))
