"""Verify a cache: all bytes against the digest in the leading block, each frame against its checksum, its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tmkt_data.cache.consistency import (
    event_frame_problems,
    fact_problems,
    require,
    spike_problems,
    table_problems,
)
from tmkt_data.cache.digests import PIECE_BYTES, PieceDigests
from tmkt_data.cache.format import LEADING_BYTES, FrameArray, decode_leading_block, row_pieces
from tmkt_data.cache.reader import Cache, CacheInfo
from tmkt_data.errors import CacheError

_ROWS = 64


def verify_cache(path: str | Path) -> Iterator[tuple[int, int]]:
    """Verify a cache, yielding (bytes done, total bytes).

    Raises:
        CacheError: The file was modified after it was written, cannot be read, or holds what cannot be, such as a label
            that is no class.
    """
    cache = Cache(path)
    total, done = cache.info.num_bytes, 0
    changed: list[str] = []
    for file in _files(cache.info):
        here = 0
        for here in _verify_bytes(file, changed):
            yield done + here, total
        done += here
    if changed and cache.info.shards is not None:
        # A row that was changed says less: this names the shard.
        raise CacheError(changed[0])
    problems = _problems(cache)
    # Damage is named before what it means.
    problem = next(problems, None)
    for _ in problems:
        pass
    if changed:
        raise CacheError(changed[0])
    require(cache.info.path.name, [problem] if problem else [])


class _File(NamedTuple):
    """A file of a cache, its name in messages, and what to do where it was changed."""

    path: Path
    name: str
    advice: str


def _files(info: CacheInfo) -> Iterator[_File]:
    yield _File(info.path, info.path.name, "restore it or prepare it again")
    if info.shards is not None:
        advice = "remove it and run the same tmkt-data prepare again, which makes this shard alone"
        for shard, name in enumerate(info.shards.names):
            yield _File(info.shards.path(shard), name, advice)


def _verify_bytes(file: _File, changed: list[str]) -> Iterator[int]:
    """Yield the number of bytes done; a file that was changed is added to `changed`."""
    try:
        size = file.path.stat().st_size
        with file.path.open("rb", buffering=0) as handle:
            block = decode_leading_block(handle.read(LEADING_BYTES), file.name)
            pieces = PieceDigests()
            for done in pieces.fill(handle):
                yield min(LEADING_BYTES + done * PIECE_BYTES, size)
            digest = pieces.total(handle)
    except OSError as broken:
        raise CacheError(f"{file.path}: cannot be read ({broken.strerror or broken})") from broken
    if digest != block.pieces:
        changed.append(f"{file.name}: the file was changed after it was written; {file.advice}")


def _problems(cache: Cache) -> Iterator[str]:
    """Yield what is wrong with what a cache means, once all of its rows are read."""
    yield from fact_problems(cache.info.facts)
    yield from table_problems(cache.tables, cache.spec)
    yield from _frame_problems(cache)


def _frame_problems(cache: Cache) -> Iterator[str]:
    arrays = [FrameArray(name, frames.shape, frames.dtype) for name, frames in cache.arrays.items()]
    events, images = ([array for array in arrays if array.side == side] for side in ("events", "images"))
    for rows in row_pieces(events[0], _ROWS):
        stored = cache.arrays["events/frames"].rows(rows)
        yield from event_frame_problems(stored, rows, cache.tables, cache.spec)
    for rows in row_pieces(max(images, key=lambda array: array.row_bytes), _ROWS):
        cache.image_frames(rows)
        if cache.spec.image_scale > 1:
            cache.finest_frames(rows)
        if cache.has_spikes:
            yield from spike_problems(cache.image_spikes(rows), rows, cache.spec)
