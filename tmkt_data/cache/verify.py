"""Verify a cache: all bytes against the digest in the leading block, each frame against its checksum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tmkt_data.cache.digests import PIECE_BYTES, PieceDigests
from tmkt_data.cache.format import LEADING_BYTES, decode_leading_block
from tmkt_data.cache.reader import Cache
from tmkt_data.errors import CacheError

_ROWS = 64


def verify_cache(path: str | Path) -> Iterator[tuple[int, int]]:
    """Verify a cache, yielding (bytes done, total bytes).

    Raises:
        CacheError: The file was modified after it was written, or cannot be read.
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
    for start in range(0, cache.info.num_recordings, _ROWS):
        cache.event_frames(np.arange(start, min(start + _ROWS, cache.info.num_recordings)))
    for start in range(0, cache.info.num_images, _ROWS):
        rows = np.arange(start, min(start + _ROWS, cache.info.num_images))
        cache.image_frames(rows)
        if cache.has_spikes:
            cache.image_spikes(rows)
    if digest != block.pieces:
        raise CacheError(f"{path.name}: the file was changed after it was written; restore it or prepare it again")
