"""Prophesee `.dat` recordings: N-CARS and others. Eight bytes an event below a text header."""

from __future__ import annotations

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events, SensorSize, validate_events
from tmkt_data.events.formats.clock import Clock
from tmkt_data.events.formats.percent_header import read_percent_header

BYTES_PER_EVENT = 8
CLOCK_RANGE_US = 1 << 32
_TYPES = (0x00, 0x0C)
_EVENT = np.dtype([("t", "<u4"), ("data", "<u4")])


def decode_dat(
    data: bytes, *, sensor_size: SensorSize | None = None, clock: Clock | None = None, place: str = "dat bytes"
) -> Events:
    r"""Decode a `.dat` file.

    Args:
        data: The file: lines that start with a percent sign, a byte for the type (0x00 or 0x0C) and one for the size of
            an event, then events.
        sensor_size: Size of the sensor; None takes the declared one, if there is one. Events outside are dropped.
        clock: What earlier pieces of the file have left, of `CLOCK_RANGE_US`; carried on. None begins anew.
        place: What the message of an error starts with.

    Returns:
        The validated record. Times are unwrapped where their 32 bits have gone round; one that the header sets off by
        a line `T0` is added back. Events whose polarity is
        neither 0 nor 1 are dropped and counted.

    Raises:
        EventError: Another type or size of events, or no whole number of them.

    Source: Prophesee, "DAT file format".

    Example:
        >>> events = decode_dat(b"% Version 2\n" + bytes.fromhex("0c08 64000000 01800010 88130000 7fc27710"))
        >>> events.to_array().tolist()
        [(100, 1, 2, True), (5000, 639, 479, True)]
    """
    header = read_percent_header(data)
    start = header.size + 2
    if len(data) < start:
        raise EventError(f"{place}: no data after the header, expected the type of the events; the file is truncated")
    kind, size = data[header.size], data[header.size + 1]
    if kind not in _TYPES or size != BYTES_PER_EVENT:
        raise EventError(
            f"{place}: events of type {kind:#04x} and {size} bytes, expected 0x00 or 0x0c and {BYTES_PER_EVENT}; "
            "other streams than change detection are not read"
        )
    num_events = whole_events(len(data) - start, place)
    events = np.frombuffer(data, _EVENT, offset=start)
    packed = events["data"]
    polarity = packed >> 28
    kept = polarity <= 1
    num_strange = num_events - int(np.count_nonzero(kept))
    if num_strange:
        events, packed, polarity = events[kept], packed[kept], polarity[kept]
    clock = clock or Clock(CLOCK_RANGE_US)
    num_before = clock.num_wraps
    return validate_events(
        clock.unwrap(events["t"].astype(np.int64)) + (header.number("t0") or 0),
        (packed & 0x3FFF).astype(np.uint16),
        (packed >> 14 & 0x3FFF).astype(np.uint16),
        polarity.astype(np.bool_),
        sensor_size=sensor_size or header.sensor_size,
        num_read=num_events,
        num_dropped={"polarity neither 0 nor 1": num_strange} if num_strange else {},
        num_wraps=clock.num_wraps - num_before,
        place=place,
    )


def whole_events(num_bytes: int, place: str) -> int:
    """Return how many events `num_bytes` behind the header are.

    Raises:
        EventError: No whole number of them.
    """
    num_events, rest = divmod(num_bytes, BYTES_PER_EVENT)
    if rest:
        raise EventError(
            f"{place}: {rest} bytes left after {num_events} whole events of {BYTES_PER_EVENT} bytes; "
            "the file is truncated, fetch it again"
        )
    return num_events
