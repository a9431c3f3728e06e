"""AEDAT4 recordings, through the package `aedat`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.events import EVENT_DTYPE, DecoderReport, EventArray, Events, SensorSize, validate_events
from tmkt_data.files import read_bytes

MAGIC = b"#!AER-DAT4.0\r\n"


def load_aedat4(path: Path, sensor_size: SensorSize | None = None) -> Events:
    """Read the first event stream of an AEDAT4 file into the validated record.

    Args:
        path: The file.
        sensor_size: Size of the sensor; None takes the declared one. Events outside are dropped.

    Raises:
        EventError: As `read_aedat4`.
    """
    events, declared = read_aedat4(path)
    return _validated(events, sensor_size or declared, path.name)


def read_aedat4(path: Path) -> tuple[EventArray, SensorSize]:
    """Read all events of the first event stream of an AEDAT4 file, in file order and file time.

    Returns:
        Events, shape (N,), `tmkt_data.EVENT_DTYPE`, with absolute microseconds, owned by the caller; and the sensor
        size that the stream declares.

    Raises:
        EventError: The file is missing, no AEDAT4, truncated, without events, or the package `aedat` is not installed.
    """
    packets: list[Any] = []
    size = SensorSize(1, 1)
    for size, packet in _event_packets(path):  # noqa: B007 - all packets have the same size
        packets.append(packet)
    if not packets:
        raise EventError(f"{path.name}: no event stream with events, expected one; fetch it again")
    return _joined(packets), size


def aedat4_pieces(path: Path, sensor_size: SensorSize | None, num_events: int) -> Iterator[Events]:
    """Read the first event stream in pieces of about `num_events`; arguments and errors as `load_aedat4`."""
    held: list[Any] = []
    count = 0
    size = sensor_size or SensorSize(1, 1)
    for declared, packet in _event_packets(path):
        size = sensor_size or declared
        held.append(packet)
        count += len(packet)
        if count >= num_events:
            yield _validated(_joined(held), size, path.name)
            held, count = [], 0
    if held:
        yield _validated(_joined(held), size, path.name)


def _validated(events: EventArray, size: SensorSize, place: str) -> Events:
    columns = (np.ascontiguousarray(events[name]) for name in "txyp")
    return validate_events(*columns, sensor_size=size, report=DecoderReport(place))


def _joined(packets: list[Any]) -> EventArray:
    events = np.empty(sum(len(packet) for packet in packets), EVENT_DTYPE)
    for name, column in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        events[name] = np.concatenate([packet[column] for packet in packets])
    return events


def _event_packets(path: Path) -> Iterator[tuple[SensorSize, Any]]:
    """Yield the size of the first event stream and each of its packets."""
    try:
        import aedat
    except ImportError as missing:
        raise EventError(
            f"{path.name}: AEDAT4 needs the package aedat; install it with: pip install 'tmkt[aedat4]'"
        ) from missing
    _check_start(path)
    try:
        decoder = aedat.Decoder(str(path))
        about = {n: stream for n, stream in sorted(decoder.id_to_stream().items()) if stream["type"] == "events"}
        first = next(iter(about), None)
        for packet in decoder:
            if first is not None and packet["stream_id"] == first:
                yield SensorSize(about[first]["width"], about[first]["height"]), packet["events"]
    except (KeyboardInterrupt, SystemExit, GeneratorExit, EventError):
        raise
    except BaseException as broken:
        # On damaged files aedat raises RuntimeError and others, and panics, which do not derive from Exception.
        raise EventError(f"{path.name}: no readable AEDAT4 file ({broken}); fetch it again") from broken


def _check_start(path: Path) -> None:
    """Refuse a file that is no AEDAT4, or ends within its header."""
    data = read_bytes(path, limit=len(MAGIC) + 4)
    if not data.startswith(MAGIC):
        raise EventError(f"{path.name}: starts with {data[:12]!r}, expected an AEDAT4 file; fetch it again")
    header_bytes = int.from_bytes(data[len(MAGIC) :], "little")
    found = max(path.stat().st_size - len(MAGIC) - 4, 0)
    if not 8 <= header_bytes <= found:
        raise EventError(
            f"{path.name}: header of {header_bytes} bytes, found {found}; the file is truncated, fetch it again"
        )
