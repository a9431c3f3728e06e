"""The pieces of a recording as they stand in its file: decoded one after the other, what carries on carried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events
from tmkt_data.events.formats import aedat2, atis, dat, event_stream, evt
from tmkt_data.events.formats.aedat3 import END, PACKET_HEAD_BYTES, decode_aedat3, packet_bytes
from tmkt_data.events.formats.aedat4 import aedat4_pieces
from tmkt_data.events.formats.arrays import CLOCK_RANGE, decode_array
from tmkt_data.events.formats.clock import Clock
from tmkt_data.events.formats.npy import read_npy_header
from tmkt_data.events.formats.npz_pieces import npz_pieces
from tmkt_data.events.formats.percent_header import read_percent_header
from tmkt_data.events.read import Reading, recognize
from tmkt_data.files import read_bytes, read_chunks

_HEADER_LIMIT = 4 << 20
_LARGEST_PACKET = 256 << 20
_BYTES_PER_EVENT = 16
"""What an event takes in memory, about, for formats whose pieces are counted in events."""


def decode_pieces(path: Path, given: Reading, piece_bytes: int) -> Iterator[Events]:
    """Decode a recording piece by piece; arguments and errors as `pieces.read_pieces`.

    Yields:
        Records in the order of the file, each in order of time.
    """
    start = read_bytes(path, limit=_HEADER_LIMIT)
    size, place = given.sensor_size, path.name
    num_events = max(1, piece_bytes // _BYTES_PER_EVENT)
    match recognize(start[: 1 << 16], path):
        case "atis":
            yield from _atis(path, given, piece_bytes)
        case "dat":
            yield from _dat(path, given, start, piece_bytes)
        case "evt":
            yield from _evt(path, given, start, piece_bytes)
        case "aedat2":
            yield from _aedat2(path, given, start, piece_bytes)
        case "aedat3":
            yield from _aedat3(path, given, start, piece_bytes)
        case "aedat4":
            yield from aedat4_pieces(path, size, num_events)
        case "es":
            yield from _event_stream(path, given, start, piece_bytes)
        case "npy":
            yield from _npy(path, given, piece_bytes)
        case "npz":
            yield from npz_pieces(path, num_events, sensor_size=size, unit=given.unit)
        case "hdf5":
            from tmkt_data.events.formats.hdf5 import hdf5_pieces

            yield from hdf5_pieces(path, num_events, sensor_size=size, keys=given.keys, unit=given.unit)
        case "mat":
            raise EventError(f"{place}: MATLAB 5 files are not read in pieces; save it with -v7.3, which is")


def _atis(path: Path, given: Reading, piece_bytes: int) -> Iterator[Events]:
    atis.whole_events(path.stat().st_size, path.name)
    clock = Clock(atis.CLOCK_RANGE_US)
    for chunk in read_chunks(path, 0, atis.BYTES_PER_EVENT, piece_bytes):
        yield atis.decode_atis(chunk, sensor_size=given.sensor_size, clock=clock, place=path.name)


def _dat(path: Path, given: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    head = start[: read_percent_header(start).size + 2]
    dat.whole_events(path.stat().st_size - len(head), path.name)
    clock = Clock(dat.CLOCK_RANGE_US)
    for chunk in read_chunks(path, len(head), dat.BYTES_PER_EVENT, piece_bytes):
        yield dat.decode_dat(head + chunk, sensor_size=given.sensor_size, clock=clock, place=path.name)


def _event_stream(path: Path, given: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    head = start[: event_stream.HEADER_BYTES]
    state = np.zeros(1, np.int64)
    num_read, rest = 0, b""
    for chunk in read_chunks(path, len(head), 1, piece_bytes):
        data = rest + chunk
        num_events, num_left = event_stream.count_events(data)
        num_read += num_events
        rest = data[len(data) - num_left :]
        yield event_stream.decode_event_stream(
            head + data[: len(data) - num_left], sensor_size=given.sensor_size, state=state, place=path.name
        )
    event_stream.refuse_rest(len(rest), num_read, path.name)


def _aedat3(path: Path, given: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    head = start[: max(start.find(END), 0) + len(END)]
    num_before = 0
    for chunk in _packets(path, len(head), piece_bytes):
        yield decode_aedat3(head + chunk, sensor_size=given.sensor_size, num_before=num_before, place=path.name)
        num_before += len(chunk)


def _evt(path: Path, given: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    header, version, kind = evt.read_start(start, path.name)
    evt.check_words(path.stat().st_size - header.size, kind.itemsize, path.name)

    def chunks() -> Iterator[bytes]:
        # A word may hold up to 32 events.
        return read_chunks(path, header.size, kind.itemsize, max(kind.itemsize, piece_bytes // 4))

    is_swapped = None
    if version == "2.1":
        is_swapped = evt.find_swapped(header, (np.frombuffer(chunk, kind) for chunk in chunks()), path.name)
    state = evt.new_state()
    # A later piece may begin like another line of the header.
    head = start[: header.size] + (b"" if header.lines[-1] == "end" else b"% end\n")
    for chunk in chunks():
        yield evt.decode_evt(
            head + chunk,
            sensor_size=given.sensor_size, state=state, is_swapped=is_swapped, place=path.name,
        )  # fmt: skip


def _aedat2(path: Path, given: Reading, start: bytes, piece_bytes: int) -> Iterator[Events]:
    num_bytes, head = aedat2.read_header(start)
    aedat2.whole_words(path.stat().st_size - num_bytes, path.name)
    clock = Clock(aedat2.CLOCK_RANGE_US)
    for chunk in read_chunks(path, num_bytes, aedat2.BYTES_PER_WORD, piece_bytes):
        yield aedat2.decode_aedat2(
            head + chunk,
            sensor_size=given.sensor_size, orientation=given.orientation, chip=given.chip, clock=clock, place=path.name,
        )  # fmt: skip


def _packets(path: Path, start: int, piece_bytes: int) -> Iterator[bytes]:
    """Yield whole AEDAT 3.1 packets; what is wrong with them is left to the decoder to say."""
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


def _npy(path: Path, given: Reading, piece_bytes: int) -> Iterator[Events]:
    with path.open("rb") as file:
        shape, fortran, dtype = read_npy_header(file, path.stat().st_size, path.name)
        start = file.tell()
    sides = shape[1:]
    if fortran and len(shape) > 1:
        raise EventError(f"{path.name}: columns one after the other, which are not read in pieces; save it as rows")
    step = max(1, int(np.prod(sides, dtype=np.int64)) * dtype.itemsize)
    clock = Clock(CLOCK_RANGE)
    for chunk in read_chunks(path, start, step, piece_bytes):
        array = np.frombuffer(chunk, dtype).reshape(-1, *sides)
        yield decode_array(array, given.sensor_size, given.columns, given.unit, path.name, clock)
