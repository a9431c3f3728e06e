"""AEDAT4 recordings, through the package `aedat`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events import EVENT_DTYPE, EventArray, Events, SensorSize, validate_events
from tmkt_data.io.files import read_bytes

MAGIC = b"#!AER-DAT4.0\r\n"


def load_aedat4(path: Path, sensor_size: SensorSize | None = None) -> Events:
    """Read the first event stream of an AEDAT4 file into the validated record.

    Args:
        path: The file.
        sensor_size: Size of the sensor; None takes the one that the stream declares. Events outside are dropped.

    Raises:
        EventError: As `read_aedat4`.
    """
    events, declared = read_aedat4(path)
    columns = (np.ascontiguousarray(events[name]) for name in "txyp")
    return validate_events(*columns, sensor_size=sensor_size or declared, place=path.name)


def read_aedat4(path: Path) -> tuple[EventArray, SensorSize]:
    """Read all events of the first event stream of an AEDAT4 file, in file order and file time.

    Returns:
        Events, shape (N,), `tmkt_data.EVENT_DTYPE`, with absolute microseconds, owned by the caller; and the size of
        the sensor that the stream declares.

    Raises:
        EventError: The file is missing, no AEDAT4, cut off, without events, or the package `aedat` is not installed.
    """
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
        packets = [packet["events"] for packet in decoder if first is not None and packet["stream_id"] == first]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as broken:
        # aedat raises RuntimeError and others on damaged files, and panics, which are no Exception, on some.
        raise EventError(f"{path.name}: no readable AEDAT4 file ({broken}); fetch it again") from broken
    if first is None or not packets:
        raise EventError(f"{path.name}: no event stream with events, expected one; fetch it again")
    events = np.empty(sum(len(packet) for packet in packets), EVENT_DTYPE)
    for name, column in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        events[name] = np.concatenate([packet[column] for packet in packets])
    return events, SensorSize(about[first]["width"], about[first]["height"])


def _check_start(path: Path) -> None:
    """Refuse what is no AEDAT4 file, or ends within its header.

    Raises:
        EventError: Such a file.
    """
    data = read_bytes(path, limit=len(MAGIC) + 4)
    if not data.startswith(MAGIC):
        raise EventError(f"{path.name}: starts with {data[:12]!r}, expected an AEDAT4 file; fetch it again")
    header_bytes = int.from_bytes(data[len(MAGIC) :], "little")
    found = max(path.stat().st_size - len(MAGIC) - 4, 0)
    if not 8 <= header_bytes <= found:
        raise EventError(
            f"{path.name}: header of {header_bytes} bytes, found {found}; the file is truncated, fetch it again"
        )
