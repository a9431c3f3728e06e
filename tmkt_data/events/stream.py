"""Recordings larger than memory: decoded piece by piece, with the same events as all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events, validate_events
from tmkt_data.events.formats.clock import SLACK_US
from tmkt_data.events.formats.npz_pieces import holds_columns
from tmkt_data.events.piece_decoders import decode_pieces
from tmkt_data.events.read import EventFormat, Reading, recognize
from tmkt_data.files import file_digest, read_bytes

WHOLE_BYTES = 64 << 20
"""Files up to this size are decoded at once."""
PIECED: frozenset[EventFormat] = frozenset(
    {"atis", "dat", "evt", "aedat2", "aedat3", "aedat4", "es", "npy", "npz", "hdf5"}
)
PIECE_BYTES = 8 << 20


def is_large(path: Path) -> bool:
    """Return whether a recording is to be read in pieces: a large one of a format that can be.

    Raises:
        EventError: The file cannot be read, or is of no known format.
    """
    start = read_bytes(path, limit=1 << 16)
    if path.stat().st_size <= WHOLE_BYTES:
        return False
    kind = recognize(start, path)
    return kind in PIECED and (kind != "npz" or holds_columns(path))


def is_large_but_whole(path: Path) -> bool:
    """Return whether a recording is as large but has to be decoded at once; errors as `is_large`."""
    return not is_large(path) and path.stat().st_size > WHOLE_BYTES


def read_pieces(path: Path, given: Reading, piece_bytes: int = PIECE_BYTES) -> Iterator[Events]:
    """Decode a recording piece by piece.

    Args:
        path: The file; the formats of `PIECED` are read in pieces.
        given: As in `decode_recording`.
        piece_bytes: Bytes of the file to decode at once, about.

    Yields:
        Records that follow each other in time; together they are what `decode_recording` returns, but for inversions
        between two pieces, which are counted only where they are.

    Raises:
        EventError: As `decode_recording`; or times that step back by more than 20 ms from one piece to the next.
    """
    yield from _in_order(decode_pieces(path, given, piece_bytes), path.name)


def checksum_of(path: Path) -> int:
    """Return the `checksum` of a file without holding it in memory.

    Raises:
        EventError: The file cannot be read.
    """
    return int(file_digest(path, "xxh3", error=EventError), 16)


def _in_order(pieces: Iterator[Events], place: str) -> Iterator[Events]:
    """Hold back the end of each piece, so that what steps back a little from the next one is put in order."""
    held: Events | None = None
    done = -(2**62)
    for piece in pieces:
        merged = piece if held is None else _joined(held, piece, place)
        if len(merged) and int(merged.t[0]) < done:
            raise EventError(
                f"{place}: time steps back to {int(merged.t[0])} after {done} has passed; a file of this size is read "
                "in pieces and not sorted, sort it first"
            )
        # What steps back by up to 20 ms has its place before events that have not been given away yet.
        cut = int(np.searchsorted(merged.t, merged.t[-1] - SLACK_US)) if len(merged) else 0
        if cut:
            yield _part(merged, 0, cut, with_counts=True)
            done = int(merged.t[cut - 1])
        held = _part(merged, cut, len(merged), with_counts=not cut)
    if held is not None:
        yield held


def _part(events: Events, start: int, end: int, *, with_counts: bool) -> Events:
    part = replace(
        events,
        t=events.t[start:end].copy(), x=events.x[start:end].copy(),
        y=events.y[start:end].copy(), p=events.p[start:end].copy(),
    )  # fmt: skip
    return part if with_counts else replace(part, num_read=0, num_dropped={}, num_inversions=0, num_wraps=0)


def _joined(first: Events, second: Events, place: str) -> Events:
    counts = dict(first.num_dropped)
    for reason, count in second.num_dropped.items():
        counts[reason] = counts.get(reason, 0) + count
    columns = (np.concatenate([getattr(first, name), getattr(second, name)]) for name in "txyp")
    joined = validate_events(
        *columns,
        sensor_size=first.sensor_size, num_read=first.num_read + second.num_read, num_dropped=counts,
        num_wraps=first.num_wraps + second.num_wraps, time_step_us=max(first.time_step_us, second.time_step_us),
        place=place,
    )  # fmt: skip
    inversions = joined.num_inversions + first.num_inversions + second.num_inversions
    return replace(joined, num_inversions=inversions)
