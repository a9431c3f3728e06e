"""Recordings larger than memory: decoded piece by piece, with the same events as all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from tmkt_data.checksums import checksum_of_pieces
from tmkt_data.errors import EventError
from tmkt_data.events import Events, validate_events
from tmkt_data.io.aedat2 import CLOCK_RANGE_US as AEDAT2_RANGE_US
from tmkt_data.io.aedat2 import decode_aedat2, header_bytes
from tmkt_data.io.aedat3 import END, PACKET_HEAD_BYTES, decode_aedat3, packet_bytes
from tmkt_data.io.aedat4 import aedat4_pieces
from tmkt_data.io.arrays import CLOCK_RANGE, decode_array
from tmkt_data.io.atis import BYTES_PER_EVENT, decode_atis
from tmkt_data.io.atis import CLOCK_RANGE_US as ATIS_RANGE_US
from tmkt_data.io.clock import SLACK_US, Clock
from tmkt_data.io.dat import CLOCK_RANGE_US as DAT_RANGE_US
from tmkt_data.io.dat import decode_dat
from tmkt_data.io.evt import decode_evt, new_state, word_bytes
from tmkt_data.io.files import read_bytes
from tmkt_data.io.npy import read_npy_header
from tmkt_data.io.percent_header import read_percent_header
from tmkt_data.io.read import EventFormat, Reading, recognize

WHOLE_BYTES = 64 << 20
"""Files up to this size are decoded at once."""
PIECED: frozenset[EventFormat] = frozenset({"atis", "dat", "evt", "aedat2", "aedat3", "aedat4", "npy"})
PIECE_BYTES = 8 << 20
_HEADER_LIMIT = 4 << 20
_LARGEST_PACKET = 256 << 20


def is_large(path: Path) -> bool:
    """Return whether a recording is to be read in pieces: a large one of a format that can be.

    Raises:
        EventError: The file cannot be read, or is of no known format.
    """
    start = read_bytes(path, limit=1 << 16)
    return path.stat().st_size > WHOLE_BYTES and recognize(start, path) in PIECED


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
    yield from _in_order(_decode(path, given, piece_bytes), path.name)


def checksum_of(path: Path) -> int:
    """Return the checksum of a file, read in pieces.

    Raises:
        EventError: The file cannot be read.
    """
    return checksum_of_pieces(_chunks(path, 0, 1, PIECE_BYTES))


def _decode(path: Path, given: Reading, piece_bytes: int) -> Iterator[Events]:
    start = read_bytes(path, limit=_HEADER_LIMIT)
    size, place = given.sensor_size, path.name
    match recognize(start[: 1 << 16], path):
        case "atis":
            clock = Clock(ATIS_RANGE_US)
            for chunk in _chunks(path, 0, BYTES_PER_EVENT, piece_bytes):
                yield decode_atis(chunk, sensor_size=size, clock=clock, place=place)
        case "dat":
            head = start[: read_percent_header(start).size + 2]
            clock = Clock(DAT_RANGE_US)
            for chunk in _chunks(path, len(head), 8, piece_bytes):
                yield decode_dat(head + chunk, sensor_size=size, clock=clock, place=place)
        case "evt":
            yield from _evt(path, given, start, piece_bytes)
        case "aedat2":
            yield from _aedat2(path, given, start, piece_bytes)
        case "aedat3":
            head = start[: max(start.find(END), 0) + len(END)]
            for chunk in _packets(path, len(head), piece_bytes):
                yield decode_aedat3(head + chunk, sensor_size=size, place=place)
        case "aedat4":
            yield from aedat4_pieces(path, size, piece_bytes // 16)
        case "npy":
            yield from _npy(path, given, piece_bytes)
        case other:
            raise EventError(
                f"{place}: recordings of format {other} are not read in pieces; convert it to .raw or .dat"
            )


def _chunks(path: Path, start: int, step: int, piece_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` on, in whole steps but for the last."""
    length = max(step, piece_bytes - piece_bytes % step)
    try:
        with path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(length):
                yield chunk
    except OSError as broken:
        raise EventError(f"{path}: cannot be read ({broken.strerror or broken})") from broken


def _evt(path: Path, given: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    head_bytes, step = word_bytes(start, path.name)
    state = new_state()
    # A word may hold up to 32 events.
    for chunk in _chunks(path, head_bytes, step, max(step, piece_bytes // 4)):
        data = start[:head_bytes] + chunk
        yield decode_evt(data, sensor_size=given.sensor_size, state=state, place=path.name)


def _aedat2(path: Path, given: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    head = start[: header_bytes(start)]
    clock = Clock(AEDAT2_RANGE_US)
    for chunk in _chunks(path, len(head), 8, piece_bytes):
        yield decode_aedat2(
            head + chunk,
            sensor_size=given.sensor_size, orientation=given.orientation, chip=given.chip, clock=clock, place=path.name,
        )  # fmt: skip


def _packets(path: Path, start: int, piece_bytes: int) -> Iterator[bytes]:
    """Yield whole AEDAT 3.1 packets; what is wrong with them is left to the decoder to say."""
    held: list[bytes] = []
    num_held = 0
    with path.open("rb") as file:
        file.seek(start)
        while head := file.read(PACKET_HEAD_BYTES):
            body = packet_bytes(head)
            if body > _LARGEST_PACKET:
                raise EventError(f"{path.name}: a packet of {body:,} bytes, expected {_LARGEST_PACKET:,} at most")
            held += [head, file.read(max(body, 0))]
            num_held += len(head) + len(held[-1])
            if num_held >= piece_bytes:
                yield b"".join(held)
                held, num_held = [], 0
    if held:
        yield b"".join(held)


def _npy(path: Path, given: Reading, piece_bytes: int) -> Iterator[Events]:
    with path.open("rb") as file:
        shape, fortran, dtype = read_npy_header(file, path.stat().st_size, path.name)
        start = file.tell()
    sides = shape[1:]
    if fortran and len(shape) > 1:
        raise EventError(f"{path.name}: columns one after the other, which are not read in pieces; save it as rows")
    step = max(1, int(np.prod(sides, dtype=np.int64)) * dtype.itemsize)
    clock = Clock(CLOCK_RANGE)
    for chunk in _chunks(path, start, step, piece_bytes):
        array = np.frombuffer(chunk, dtype).reshape(-1, *sides)
        yield decode_array(array, given.sensor_size, given.columns, given.unit, path.name, clock)


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
