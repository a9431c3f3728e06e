"""Prophesee recordings: `.dat` (N-CARS and others) and `.raw` (EVT 2, 2.1 and 3), events after a text header."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import DecoderReport, Events, SensorSize, validate_events
from tmkt_data.events.formats.clock import Clock
from tmkt_data.events.formats.percent_header import PercentHeader, read_percent_header
from tmkt_data.kernels.event_columns import EventColumns, empty_columns, first_events
from tmkt_data.spec import EvtVersion

DAT_EVENT_BYTES = 8
DAT_CLOCK_RANGE_US = 1 << 32
_DAT_TYPES = (0x00, 0x0C)
_DAT_EVENT = np.dtype([("t", "<u4"), ("data", "<u4")])

_BY_FORMAT: dict[str, EvtVersion] = {"evt2": "2.0", "evt21": "2.1", "evt3": "3.0"}
TIMELESS = "before the first time word"
"""Reason in `Events.num_dropped`."""
_TIME_HIGH = 8
_SEARCHED_WORDS = 4096
_TYPES_21 = np.array([0, 1, 8, 10, 14, 15], np.uint64)
_WORDS: dict[EvtVersion, np.dtype[np.unsignedinteger]] = {
    "2.0": np.dtype("<u4"),
    "2.1": np.dtype("<u8"),
    "3.0": np.dtype("<u2"),
}


def decode_dat(
    data: bytes, *, sensor_size: SensorSize | None = None, clock: Clock | None = None, place: str = "dat bytes"
) -> Events:
    r"""Decode a `.dat` file.

    Args:
        data: The file: a header, a byte for the type of the events (0x00 or 0x0C), a byte for their size, then events.
        sensor_size: Size of the sensor; None takes the declared one, if there is one. Events outside are dropped.
        clock: Clock of `DAT_CLOCK_RANGE_US` that earlier pieces of the file have advanced; updated. None: a new one.
        place: Prefix of error messages.

    Returns:
        The validated record. Times are unwrapped where their 32 bits wrap; the time of a header line `T0` is added.
        Events whose polarity is neither 0 nor 1 are dropped and counted.

    Raises:
        EventError: Another type or size of events, or the last event is cut off.

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
    if kind not in _DAT_TYPES or size != DAT_EVENT_BYTES:
        raise EventError(
            f"{place}: events of type {kind:#04x} and {size} bytes, expected 0x00 or 0x0c and {DAT_EVENT_BYTES}; "
            "other streams than change detection are not read"
        )
    num_events = whole_dat_events(len(data) - start, place)
    events = np.frombuffer(data, _DAT_EVENT, offset=start)
    kept = events["data"] >> 28 <= 1
    num_strange = num_events - int(np.count_nonzero(kept))
    events = events[kept] if num_strange else events
    packed = events["data"]
    clock = clock or Clock(DAT_CLOCK_RANGE_US)
    return validate_events(
        clock.unwrap(events["t"].astype(np.int64)) + (header.number("t0") or 0),
        (packed & 0x3FFF).astype(np.uint16),
        (packed >> 14 & 0x3FFF).astype(np.uint16),
        (packed >> 28).astype(np.bool_),
        sensor_size=sensor_size or header.sensor_size,
        report=DecoderReport(place, num_events, {"polarity neither 0 nor 1": num_strange}, clock.num_new_wraps),
    )


def whole_dat_events(num_bytes: int, place: str) -> int:
    """Return the number of events in `num_bytes` after the header.

    Raises:
        EventError: The last event is cut off.
    """
    num_events, rest = divmod(num_bytes, DAT_EVENT_BYTES)
    if rest:
        raise EventError(
            f"{place}: {rest} bytes left after {num_events} whole events of {DAT_EVENT_BYTES} bytes; "
            "the file is truncated, fetch it again"
        )
    return num_events


def decode_evt(
    data: bytes,
    *,
    sensor_size: SensorSize | None = None,
    state: NDArray[np.int64] | None = None,
    is_swapped: bool | None = None,
    place: str = "raw bytes",
) -> Events:
    r"""Decode a `.raw` file.

    Times are unwrapped where their upper part wraps. In EVT 3 the lower part of a time may lag behind the upper one for
    a moment; such events keep the time that the words state, and are sorted. Events before the first word with the
    upper part of a time have no time: they are dropped and counted. Triggers and other words are skipped. Words of
    EVT 2.1 are little-endian or have their upper half first (`legacy`); where the header does not say which, the types
    of the words do.

    Args:
        data: The file.
        sensor_size: Size of the sensor; None takes the declared one, if there is one. Events outside are dropped.
        state: What the words of earlier pieces of the file have set, see `new_evt_state`; updated. None: a new one.
        is_swapped: Whether words of EVT 2.1 have their upper half first, see `find_swapped`; None finds out.
        place: Prefix of error messages.

    Raises:
        EventError: A header without a version, another version, or the last word is cut off.

    Source: Prophesee, "Event stream encoding formats" (EVT 2.0, 2.1 and 3.0).

    Example:
        >>> words = "01000080 02080019 04180009 4e000080 dff91312"
        >>> events = decode_evt(b"% evt 2.0\n% geometry 640x480\n" + bytes.fromhex(words))
        >>> events.to_array().tolist()
        [(100, 1, 2, True), (100, 3, 4, False), (5000, 639, 479, True)]
    """
    header, version, dtype = read_evt_start(data, place)
    check_evt_words(len(data) - header.size, dtype.itemsize, place)
    words = np.frombuffer(data, dtype, offset=header.size)
    if version == "2.1" and is_swapped is None:
        is_swapped = find_swapped(header, [words], place)
    if version == "2.1" and is_swapped:
        words = (words >> np.uint64(32)) | (words << np.uint64(32))
    state = new_evt_state() if state is None else state
    num_before = _num_wraps(state, version)
    num_timeless, words = _skip_timeless(words, version, state)
    columns, num_beyond = _decode(words, version, state)
    num_wraps = _num_wraps(state, version) - num_before
    dropped = {TIMELESS: num_timeless, "beyond the largest column": num_beyond}
    report = DecoderReport(place, len(columns[0]) + sum(dropped.values()), dropped, num_wraps)
    return validate_events(*columns, sensor_size=sensor_size or header.sensor_size, report=report)


