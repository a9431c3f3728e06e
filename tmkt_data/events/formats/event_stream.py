"""Event Stream `.es` recordings of DVS events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import OUTSIDE, DecoderReport, Events, SensorSize, validate_events
from tmkt_data.kernels.event_columns import empty_columns, first_events

MAGIC = b"Event Stream"
HEADER_BYTES = 20
_TYPES = {0: "generic", 1: "dvs", 2: "atis", 3: "asynchronous & modular display", 4: "color"}
_DVS = 1


def decode_event_stream(
    data: bytes,
    *,
    sensor_size: SensorSize | None = None,
    state: NDArray[np.int64] | None = None,
    place: str = "es bytes",
) -> Events:
    """Decode an `.es` file of version 2 with DVS events.

    Args:
        data: The file.
        sensor_size: Size of the sensor; None takes the declared one. Events outside are dropped.
        state: Time after earlier pieces of the file, shape (1,), int64; updated. None starts at 0.
        place: Prefix of error messages.

    Returns:
        The validated record. Rows are flipped, as the file counts them from the bottom. Times count from 0.

    Raises:
        EventError: Another version or type of events, or the last event is cut off.

    Source: the Event Stream description, version 2.0.0, of the International Centre for Neuromorphic Systems.

    Example:
        >>> head = b"Event Stream" + bytes([2, 0, 0, 1]) + bytes([54, 0, 239, 0])
        >>> decode_event_stream(head + bytes([0xFF, (3 << 1) | 1, 7, 0, 230, 0])).to_array().tolist()
        [(130, 7, 8, True)]
    """
    from tmkt_data.kernels.decode import decode_es

    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise EventError(f"{place}: starts with {data[:12]!r}, expected {MAGIC!r} and a size; the file is truncated")
    version, kind = data[12:15], data[15]
    if version[0] != 2:
        raise EventError(f"{place}: version {version[0]}.{version[1]}.{version[2]}, expected 2; convert it first")
    if kind != _DVS:
        raise EventError(
            f"{place}: events of type {_TYPES.get(kind, kind)}, expected dvs; other types are not read, convert it to "
            "dvs or .dat"
        )
    width, height = (int.from_bytes(data[at : at + 2], "little") for at in (16, 18))
    num_events, rest = count_events(memoryview(data)[HEADER_BYTES:])
    refuse_rest(rest, num_events, place)
    columns = empty_columns(num_events)
    body = np.frombuffer(data, np.uint8, offset=HEADER_BYTES)
    kept = decode_es(body, height, np.zeros(1, np.int64) if state is None else state, columns)
    report = DecoderReport(place, num_events, {OUTSIDE: num_events - kept})
    size = sensor_size or SensorSize(width, height)
    return validate_events(*first_events(columns, kept), sensor_size=size, report=report)


def count_events(body: bytes | memoryview) -> tuple[int, int]:
    """Return the number of whole DVS events in bytes after the header, and the bytes of a last one that is cut off."""
    from tmkt_data.kernels.decode import count_es

    num_events, rest = count_es(np.frombuffer(body, np.uint8))
    return int(num_events), int(rest)


def refuse_rest(rest: int, num_events: int, place: str) -> None:
    """Refuse bytes that are left after the whole events.

    Raises:
        EventError: There are any.
    """
    if rest:
        raise EventError(
            f"{place}: {rest} bytes left after {num_events} whole events; the file is truncated, fetch it again"
        )
