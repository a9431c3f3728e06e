"""Write a recording in a format that others read: whole or not at all, and exact or refused."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events import EVENT_DTYPE, EventArray, Events, SensorSize, validate_events
from tmkt_data.io.atis import encode_atis
from tmkt_data.io.files import read_bytes, replace_file

WrittenSuffix = Literal[".bin", ".bs2", ".npz", ".aedat4"]
WRITTEN_SUFFIXES: tuple[WrittenSuffix, ...] = get_args(WrittenSuffix)


def write_events(path: str | Path, events: EventArray | Events, *, sensor_size: SensorSize | None = None) -> None:
    """Write a recording; `read_events` gives the same events back.

    Args:
        path: File to write. Its suffix names the format: `.bin` and `.bs2` are ATIS, without a sensor size; `.npz`
            holds the arrays t, x, y, p and sensor_size (width, height); `.aedat4` needs the extra `tmkt[aedat4]`.
        events: The record, or an array of `tmkt_data.EVENT_DTYPE` in any order of time.
        sensor_size: Size of the sensor, where the events carry none.

    Raises:
        EventError: Another suffix or another type of array, events that the format cannot hold, events outside the
            sensor, or a package that is missing. Nothing is written then.
        TmktError: The file cannot be written; an earlier one of that name is untouched.

    Example:
        >>> from tmkt_data.io.atis import decode_atis
        >>> write_events("a.npz", decode_atis(bytes.fromhex("8302800006")))  # doctest: +SKIP
    """
    path = Path(path)
    record = _record_of(events, sensor_size, path.name)
    match path.suffix.lower():
        case ".bin" | ".bs2":
            if not len(record):
                raise EventError(f"{path.name}: no events, an ATIS file holds one or more; write .npz")
            data = encode_atis(record, place=path.name)
        case ".npz":
            data = _encode_npz(record)
        case ".aedat4":
            data = _encode_aedat4(record, path.name)
        case _:
            found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
            raise EventError(f"{path.name}: found {found}, expected one of {', '.join(WRITTEN_SUFFIXES)} to write")
    replace_file(path, data)


def _record_of(events: EventArray | Events, sensor_size: SensorSize | None, place: str) -> Events:
    if isinstance(events, Events):
        size = sensor_size or events.sensor_size
        record = Events(events.t, events.x, events.y, events.p, size)
    elif isinstance(events, np.ndarray) and events.dtype == EVENT_DTYPE:
        record = validate_events(*(np.ascontiguousarray(events[name]) for name in "txyp"), place=place)
        record = Events(record.t, record.x, record.y, record.p, sensor_size)
    else:
        found = getattr(events, "dtype", type(events).__name__)
        raise EventError(f"{place}: found {found}, expected the dtype {EVENT_DTYPE} or a record of events")
    if record.sensor_size is not None and len(record):
        _, _, x_last, y_last = record.extent
        if x_last >= record.sensor_size.width or y_last >= record.sensor_size.height:
            raise EventError(
                f"{place}: events reach ({x_last}, {y_last}), the sensor is {record.sensor_size.width} x "
                f"{record.sensor_size.height}; give the right size"
            )
    return record


def _encode_npz(events: Events) -> bytes:
    columns: dict[str, NDArray[Any]] = {"t": events.t, "x": events.x, "y": events.y, "p": events.p}
    if events.sensor_size is not None:
        columns["sensor_size"] = np.array(events.sensor_size, np.int64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **columns)
    return buffer.getvalue()


def _encode_aedat4(events: Events, place: str) -> bytes:
    try:
        import faery
    except ImportError as missing:
        raise EventError(
            f"{place}: writing AEDAT4 needs the package faery; install it with: pip install 'tmkt[aedat4]'"
        ) from missing
    if not len(events):
        raise EventError(f"{place}: no events, an AEDAT4 file holds one or more; write .npz")
    if events.t[0] < 0:
        raise EventError(f"{place}: t starts at {events.t[0]}, an AEDAT4 file holds 0 or more; shift the times")
    size = events.sensor_size or SensorSize(events.extent[2] + 1, events.extent[3] + 1)
    array = np.empty(len(events), faery.EVENTS_DTYPE)
    for name, column in zip(array.dtype.names, (events.t, events.x, events.y, events.p), strict=True):
        array[name] = column
    with TemporaryDirectory(prefix="tmkt-") as folder:
        written = Path(folder) / "events.aedat4"
        faery.events_stream_from_array(array, dimensions=tuple(size)).to_file(written)
        return read_bytes(written)