def decode_evt_start(data: bytes) -> Events:
    """Decode the first bytes of a `.raw` file, up to the last whole word; errors as `decode_evt`."""
    header, _, dtype = read_evt_start(data, "raw bytes")
    return decode_evt(data[: len(data) - (len(data) - header.size) % dtype.itemsize])


def new_evt_state() -> NDArray[np.int64]:
    """Return the state before the first word of a file: no time, no row, no base column."""
    from tmkt_data.kernels.decode import EVT_STATE_SIZE

    # Behind what kernels use: whether there has been a time word.
    return np.zeros(EVT_STATE_SIZE + 1, np.int64)


def _skip_timeless(
    words: NDArray[np.unsignedinteger], version: EvtVersion, state: NDArray[np.int64]
) -> tuple[int, NDArray[np.unsignedinteger]]:
    """Return the number of events before the first time word of a file, and the words from there on."""
    if state[-1]:
        return 0, words
    shift = words.dtype.type(8 * words.dtype.itemsize - 4)
    first = len(words)
    for start in range(0, len(words), _SEARCHED_WORDS):
        found = np.flatnonzero(words[start : start + _SEARCHED_WORDS] >> shift == _TIME_HIGH)
        if len(found):
            first = start + int(found[0])
            state[-1] = 1
            break
    # Decoded all the same, as rows and base columns hold on.
    columns, num_beyond = _decode(words[:first], version, state) if first else ((), 0)
    return len(columns[0]) + num_beyond if columns else 0, words[first:]


def _num_wraps(state: NDArray[np.int64], version: EvtVersion) -> int:
    # The upper part of a time has 12 bits in EVT 3, 28 otherwise.
    return int(state[1]) >> (12 if version == "3.0" else 28)


def check_evt_words(num_bytes: int, word_bytes: int, place: str) -> None:
    """Refuse a file whose last word is cut off.

    Args:
        num_bytes: Bytes after the header.
        word_bytes: Bytes of a word.
        place: Prefix of error messages.

    Raises:
        EventError: It is.
    """
    if num_bytes % word_bytes:
        raise EventError(
            f"{place}: {num_bytes} bytes after the header, expected whole words of {word_bytes}; the file is "
            "truncated, fetch it again"
        )


def read_evt_start(data: bytes, place: str) -> tuple[PercentHeader, EvtVersion, np.dtype[np.unsignedinteger]]:
    """Return the header of a `.raw` file, its version and the type of its words; errors as `decode_evt`."""
    header = read_percent_header(data)
    named = next((line[4:].strip() for line in header.lines if line.startswith("evt ")), None)
    found = named or _BY_FORMAT.get(header.format_parts.get("format", ""), header.format_parts.get("format"))
    order = header.byte_order
    if order not in (None, "little") and not (order == "legacy" and found == "2.1"):
        raise EventError(f"{place}: words of byte order {order!r}, expected little; record it anew")
    for version, dtype in _WORDS.items():
        if found == version:
            return header, version, dtype
    raise EventError(
        f"{place}: found {f'EVT {found}' if found else 'no line % evt'} in the header, expected EVT "
        f"{', '.join(_WORDS)}; is it a .raw file of Prophesee?"
    )


def find_swapped(header: PercentHeader, words: Iterable[NDArray[np.unsignedinteger]], place: str) -> bool:
    """Return whether the upper half of each word of EVT 2.1 comes first, as some cameras write it.

    Args:
        header: The header.
        words: All words of the file, in pieces; used only where the header does not say it.
        place: Prefix of error messages.

    Raises:
        EventError: The header does not say it, and the types of the words fit neither order.
    """
    if (order := header.byte_order) is not None:
        return order == "legacy"
    fitting = {False: 60, True: 28}
    for piece in words:
        for is_swapped, shift in list(fitting.items()):
            if not np.isin(piece >> np.uint64(shift) & np.uint64(0xF), _TYPES_21).all():
                del fitting[is_swapped]
    if not fitting:
        raise EventError(f"{place}: words of types that EVT 2.1 does not have; the file is damaged, fetch it again")
    return next(iter(fitting))


def _decode(
    words: NDArray[np.unsignedinteger], version: EvtVersion, state: NDArray[np.int64]
) -> tuple[EventColumns, int]:
    from tmkt_data.kernels import decode as kernels

    count: Callable[[Any], int]
    fill: Callable[..., int]
    match version:
        case "2.0":
            count, fill = kernels.count_evt2, kernels.decode_evt2
        case "2.1":
            count, fill = kernels.count_evt21, kernels.decode_evt21
        case "3.0":
            count, fill = kernels.count_evt3, kernels.decode_evt3
    num_events = count(words)
    columns = empty_columns(num_events)
    num_written = fill(words, state, columns)
    return first_events(columns, num_written), num_events - num_written
