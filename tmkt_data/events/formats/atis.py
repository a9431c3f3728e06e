"""ATIS `.bin` and `.bs2` recordings: N-MNIST, N-Caltech101, SLAYER. Five bytes an event, no header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import OUTSIDE, DecoderReport, Events, SensorSize, validate_events
from tmkt_data.events.formats.clock import Clock
from tmkt_data.files import read_bytes, write_bytes
from tmkt_data.kernels.event_columns import empty_columns, first_events

BYTES_PER_EVENT = 5
ATIS_SIZE = SensorSize(256, 240)
"""Largest sensor: columns have 8 bits, rows run from 0 to 239."""
CLOCK_RANGE_US = 1 << 23
MAX_TIME_US = CLOCK_RANGE_US - 1


def read_atis(path: Path, sensor_size: SensorSize | None = None) -> Events:
    """Read one ATIS recording.

    Args:
        path: File of whole 5-byte events.
        sensor_size: Size of the sensor, which the format does not declare; None keeps up to 256 x 240.

    Returns:
        The validated record, in file time, unwrapped where its 23 bits wrap. Events outside the sensor are dropped and
        counted. An event with a row of 240 or more is one of them; it does not advance the time.

    Raises:
        EventError: The file is missing, empty, or does not hold a whole number of events.

    Source: Orchard et al., 2015, and the byte layout that `Read_Ndataset.m` of that dataset reads.
    """
    return decode_atis(read_bytes(path), sensor_size=sensor_size, place=path.name)


def decode_atis(
    data: bytes, *, sensor_size: SensorSize | None = None, clock: Clock | None = None, place: str = "ATIS bytes"
) -> Events:
    """Decode the bytes of one ATIS recording; see `read_atis`.

    Args:
        data: The file.
        sensor_size: As in `read_atis`.
        clock: Clock of `CLOCK_RANGE_US` that earlier pieces of the file have advanced; updated. None: a new one.
        place: Prefix of error messages.

    Returns:
        As `read_atis`.

    Raises:
        EventError: As `read_atis`.

    Example:
        >>> events = decode_atis(bytes.fromhex("8302800006 2121812345"))
        >>> events.to_array().tolist()
        [(6, 131, 2, True), (74565, 33, 33, True)]
    """
    from tmkt_data.kernels.decode import decode_atis as decode

    if not data:
        raise EventError(f"{place}: empty file, expected 5 bytes an event; fetch it again")
    num_events = whole_events(len(data), place)
    bounds = ATIS_SIZE if sensor_size is None else sensor_size
    columns = empty_columns(num_events)
    width, height = min(bounds.width, ATIS_SIZE.width), min(bounds.height, ATIS_SIZE.height)
    kept, outside, inversions = decode(np.frombuffer(data, np.uint8), width, height, columns)
    dropped = {OUTSIDE: outside} if outside else {}
    t, x, y, p = first_events(columns, kept)
    if clock is None and not inversions:
        return Events(t, x, y, p, sensor_size, num_events, dropped)
    clock = clock or Clock(CLOCK_RANGE_US)
    t = clock.unwrap(t)
    report = DecoderReport(place, num_events, dropped, clock.num_new_wraps)
    return validate_events(t, x, y, p, sensor_size=sensor_size, report=report)


def whole_events(num_bytes: int, place: str) -> int:
    """Return the number of events in a file of `num_bytes`.

    Raises:
        EventError: The last event is cut off.
    """
    num_events, rest = divmod(num_bytes, BYTES_PER_EVENT)
    if rest:
        raise EventError(
            f"{place}: {rest} bytes left after {num_events} whole events of {BYTES_PER_EVENT} bytes; "
            "the file is truncated or no ATIS recording, fetch it again"
        )
    return num_events


def encode_atis(events: Events, *, place: str = "events") -> bytes:
    """Encode events as ATIS bytes, which `decode_atis` decodes to the same events.

    Raises:
        EventError: A coordinate or time that the format cannot hold: x over 255, y over 239, t below 0 or over
            8 388 607 microseconds.
    """
    if len(events):
        limits = (
            ("x", events.x, ATIS_SIZE.width - 1),
            ("y", events.y, ATIS_SIZE.height - 1),
            ("t", events.t, MAX_TIME_US),
        )
        for name, column, largest in limits:
            if int(column.max()) > largest or int(column.min()) < 0:
                raise EventError(
                    f"{place}: {name} runs from {column.min()} to {column.max()}, an ATIS file holds 0 to {largest}; "
                    "write another format or shift the events"
                )
    out: NDArray[np.uint8] = np.empty((len(events), BYTES_PER_EVENT), np.uint8)
    out[:, 0] = events.x
    out[:, 1] = events.y
    out[:, 2] = (events.p.astype(np.int64) << 7) | (events.t >> 16)
    out[:, 3] = (events.t >> 8) & 0xFF
    out[:, 4] = events.t & 0xFF
    return out.tobytes()


def write_atis(path: Path, events: Events) -> None:
    """Write events as an ATIS recording, whole or not at all; errors as `encode_atis`."""
    write_bytes(path, encode_atis(events, place=path.name))
