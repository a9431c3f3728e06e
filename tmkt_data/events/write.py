"""Write recordings in formats that other software reads: atomically, and without loss or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.events import EVENT_DTYPE, DecoderReport, EventArray, Events, SensorSize, validate_events
from tmkt_data.events.formats.atis import encode_atis
from tmkt_data.events.formats.npy import Member, write_npz
from tmkt_data.files import atomic_write
from tmkt_data.spec import WRITTEN_SUFFIXES

_AEDAT4_SIDE = (1 << 15) - 1
"""Largest side of a sensor in AEDAT4, where coordinates are signed integers of 16 bits."""
_IN_MEMORY_BYTES = 16 << 20
"""Columns up to this size are collected in memory, larger ones in temporary files beside the target."""

Pieces = Callable[[], Iterator[Events]]


def write_events(path: str | Path, events: EventArray | Events, *, sensor_size: SensorSize | None = None) -> None:
    """Write a recording; `read_events` returns the same events.

    Args:
        path: File to write. Its suffix selects the format: `.bin` and `.bs2` are ATIS, without a sensor size; `.npz`
            holds the arrays t, x, y, p and sensor_size (width, height); `.aedat4` needs the extra `tmkt[aedat4]`.
        events: The record, or an array of `tmkt_data.EVENT_DTYPE` in any order of time.
        sensor_size: Size of the sensor; None takes the size that the events carry, if there is one.

    Raises:
        EventError: An unknown suffix, another type of array, events that the format cannot hold, events outside the
            sensor, or a missing package. Nothing is written then.
        TmktError: The file cannot be written; an earlier one of that name is untouched.

    Example:
        >>> from tmkt_data.events.formats.atis import decode_atis
        >>> write_events("a.npz", decode_atis(bytes.fromhex("8302800006")))  # doctest: +SKIP
    """
    path = Path(path)
    record = _record_of(events, path.name)
    write_pieces(path, lambda: iter((record,)), sensor_size=sensor_size)


def write_pieces(path: str | Path, pieces: Pieces, *, sensor_size: SensorSize | None = None) -> None:
    """Write a recording that comes in pieces, as `read_pieces` yields them; errors as `write_events`.

    Args:
        path: File to write.
        pieces: Returns a new iterator over the events at each call; AEDAT4 without a sensor size needs two calls.
        sensor_size: As in `write_events`.
    """
    path, sensor_size = Path(path), None if sensor_size is None else SensorSize(*sensor_size)
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise EventError(f"{path.name}: found {found}, expected one of {', '.join(WRITTEN_SUFFIXES)} to write")

    def checked() -> Iterator[Events]:
        for events in pieces():
            _check_extent(events, sensor_size or events.sensor_size, path.name)
            yield events

    with atomic_write(path) as file:
        match path.suffix.lower():
            case ".npz":
                _write_npz(file, checked(), sensor_size, path)
            case ".aedat4":
                _write_aedat4(file, checked, sensor_size, path.name)
            case _:
                _write_atis(file, checked(), path.name)


def _record_of(events: EventArray | Events, place: str) -> Events:
    if isinstance(events, Events):
        return events
    if isinstance(events, np.ndarray) and events.dtype == EVENT_DTYPE:
        return validate_events(*(np.ascontiguousarray(events[name]) for name in "txyp"), report=DecoderReport(place))
    found = getattr(events, "dtype", type(events).__name__)
    raise EventError(f"{place}: found {found}, expected the dtype {EVENT_DTYPE} or a record of events")


def _check_extent(events: Events, size: SensorSize | None, place: str) -> None:
    if size is None or not len(events):
        return
    _, _, x_last, y_last = events.extent
    if x_last >= size.width or y_last >= size.height:
        raise EventError(
            f"{place}: events reach ({x_last}, {y_last}), the sensor is {size.width} x {size.height}; give the right "
            "size"
        )


def _write_atis(file: IO[bytes], pieces: Iterator[Events], place: str) -> None:
    if not sum(file.write(encode_atis(events, place=place)) for events in pieces):
        raise EventError(f"{place}: no events, an ATIS file holds one or more; write .npz")


def _write_npz(file: IO[bytes], pieces: Iterator[Events], size: SensorSize | None, path: Path) -> None:
    with ExitStack() as stack:
        room = str(path.parent)
        columns = {name: stack.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=room)) for name in "txyp"}
        count = 0
        for events in pieces:
            count += len(events)
            size = size or events.sensor_size
            for name, column in columns.items():
                column.write(getattr(events, name).data)
        members = [Member(name, (count,), EVENT_DTYPE[name], column) for name, column in columns.items()]
        if size is not None:
            sides = np.array(size, np.int64)
            members.append(Member("sensor_size", (2,), sides.dtype, io.BytesIO(sides.tobytes())))
        write_npz(file, members)


def _write_aedat4(file: IO[bytes], pieces: Pieces, size: SensorSize | None, place: str) -> None:
    try:
        import faery
        from faery.file_encoder import events_to_file
    except ImportError as missing:
        raise EventError(
            f"{place}: writing AEDAT4 needs the package faery; install it with: pip install 'tmkt[aedat4]'"
        ) from missing
    size = size or _size_of(pieces(), place)
    if max(size) > _AEDAT4_SIDE:
        raise EventError(
            f"{place}: a sensor of {size.width} x {size.height}, an AEDAT4 file holds sides of up to {_AEDAT4_SIDE:,}; "
            "write .npz, or give the right --sensor-size"
        )

    def arrays() -> Iterator[Any]:
        for events in pieces():
            if len(events) and events.t[0] < 0:
                raise EventError(f"{place}: t starts at {events.t[0]}, an AEDAT4 file holds 0 or more; shift the times")
            array = np.empty(len(events), faery.EVENTS_DTYPE)
            for name, column in zip(array.dtype.names, (events.t, events.x, events.y, events.p), strict=True):
                array[name] = column
            yield array

    try:
        events_to_file(arrays(), file.name, tuple(size), file_type="aedat", use_write_suffix=False)
    except (RuntimeError, ValueError, AssertionError) as broken:
        raise EventError(f"{place}: faery cannot write these events ({broken}); write .npz") from broken


def _size_of(pieces: Iterator[Events], place: str) -> SensorSize:
    """Return the size that a recording declares, or the smallest one that holds its events."""
    largest = (-1, -1)
    for events in pieces:
        if len(events):
            if events.sensor_size is not None:
                return events.sensor_size
            largest = (max(largest[0], events.extent[2]), max(largest[1], events.extent[3]))
    if largest[0] < 0:
        raise EventError(f"{place}: no events, an AEDAT4 file holds one or more; write .npz")
    return SensorSize(largest[0] + 1, largest[1] + 1)
