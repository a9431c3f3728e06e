"""Recordings larger than memory: decoded piece by piece, with the same events as all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.events import DecoderReport, Events, validate_events
from tmkt_data.events.formats import aedat2, atis, event_stream, prophesee
from tmkt_data.events.formats.aedat3 import END, PACKET_HEAD_BYTES, decode_aedat3, packet_bytes, require_raw
from tmkt_data.events.formats.aedat4 import aedat4_pieces
from tmkt_data.events.formats.arrays import decode_array, holds_columns, npz_pieces
from tmkt_data.events.formats.clock import SLACK_US, WORD_RANGE, Clock
from tmkt_data.events.formats.npy import read_npy_header
from tmkt_data.events.formats.percent_header import read_percent_header
from tmkt_data.events.read import Reading, recognize
from tmkt_data.files import file_digest, read_bytes
from tmkt_data.spec import EventFormat
from tmkt_data.storage.member_files import file_status

WHOLE_BYTES = 64 << 20
"""Files up to this size are decoded at once."""
STREAMABLE: frozenset[EventFormat] = frozenset(
    {"atis", "dat", "evt", "aedat2", "aedat3", "aedat4", "es", "npy", "npz", "hdf5"}
)
PIECE_BYTES = 8 << 20
_HEADER_LIMIT = 4 << 20
_LARGEST_PACKET = 256 << 20
_BYTES_PER_EVENT = 16
"""Approximate size of an event in memory, for formats whose pieces are counted in events."""


def is_large(path: Path) -> bool:
    """Return whether a recording is read in pieces: a large file of a format that supports it.

    Raises:
        EventError: The file cannot be read, or is of no known format.
    """
    start = read_bytes(path, limit=1 << 16)
    if file_status(path).num_bytes <= WHOLE_BYTES:
        return False
    kind = recognize(start, path)
    return kind in STREAMABLE and (kind != "npz" or holds_columns(path))


def is_large_but_whole(path: Path) -> bool:
    """Return whether a recording is as large but has to be decoded at once; errors as `is_large`."""
    return not is_large(path) and file_status(path).num_bytes > WHOLE_BYTES


def checksum_of(path: Path) -> int:
    """Return the `checksum` of a file without holding it in memory.

    Raises:
        EventError: The file cannot be read.
    """
    return int(file_digest(path, "xxh3", error=EventError), 16)


def read_pieces(path: Path, reading: Reading, piece_bytes: int = PIECE_BYTES) -> Iterator[Events]:
    """Decode a recording piece by piece.

    Args:
        path: The file, of a format in `STREAMABLE`.
        reading: As in `decode_recording`.
        piece_bytes: Approximate number of bytes of the file to decode at once.

    Yields:
        Records that follow each other in time; together they are what `decode_recording` returns. Inversions between
        two pieces are counted only where they occur.

    Raises:
        EventError: As `decode_recording`; or time steps back by more than 20 ms from one piece to the next.
    """
    yield from _in_order(_decode_pieces(path, reading, piece_bytes), path.name)


def _in_order(pieces: Iterator[Events], place: str) -> Iterator[Events]:
    """Hold back the end of each piece, so that events of the next piece that are a little late can be sorted in."""
    held: Events | None = None
    done = -(2**62)
    for piece in pieces:
        merged = piece if held is None else _joined(held, piece, place)
        if len(merged) and int(merged.t[0]) < done:
            raise EventError(
                f"{place}: time steps back to {int(merged.t[0])} after {done} has passed; a file of this size is read "
                "in pieces and not sorted, sort it first"
            )
        # An event that is up to 20 ms late belongs before events that are still held back.
        cut = int(np.searchsorted(merged.t, merged.t[-1] - SLACK_US)) if len(merged) else 0
        if cut:
            yield _part(merged, 0, cut, with_counts=True)
            done = int(merged.t[cut - 1])
        held = _part(merged, cut, len(merged), with_counts=not cut)
    if held is not None:
        yield held


def _part(events: Events, start: int, end: int, *, with_counts: bool) -> Events:
    here = slice(start, end)
    t, x, y, p = events.columns
    part = replace(events, t=t[here].copy(), x=x[here].copy(), y=y[here].copy(), p=p[here].copy())
    return part if with_counts else replace(part, num_read=0, num_dropped={}, num_inversions=0, num_wraps=0)


def _joined(first: Events, second: Events, place: str) -> Events:
    dropped = dict(first.num_dropped)
    for reason, count in second.num_dropped.items():
        dropped[reason] = dropped.get(reason, 0) + count
    report = DecoderReport(
        place,
        first.num_read + second.num_read,
        dropped,
        first.num_wraps + second.num_wraps,
        max(first.time_step_us, second.time_step_us),
    )
    columns = (np.concatenate([getattr(first, name), getattr(second, name)]) for name in "txyp")
    joined = validate_events(*columns, sensor_size=first.sensor_size, report=report)
    return replace(joined, num_inversions=joined.num_inversions + first.num_inversions + second.num_inversions)


def _decode_pieces(path: Path, reading: Reading, piece_bytes: int) -> Iterator[Events]:
    """Yield records in the order of the file, each in order of time."""
    start = read_bytes(path, limit=_HEADER_LIMIT)
    size, place = reading.sensor_size, path.name
    num_events = max(1, piece_bytes // _BYTES_PER_EVENT)
    match recognize(start[: 1 << 16], path):
        case "atis":
            yield from _atis(path, reading, piece_bytes)
        case "dat":
            yield from _dat(path, reading, start, piece_bytes)
        case "evt":
            yield from _evt(path, reading, start, piece_bytes)
        case "aedat2":
            yield from _aedat2(path, reading, start, piece_bytes)
        case "aedat3":
            yield from _aedat3(path, reading, start, piece_bytes)
        case "aedat4":
            yield from aedat4_pieces(path, size, num_events, reading.stream)
        case "es":
            yield from _event_stream(path, reading, start, piece_bytes)
        case "npy":
            yield from _npy(path, reading, piece_bytes)
        case "npz":
            yield from npz_pieces(path, num_events, sensor_size=size, unit=reading.unit)
        case "hdf5":
            from tmkt_data.events.formats.hdf5 import hdf5_pieces

            yield from hdf5_pieces(
                path, num_events, sensor_size=size, keys=reading.keys, unit=reading.unit, columns=reading.columns
            )
        case "mat":
            raise EventError(f"{place}: MATLAB 5 files are not read in pieces; save it with -v7.3, which is")


def _atis(path: Path, reading: Reading, piece_bytes: int) -> Iterator[Events]:
    atis.whole_events(path.stat().st_size, path.name)
    clock = Clock(atis.CLOCK_RANGE_US)
    for chunk in _read_chunks(path, 0, atis.BYTES_PER_EVENT, piece_bytes):
        yield atis.decode_atis(chunk, sensor_size=reading.sensor_size, clock=clock, place=path.name)


def _dat(path: Path, reading: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    head = start[: read_percent_header(start).size + 2]
    prophesee.whole_dat_events(path.stat().st_size - len(head), path.name)
    clock = Clock(prophesee.DAT_CLOCK_RANGE_US)
    for chunk in _read_chunks(path, len(head), prophesee.DAT_EVENT_BYTES, piece_bytes):
        yield prophesee.decode_dat(head + chunk, sensor_size=reading.sensor_size, clock=clock, place=path.name)


def _evt(path: Path, reading: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    header, version, dtype = prophesee.read_evt_start(start, path.name)
    prophesee.check_evt_words(path.stat().st_size - header.size, dtype.itemsize, path.name)

    def chunks() -> Iterator[bytes]:
        # A word may hold up to 32 events.
        return _read_chunks(path, header.size, dtype.itemsize, max(dtype.itemsize, piece_bytes // 4))

    is_swapped = None
    if version == "2.1":
        is_swapped = prophesee.find_swapped(header, (np.frombuffer(chunk, dtype) for chunk in chunks()), path.name)
    state = prophesee.new_evt_state()
    # An explicit end, as the data of a later piece may look like another line of the header.
    head = start[: header.size] + (b"" if header.lines[-1] == "end" else b"% end\n")
    for chunk in chunks():
        yield prophesee.decode_evt(
            head + chunk, sensor_size=reading.sensor_size, state=state, is_swapped=is_swapped, place=path.name
        )


def _aedat2(path: Path, reading: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    num_bytes, head = aedat2.read_header(start)
    aedat2.whole_words(path.stat().st_size - num_bytes, path.name)
    clock = Clock(aedat2.CLOCK_RANGE_US)
    for chunk in _read_chunks(path, num_bytes, aedat2.BYTES_PER_WORD, piece_bytes):
        yield aedat2.decode_aedat2(
            head + chunk,
            sensor_size=reading.sensor_size,
            orientation=reading.orientation,
            chip=reading.chip,
            clock=clock,
            place=path.name,
        )


def _aedat3(path: Path, reading: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    head = start[: max(start.find(END), 0) + len(END)]
    require_raw(head, path.name)
    num_before = 0
    for chunk in _packets(path, len(head), piece_bytes):
        yield decode_aedat3(head + chunk, sensor_size=reading.sensor_size, num_before=num_before, place=path.name)
        num_before += len(chunk)


def _packets(path: Path, start: int, piece_bytes: int) -> Iterator[bytes]:
    """Yield whole AEDAT 3.1 packets; damaged ones are left for the decoder to report."""
    held: list[bytes] = []
    num_held, num_read = 0, 0
    with path.open("rb") as file:
        file.seek(start)
        while head := file.read(PACKET_HEAD_BYTES):
            body = packet_bytes(head)
            if body > _LARGEST_PACKET:
                raise EventError(f"{path.name}: a packet of {body:,} bytes, expected {_LARGEST_PACKET:,} at most")
            held += [head, file.read(max(body, 0))]
            num_held += len(head) + len(held[-1])
            num_read += 1
            if num_held >= piece_bytes:
                yield b"".join(held)
                held, num_held = [], 0
    if held or not num_read:
        yield b"".join(held)


def _event_stream(path: Path, reading: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    head = start[: event_stream.HEADER_BYTES]
    state = np.zeros(1, np.int64)
    num_read, rest = 0, b""
    for chunk in _read_chunks(path, len(head), 1, piece_bytes):
        data = rest + chunk
        num_events, num_left = event_stream.count_events(data)
        num_read += num_events
        rest = data[len(data) - num_left :]
        whole = head + data[: len(data) - num_left]
        yield event_stream.decode_event_stream(whole, sensor_size=reading.sensor_size, state=state, place=path.name)
    event_stream.refuse_rest(len(rest), num_read, path.name)


def _npy(path: Path, reading: Reading, piece_bytes: int) -> Iterator[Events]:
    with path.open("rb") as file:
        shape, is_fortran, dtype = read_npy_header(file, path.stat().st_size, path.name)
        start = file.tell()
    sides = shape[1:]
    if is_fortran and len(shape) > 1:
        raise EventError(f"{path.name}: an array in Fortran order, which is not read in pieces; save it in C order")
    step = max(1, int(np.prod(sides, dtype=np.int64)) * dtype.itemsize)
    clock = Clock(WORD_RANGE)
    for chunk in _read_chunks(path, start, step, piece_bytes):
        array = np.frombuffer(chunk, dtype).reshape(-1, *sides)
        yield decode_array(array, reading.sensor_size, reading.columns, reading.unit, path.name, clock)


def _read_chunks(path: Path, start: int, step: int, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` on in multiples of `step` bytes; only the last chunk may hold a rest.

    The first chunk is yielded even where it is empty.

    Raises:
        EventError: The file cannot be read.
    """
    length = max(step, chunk_bytes - chunk_bytes % step)
    try:
        with path.open("rb") as file:
            file.seek(start)
            yield file.read(length)
            while chunk := file.read(length):
                yield chunk
    except OSError as broken:
        raise EventError(f"{path}: cannot be read ({broken.strerror or broken})") from broken
