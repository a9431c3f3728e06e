"""Prophesee `.raw` recordings: EVT 2, EVT 2.1 and EVT 3."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events, SensorSize, validate_events
from tmkt_data.events.formats.percent_header import PercentHeader, read_percent_header
from tmkt_data.kernels.event_columns import EventColumns, empty_columns, first_events

EvtVersion = Literal["2.0", "2.1", "3.0"]
_BY_FORMAT: dict[str, EvtVersion] = {"evt2": "2.0", "evt21": "2.1", "evt3": "3.0"}
_TYPES_21 = np.array([0, 1, 8, 10, 14, 15], np.uint64)
_WORDS: dict[EvtVersion, np.dtype[np.unsignedinteger]] = {
    "2.0": np.dtype("<u4"),
    "2.1": np.dtype("<u8"),
    "3.0": np.dtype("<u2"),
}


def decode_evt(
    data: bytes,
    *,
    sensor_size: SensorSize | None = None,
    state: NDArray[np.int64] | None = None,
    is_swapped: bool | None = None,
    place: str = "raw bytes",
) -> Events:
    r"""Decode a `.raw` file.

    Times are unwrapped where their upper part has gone round. In EVT 3 the lower part of a time lags behind the upper
    one for a moment; such events are kept with the time that the words say and put in order. Events before the first
    time word count from 0. Triggers and other words are passed over. EVT 2.1 has its words whole or with the upper half
    first (`legacy`); where the header does not say which, the types of the words do.

    Args:
        data: The file.
        sensor_size: Size of the sensor; None takes the declared one, if there is one. Events outside are dropped.
        state: What the words of an earlier piece of the file have left, see `new_state`; carried on. None begins anew.
        is_swapped: Whether the words of EVT 2.1 have their upper half first, see `find_swapped`; None looks here.
        place: What the message of an error starts with.

    Raises:
        EventError: A header without a version, another version, or no whole number of words.

    Source: Prophesee, "Event stream encoding formats" (EVT 2.0, 2.1 and 3.0).

    Example:
        >>> words = "01000080 02080019 04180009 4e000080 dff91312"
        >>> events = decode_evt(b"% evt 2.0\n% geometry 640x480\n" + bytes.fromhex(words))
        >>> events.to_array().tolist()
        [(100, 1, 2, True), (100, 3, 4, False), (5000, 639, 479, True)]
    """
    header, version, kind = read_start(data, place)
    check_words(len(data) - header.size, kind.itemsize, place)
    words = np.frombuffer(data, kind, offset=header.size)
    if version == "2.1" and is_swapped is None:
        is_swapped = find_swapped(header, [words], place)
    if version == "2.1" and is_swapped:
        words = (words >> np.uint64(32)) | (words << np.uint64(32))
    state = new_state() if state is None else state
    num_before = _num_wraps(state, version)
    columns, num_beyond = _decode(words, version, state)
    dropped = {"beyond the largest column": num_beyond} if num_beyond else {}
    return validate_events(
        *columns,
        sensor_size=sensor_size or header.sensor_size, num_read=len(columns[0]) + num_beyond, num_dropped=dropped,
        num_wraps=_num_wraps(state, version) - num_before, place=place,
    )  # fmt: skip


def new_state() -> NDArray[np.int64]:
    """Return what stands before the first word of a file: no time, no row, no base."""
    from tmkt_data.kernels.decode import EVT_STATE_SIZE

    return np.zeros(EVT_STATE_SIZE, np.int64)


def _num_wraps(state: NDArray[np.int64], version: EvtVersion) -> int:
    """Return how often the upper part of the time, of 28 bits or 12 in EVT 3, has gone round."""
    return int(state[1]) >> (12 if version == "3.0" else 28)


def check_words(num_bytes: int, word_bytes: int, place: str) -> None:
    """Refuse bytes behind the header that are no whole number of words.

    Raises:
        EventError: Such bytes.
    """
    if num_bytes % word_bytes:
        raise EventError(
            f"{place}: {num_bytes} bytes after the header, expected whole words of {word_bytes}; the file is "
            "truncated, fetch it again"
        )


def read_start(data: bytes, place: str) -> tuple[PercentHeader, EvtVersion, np.dtype[np.unsignedinteger]]:
    """Return the header of a `.raw` file, its version and the type of its words; errors as `decode_evt`."""
    header = read_percent_header(data)
    version = _version(header, place)
    return header, version, _WORDS[version]


def _version(header: PercentHeader, place: str) -> EvtVersion:
    named = next((line[4:].strip() for line in header.lines if line.startswith("evt ")), None)
    found = named or _BY_FORMAT.get(header.format_parts.get("format", ""), header.format_parts.get("format"))
    order = _order(header)
    if order not in (None, "little") and not (order == "legacy" and found == "2.1"):
        raise EventError(f"{place}: words of byte order {order!r}, expected little; record it anew")
    for version in _WORDS:
        if found == version:
            return version
    raise EventError(
        f"{place}: found {f'EVT {found}' if found else 'no line % evt'} in the header, expected EVT "
        f"{', '.join(_WORDS)}; is it a .raw file of Prophesee?"
    )


def _order(header: PercentHeader) -> str | None:
    line = next((line.split(None, 1)[1] for line in header.lines if line.startswith("endianness ")), None)
    return line or header.format_parts.get("endianness")


def find_swapped(header: PercentHeader, words: Iterable[NDArray[np.unsignedinteger]], place: str) -> bool:
    """Say whether the upper half of each word of EVT 2.1 comes first, as some cameras send it.

    Args:
        header: The header.
        words: All words of the file, in pieces; looked at only where the header does not say it.
        place: What the message of an error starts with.

    Raises:
        EventError: The header does not say it, and the types of the words fit neither order.
    """
    if (order := _order(header)) is not None:
        return order == "legacy"
    fitting = {False: 60, True: 28}
    for piece in words:
        for is_swapped, shift in list(fitting.items()):
            if not np.isin(piece >> np.uint64(shift) & np.uint64(0xF), _TYPES_21).all():
                del fitting[is_swapped]
    if not fitting:
        raise EventError(f"{place}: types that are none in EVT 2.1, expected words of 64 bits; the file is damaged")
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
    num = count(words)
    columns = empty_columns(num)
    written = fill(words, state, columns)
    return first_events(columns, written), num - written
