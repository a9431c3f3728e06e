"""Pick the reader of a recording: by content first, by suffix second."""

from __future__ import annotations

from pathlib import Path

from tmkt_data.errors import EventError
from tmkt_data.events import EventArray, Events, SensorSize
from tmkt_data.io.atis import decode_atis
from tmkt_data.io.files import read_bytes
from tmkt_data.io.matlab import HDF5_MAGIC, MAGIC, decode_matlab

_FOREIGN_STARTS = {
    b"#!AER-DAT": "AEDAT",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"PK\x03\x04": "npz or zip",
    b"\x93NUMPY": "npy",
    b"Event Stream": "Event Stream",
    # With its third byte, deflate: a recording may well start with an event at (31, 139).
    b"\x1f\x8b\x08": "gzip",
}
_ATIS_SUFFIXES = (".bin", ".bs2")


def read_events(path: str | Path, *, sensor_size: SensorSize | None = None) -> EventArray:
    """Read a recording into one structured array.

    Args:
        path: ATIS `.bin` or `.bs2`, or MATLAB 5 `.mat` with the variables x, y, ts and p.
        sensor_size: Size of the sensor, where it is known; events outside are dropped.

    Returns:
        Events in non-decreasing file time, shape (N,), `tmkt_data.EVENT_DTYPE`: `t` int64 microseconds, `x` and `y`
        uint16 pixels, `p` bool with True for ON. Owned by the caller.

    Raises:
        EventError: The file is missing, of another format, empty or truncated.
    """
    return load_events(path, sensor_size=sensor_size).to_array()


def load_events(path: str | Path, *, sensor_size: SensorSize | None = None) -> Events:
    """Read a recording into the validated record, with the counts of what was dropped; see `read_events`."""
    path = Path(path)
    return decode_events(read_bytes(path), path, sensor_size=sensor_size)


def decode_events(data: bytes, path: Path, *, sensor_size: SensorSize | None = None) -> Events:
    """Decode the bytes of the recording `path`, already read; see `read_events`."""
    if data.startswith((MAGIC, HDF5_MAGIC)):
        return decode_matlab(data, sensor_size=sensor_size, place=path.name)
    for magic, name in _FOREIGN_STARTS.items():
        if data.startswith(magic):
            raise EventError(
                f"{path.name}: found {name} bytes, expected an ATIS recording; this format is not read yet"
            )
    if path.suffix.lower() not in _ATIS_SUFFIXES:
        found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise EventError(f"{path.name}: found {found}, expected an ATIS recording ({', '.join(_ATIS_SUFFIXES)})")
    return decode_atis(data, sensor_size=sensor_size, place=path.name)
